"""Has PostgreSQL prepare a worker's statements, so that it parses and plans them once, not for every batch.

A plan that was made while a table was small would go on when it has grown, and read all of it. So each statement is
prepared anew every few seconds. Only statements that are executed with `prepare=True` are prepared: Django's own are
not.
"""

import time
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

PLANNED_FOR_S = 10.0
# A statement is another one for other types of values: arrays of nothing but null have none.
PREPARED_MAX = 32


def install() -> None:
    """Prepare statements on the connections that this process opens from now on. A pooler may give each transaction
    another connection, which does not have them."""
    if not settings.DATABASE_BEHIND_POOLER:
        connection_created.connect(_enable)


def _enable(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "postgresql":
        connection.connection.prepare_threshold = 1
        connection.connection.prepared_max = PREPARED_MAX
        with connection.cursor() as cursor:
            # Otherwise PostgreSQL may find that it is worth planning for the values of each batch.
            cursor.execute("SET plan_cache_mode = force_generic_plan")


def of_now(statement: str) -> str:
    """The statement with a comment that changes every `PLANNED_FOR_S`, so that it is prepared anew."""
    return f"{statement}-- {time.monotonic() // PLANNED_FOR_S:.0f}"
