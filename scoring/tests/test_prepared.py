"""PostgreSQL keeps the plans of a worker's statements, but no plan for long."""

import time

import pytest
from django.db import connection

from scoring.worker import histories, prepared


@pytest.fixture
def prepares(transactional_db):
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL prepares statements")
    connection.ensure_connection()
    prepared._enable(connection)
    yield
    connection.close()


def names():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        return cursor.fetchone()[0]


def test_a_statement_is_planned_once_for_some_seconds_and_then_anew(prepares, monkeypatch):
    now = time.monotonic()
    for later_s, kept in ((0, 1), (0, 1), (prepared.PLANNED_FOR_S, 2)):
        monkeypatch.setattr(prepared.time, "monotonic", lambda later_s=later_s: now + later_s)
        assert histories._execute(("SELECT token FROM scoring_history WHERE token = ANY(%b) ", [["a"]])) == [[]]
        assert names() == kept
