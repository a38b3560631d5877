"""A pytest plugin: which tests run on which database, and what is left in it after a test."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# The fixtures of tests that run on SQLite alone.
ONCE = {"browser", "provider", "width"}
# After a test that commits, everything else is deleted.
ROWS_OF_MIGRATIONS = {"django_content_type", "auth_permission", "auth_group", "auth_group_permissions"}
# Nobody can delete these.
APPEND_ONLY = {"audit_entry", "audit_link"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only the tests that run alone are wanted, leave out files without any: importing all takes long."""
    if config.getoption("markexpr") == "alone" and collection_path.match("test_*.py"):
        return ("mark.alone" not in collection_path.read_text()) or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL skip the tests that cannot differ from SQLite: those without a database, those of pages in a
    browser, whose queries others make, and of what other systems answer. Tests of faults make their own database of
    the tested kind."""
    from django.conf import settings

    if "postgresql" in settings.DATABASES["default"]["ENGINE"]:
        once = [
            item
            for item in items
            if not (_touches_database(item) or item.get_closest_marker("alone")) or ONCE & _fixtures(item)
        ]
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if item not in set(once)]


@pytest.fixture(scope="session", autouse=True)
def _rows_of_migrations_stay() -> Iterator[None]:
    """After a test that commits, delete its rows alone. Django's own way, `flush`, makes content types and permissions
    anew under other ids, which no web server that serves several tests would know of."""
    from django.test import TransactionTestCase

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: _delete_rows())
        yield


def _delete_rows() -> None:
    from django.db import connection, transaction

    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with transaction.atomic(), connection.cursor() as cursor:
        for table in set(tables) - ROWS_OF_MIGRATIONS - APPEND_ONLY:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")  # noqa: S608


def _touches_database(item: pytest.Item) -> bool:
    return bool({"db", "transactional_db"} & _fixtures(item) or item.get_closest_marker("django_db"))


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def sqlite_can_be_written() -> bool:
    """Is the database PostgreSQL, or does nobody hold SQLite's lock?"""
    from django.db import connection

    if connection.vendor != "sqlite":
        return True
    time.sleep(0.01)  # until the signal has reached every thread
    other = sqlite3.connect(str(connection.settings_dict["NAME"]), timeout=0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        other.close()
    return True
