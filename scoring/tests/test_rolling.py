"""Machines are restarted and upgraded one after the other while calls come in: none is refused and none is lost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings

from fraudsite.tests.buckets import Bucket
from fraudsite.tests.deployment import ROOT, Deployment, deployment, run
from scoring.tests.callers import Balancer, Callers, hold
from scoring.tests.later_release.migrations import NEWEST

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif("sqlite" in settings.DATABASES["default"]["ENGINE"], reason="Several machines need a server."),
]

DRAIN_S = 1.0  # the tests' load balancer notices within 0.4 s
DEADLINE_S = 4.5  # longer than elsewhere: what is refused is to be refused by an upgrade, not by a busy test machine
REPORT_S = DEADLINE_S + 1
LATER = {"DJANGO_SETTINGS_MODULE": "scoring.tests.later_release.settings"}
MIGRATE = [sys.executable, "manage.py", "migrate", "--noinput"]


@pytest.fixture(scope="module")
def system(s3_address):
    """Two web servers and two workers, each with a directory of its own. Their bundles are in a bucket."""
    apart: dict[str, Any] = {"workers": 2, "web_servers": 2, "apart": True} | Bucket(s3_address).environment
    with deployment("postgresql", **apart, WEB_DRAIN_S=DRAIN_S, PREDICT_DEADLINE_MS=int(DEADLINE_S * 1000)) as made:
        yield made


@contextmanager
def reading(system: Deployment) -> Iterator[psycopg.Connection]:
    """A transaction that has read the table of transactions, as that of a long report."""
    with psycopg.connect(system.cluster.url) as report:
        report.execute("SELECT FROM scoring_transaction LIMIT 1")
        yield report


def migrate(system: Deployment) -> None:
    """Migrate while a long report runs, until the migration has waited for it for longer than a call may take."""
    with reading(system) as report, ThreadPoolExecutor(1) as pool:
        migration = pool.submit(run, MIGRATE, system.environment | LATER)
        waiting = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
        while report.execute(waiting).fetchone() == (0,):
            assert not migration.done(), migration.result()
            time.sleep(0.05)
        time.sleep(REPORT_S)
        report.rollback()
        assert "trying again" in migration.result()


def upgrade(system: Deployment) -> None:
    """Migrate while the earlier release works, then restart workers and web servers one by one."""
    migrate(system)
    for worker in ("worker0", "worker1"):
        restart(system, worker)
        system.await_worker(worker)
    for server, url in zip(("web", "web1"), system.urls, strict=True):
        restart(system, server)
        system.await_ready(url)


def restart(system: Deployment, name: str) -> None:
    system.own[name] |= LATER
    system.replace(name)


def test_an_upgrade_with_a_migration_and_a_long_report_refuses_and_loses_no_call(system):
    callers = Callers(system, Balancer(system))
    posted = callers.post_while(lambda: upgrade(system), per_s=40)
    assert {answer.status for answer in callers.first.values()} == {200}
    hold(system, callers, posted)
    with psycopg.connect(system.cluster.url) as connection:
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'transaction_channel'::regclass"
        assert connection.execute(valid).fetchone() == (True,)
        stored = "SELECT count(*) FROM scoring_transaction WHERE channel IS NULL"
        assert connection.execute(stored).fetchone() == (posted,)


def test_a_migration_whose_table_stays_in_use_gives_up_in_a_line_and_the_next_one_goes_through(system):
    back = [*MIGRATE, "scoring", NEWEST]
    environment = system.environment | LATER
    with reading(system):
        impatient = os.environ | environment | {"MIGRATE_PATIENCE_S": "0"}
        done = subprocess.run(back, env=impatient, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "A table was in use for MIGRATE_PATIENCE_S" in done.stderr
    assert "Traceback" not in done.stderr
    run(back, environment)
    with psycopg.connect(system.cluster.url) as connection, pytest.raises(psycopg.errors.UndefinedColumn):
        connection.execute("SELECT channel FROM scoring_transaction")
