"""A backup, as docs/operators.md has it, is enough to have everything back on an empty machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from fraudsite.testing import worker_environment
from fraudsite.tests import postgresql
from scoring.models import History
from scoring.tests.test_velocity import api, handbook, pay  # noqa: F401  # fixtures

CUSTOMERS = 3
SECRETS = ("secret_key", "bundle_signing_key", "entity_hash_key")


def manage(environment, *arguments):
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def restored(tmp_path):
    """The environment of an installation that has nothing but a backup of the tests' one."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite is one file: its backup is a copy.")
    programs = postgresql.programs()
    environment = worker_environment()
    url = environment["DATABASE_URL"]
    name = f"restored_{os.getpid()}"
    new = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    dump = tmp_path / "backup.dump"

    def restore():
        subprocess.run([programs / "pg_dump", "--format", "custom", "--file", dump, url], check=True)
        storage = shutil.copytree(Path(settings.STORAGE_URL), tmp_path / "storage")
        with psycopg.connect(url, autocommit=True) as old:
            old.execute(f"CREATE DATABASE {name}")
        subprocess.run([programs / "pg_restore", "--no-owner", "--exit-on-error", "--dbname", new, dump], check=True)
        (tmp_path / "var").mkdir()
        for secret in SECRETS:
            shutil.copy(settings.VAR_DIR / secret, tmp_path / "var")
        there = {"DATABASE_URL": new, "VAR_DIR": str(tmp_path / "var"), "STORAGE_URL": str(storage)}
        return environment | there

    yield restore
    with psycopg.connect(url, autocommit=True) as old:
        old.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_after_a_restore_no_answer_is_missing_and_histories_and_bundles_agree(api, restored):  # noqa: F811
    answered = {str(pay(api, customer=f"customer {n % CUSTOMERS}").pk) for n in range(12)}
    histories = History.objects.count()
    environment = restored()
    with psycopg.connect(environment["DATABASE_URL"]) as there:
        stored = {str(row[0]) for row in there.execute("SELECT transaction_id FROM scoring_prediction")}
        assert stored >= answered
        assert there.execute("SELECT count(*) FROM scoring_history").fetchone() == (histories,)
    parity = manage(environment, "check_parity", "--schema", "handbook", "--sample", "0")
    assert "No feature of handbook differs." in parity.stdout, parity.stdout + parity.stderr
    findings = json.loads(manage(environment, "doctor", "--json").stdout)
    told = {(finding["check"], finding["level"]) for finding in findings}
    assert {("model", "ok"), ("histories", "ok"), ("migrations", "ok")} <= told, findings
    assert not {("model", "error"), ("histories", "error"), ("migrations", "error")} & told, findings
