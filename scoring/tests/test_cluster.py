"""Long commands on a cluster of Dask, whose workers are processes of their own."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from fraudsite.testing import free_port, worker_environment
from scoring.models import History
from scoring.tests.test_velocity import api, handbook, histories, pay  # noqa: F401  # two are fixtures
from scoring.worker import arrivals

distributed = pytest.importorskip("distributed", reason="an optional extra")

REBUILD = ("rebuild_histories", "--schema", "handbook")


def test_a_cluster_rebuilds_the_same_histories_as_one_process(api, monkeypatch):  # noqa: F811
    for customer, terminal in [("ada", "shop"), ("bob", "shop"), ("ada", "fuel"), ("eve", "fuel"), ("joe", "kiosk")]:
        pay(api, customer, terminal, hours_ago=30)
    known = histories()
    call_command(*REBUILD)
    assert histories() == known
    History.objects.filter(entity="customer").delete()
    monkeypatch.setattr(arrivals, "ROWS_AT_A_TIME", 2)
    said = StringIO()
    local = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**local, env=worker_environment()) as cluster:
        call_command(*REBUILD, "--dask-scheduler", cluster.scheduler_address, stdout=said)
    assert histories() == known
    assert "customer: 100%" in said.getvalue()
    assert said.getvalue().count("customer: ") > 1  # in several parts


def test_a_scheduler_that_is_not_there_is_named(handbook):  # noqa: F811
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(CommandError, match=f"no Dask scheduler at {address}"):
        call_command(*REBUILD, "--dask-scheduler", address)
