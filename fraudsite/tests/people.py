"""A pytest plugin with the people who use the admin in tests.

Alice is a fraud analyst, Sam a senior analyst, Sue a supervisor, Rita a risk manager, Mel an ML engineer, Otto an
operator, Audrey an auditor, Ada an administrator.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def _person(name: str, role: str) -> "User":
    from django.contrib.auth.models import Group, User

    user = User.objects.create_user(name, password=f"{name}-password", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture
def alice(db: None) -> "User":
    return _person("alice", "Fraud analyst")


@pytest.fixture
def mel(db: None) -> "User":
    return _person("mel", "ML engineer")


@pytest.fixture
def rita(db: None) -> "User":
    return _person("rita", "Risk manager")


@pytest.fixture
def sam(db: None) -> "User":
    return _person("sam", "Senior analyst")


@pytest.fixture
def sue(db: None) -> "User":
    return _person("sue", "Supervisor")


@pytest.fixture
def otto(db: None) -> "User":
    return _person("otto", "Operator")


@pytest.fixture
def audrey(db: None) -> "User":
    return _person("audrey", "Auditor")


@pytest.fixture
def ada(db: None) -> "User":
    return _person("ada", "Administrator")
