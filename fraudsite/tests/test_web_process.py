"""The memory of a running web process: only workers load models, whichever page is opened."""

import os
import re
import sys
from pathlib import Path

import httpx
import pytest
from django.contrib import admin
from django.urls import reverse

from fraudsite.testing import seed_payload, web_server, worker_environment
from scoring.clients import keys
from training.models import TrainingRun
from training.tests.support import tiny_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process has mapped")

# Directories under which the shared libraries of what trains and scores lie.
LIBRARIES = ("tensorflow", "keras", "xgboost", "lightgbm", "numba", "llvmlite", "scipy", "sklearn")
MEMORY_LIMIT_MB = 300  # TensorFlow alone adds more than 300 to the 150 of the rest


def web_processes(site):
    """The web server at this address, and its children."""
    address = site.removeprefix("http://").encode()
    parents, servers = {}, set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            pid, text = int(status.parent.name), status.read_text()
            parents[pid] = int(re.search(r"PPid:\s+(\d+)", text)[1])
            if b"granian" in (command := status.with_name("cmdline").read_bytes()) and address in command:
                servers.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {pid for pid in servers if parents[pid] == os.getpid()}
    while children := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= children
    return found


def mapped(pid):
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {library for library in LIBRARIES if f"site-packages/{library}/" in maps}


def resident_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.fixture
def site(worker):
    """A web server of this test's own: that of all tests may have labelled, which imports the replay of histories."""
    with web_server(worker_environment()) as url:
        yield url


@pytest.fixture
def person(site, django_user_model):
    """Somebody who may do everything, at the site."""
    django_user_model.objects.create_superuser("root", password="root-password")
    with httpx.Client(base_url=site, follow_redirects=True, timeout=60) as http:
        http.get(reverse("admin:login"))
        post(http, reverse("admin:login"), username="root", password="root-password", next=reverse("admin:index"))
        yield http


def post(http, path, **form):
    headers = {"X-CSRFToken": http.cookies["csrftoken"], "Referer": str(http.base_url)}
    response = http.post(path, data=form, headers=headers)
    assert response.status_code == 200, response.text
    return response


def test_no_page_brings_a_library_of_models_into_the_web_process(site, person, worker, bundle, acme, settings):
    from training import registry

    challenger = registry.register(
        tiny_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, **{"model.seed": 2}), promote=False
    )
    _, key = keys.create(client=acme)
    scored = httpx.post(f"{site}/predict", json=seed_payload(), headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert scored.status_code == 200

    # Each architecture of the form, one after the other: only one run of a schema may wait.
    for architecture in ("mlp", "bag", "xgboost", "nonsense"):
        changes = f'[model]\narchitecture = "{architecture}"\n'
        post(
            person,
            reverse("admin:training_trainingrun_add"),
            schema="ulb", protocol="", seed="", changes=changes, promote="never",
        )  # fmt: skip
        TrainingRun.objects.update(state=TrainingRun.State.CANCELLED)
    assert TrainingRun.objects.count() == 3

    page = reverse("admin:training_modelversion_change", args=[challenger.pk])
    for path in (page, reverse("admin:training_modelversion_card", args=[challenger.pk])):
        assert person.get(path).status_code == 200
    assert person.get(reverse("admin:training_modelversion_plot", args=[challenger.pk, "roc"])).status_code == 200
    post(person, page, review_threshold="0.4", block_threshold="0.9", _continue="1")
    post(person, page, stage_action="shadow")
    post(person, page, stage_action="promote", force="on", reason="A test.")
    assert registry.champion("ulb") == challenger
    post(person, page, stage_action="roll_back")

    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        assert person.get(reverse(name)).status_code == 200, name
    others = [reverse(name) for name in ("dashboard", "docs", "schema", "metrics")]
    for path in ("/", "/readyz", reverse("at_work", args=[challenger.pk]), *others):
        assert person.get(path).status_code == 200, path

    processes = web_processes(site)
    assert len(processes) >= 2
    assert {library for pid in processes for library in mapped(pid)} == set()
    assert mapped(worker.pid) >= {"tensorflow"}  # the test would see it
    assert max(map(resident_mb, processes)) < MEMORY_LIMIT_MB
