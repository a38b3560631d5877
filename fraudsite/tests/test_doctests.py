"""The examples in docstrings are true."""

import doctest
import importlib

import pytest

from fraudsite.tests.test_architecture import APPS, TENSORFLOW, imports, modules, packages

# What needs TensorFlow is left to the tests that load it anyway: they run in other processes where they can.
WITH_EXAMPLES = [
    name
    for app in (*APPS, "fraudsite")
    for name, path in sorted(modules(app).items())
    if ">>> " in path.read_text() and not packages(imports(path)) & TENSORFLOW
]


def test_there_are_examples_in_every_app():
    assert packages(WITH_EXAMPLES) >= set(APPS)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_an_example_says_what_happens(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 0
    assert not failed
