"""Partitions of transactions and predictions by time, on PostgreSQL, for `manage.py partition_tables`.

Both have keys that begin with the time at which they were drawn (UUIDv7), so that ranges of keys are ranges of time. No
other key is needed, a join by key meets one partition of each, and the statements that write and read stay the same.

A unique index of a partitioned table must have its key. That a client has one transaction of each id is therefore kept
by a table of these ids, `KEYS`, which a trigger writes: a row whose id is known is passed over, as by ON CONFLICT DO
NOTHING. Another trigger deletes ids with their transactions.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, transaction

logger = logging.getLogger(__name__)

# The partitioned tables with their keys.
TABLES = {"scoring_prediction": "transaction_id", "scoring_transaction": "id"}
KEYS = "scoring_transactionkey"
# So many partitions are made ahead.
AHEAD = 2
# For how long a statement waits for a lock that stops all others, and how often it is tried.
LOCK_TIMEOUT_MS, LOCK_ATTEMPTS, LOCK_PAUSE_S = 300, 50, 1.0
BOUNDS = re.compile(r"FOR VALUES FROM \((?:'([^']+)'|MINVALUE)\) TO \('([^']+)'\)")
LOWEST = UUID(int=0)

TRIGGERS = f"""
CREATE OR REPLACE FUNCTION scoring_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$ BEGIN
    INSERT INTO {KEYS} VALUES (NEW.client_id, NEW.transaction_id) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RETURN NULL; END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION scoring_forget() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$ BEGIN
    DELETE FROM {KEYS} USING gone
    WHERE {KEYS}.client_id = gone.client_id AND {KEYS}.transaction_id = gone.transaction_id;
    RETURN NULL;
END $$;
"""
TRIGGERS_OF_TABLE = """
CREATE TRIGGER scoring_once BEFORE INSERT ON scoring_transaction
    FOR EACH ROW WHEN (NEW.transaction_id IS NOT NULL) EXECUTE FUNCTION scoring_once();
CREATE TRIGGER scoring_forget AFTER DELETE ON scoring_transaction REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION scoring_forget();
"""


class Partition(NamedTuple):
    """A part of a table: the keys from the lowest of `since` on, below the lowest of `until`. The first begins with the
    lowest of all keys."""

    name: str
    table: str
    lowest: UUID
    end: UUID

    @property
    def until(self) -> datetime:
        return time_of(self.end)


def lowest_key(moment: datetime) -> UUID:
    """The lowest key that can be drawn at a time, a millisecond: without the bits of version and variant, so that it is
    below all of them."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def time_of(key: UUID) -> datetime:
    return datetime.fromtimestamp((key.int >> 80) / 1000, UTC)


def are_made() -> bool:
    """Whether the tables are partitioned."""
    if connection.vendor != "postgresql":
        return False
    return bool(rows("SELECT 1 FROM pg_class WHERE oid = 'scoring_transaction'::regclass AND relkind = 'p'"))


def forget(names: Sequence[tuple[int, str]]) -> None:
    """Let clients use ids of transactions again that lose them, each a client and an id. Only deleting a transaction
    does so by itself."""
    if names and are_made():
        clients, ids = zip(*names, strict=True)
        with connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {KEYS} USING unnest(%s::bigint[], %s::text[]) AS gone(client, name) "
                f"WHERE {KEYS}.client_id = gone.client AND {KEYS}.transaction_id = gone.name",
                [list(clients), list(ids)],
            )


def are_ours() -> bool:
    """Whether they are partitioned, and this process is the owner's, who alone can make and drop partitions."""
    owned = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'scoring_transaction'::regclass"
    return are_made() and rows(owned) == [(True,)]


def of(table: str) -> list[Partition]:
    """The partitions of a table but for the default one, by time."""
    found = rows(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        f"WHERE i.inhparent = '{table}'::regclass"
    )
    bounds = [(name, BOUNDS.match(bound)) for name, bound in found]
    parts = [Partition(name, table, UUID(at[1]) if at[1] else LOWEST, UUID(at[2])) for name, at in bounds if at]
    return sorted(parts, key=lambda part: part.end)


def make_ahead(now: datetime) -> list[str]:
    """Make the partitions that are missing, until some are there ahead of the time. Returns their names.

    Rows that came meanwhile went to the default partition; they are moved, so nothing is lost.
    """
    made = []
    for table in TABLES:
        last = of(table)[-1].until
        if last <= now:
            logger.error("%s had no partition for %s: its rows are in the default partition.", table, now)
        while last < now + AHEAD * timedelta(days=settings.PARTITION_DAYS):
            until = last + timedelta(days=settings.PARTITION_DAYS)
            made.append(_make(table, last, until))
            last = until
    return made


def _make(table: str, since: datetime, until: datetime) -> str:
    name, key = f"{table}_{since:%Y%m%d}", TABLES[table]
    lowest, end = lowest_key(since), lowest_key(until)

    def make() -> None:
        run(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        # Rows that come while others are moved would refuse the partition, each time anew. So writers wait, before they
        # look for the partition: one that waited for the default partition would be refused.
        run(f"LOCK TABLE ONLY {table} IN SHARE ROW EXCLUSIVE MODE")
        early = f"DELETE FROM {table}_default WHERE {key} >= '{lowest}' AND {key} < '{end}' RETURNING *"
        run(f"WITH early AS ({early}) INSERT INTO {name} SELECT * FROM early")
        run(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{lowest}') TO ('{end}')")

    patiently(make)
    return name


def drop(parts: Iterable[Partition]) -> None:
    """Drop partitions with all their rows: all or none.

    Raises:
        django.db.OperationalError: a table was in use all the time.
    """
    names = ", ".join(part.name for part in parts)
    patiently(lambda: run(f"DROP TABLE {names}"))


def patiently(work: Callable[[], None]) -> None:
    """Do something in a database transaction that needs a table for itself. It waits for a moment only, as whoever
    comes later has to wait behind it, and tries again.

    Raises:
        django.db.OperationalError: the table was in use all the time.
    """
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            with transaction.atomic():
                run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                work()
                run("SET LOCAL lock_timeout = 0")
            return
        except OperationalError:
            if attempt == LOCK_ATTEMPTS:
                raise
            time.sleep(LOCK_PAUSE_S)


def place_in(part: Partition) -> UUID:
    """The key up to which earlier runs have gone through a partition that is about to be dropped."""
    [(kept,)] = rows(f"SELECT obj_description('{part.name}'::regclass, 'pg_class')")
    try:
        return UUID(kept or "")
    except ValueError:
        return LOWEST


def keep_place(part: Partition, key: UUID) -> None:
    """Have the next run go on after a key. It is a comment of the table, so that it goes with it."""
    run(f"COMMENT ON TABLE {part.name} IS '{key}'")


def forget_keys(part: Partition) -> Iterator[int]:
    """Delete the clients' ids of a partition's transactions, in steps, from where the last run ended: an id that was
    forgotten may be that of a later transaction now."""
    last = place_in(part)
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"WITH page AS (SELECT id, client_id, transaction_id FROM {part.name}"
                " WHERE id > %s ORDER BY id LIMIT %s)"
                f", gone AS (DELETE FROM {KEYS} USING page WHERE {KEYS}.client_id = page.client_id"
                f" AND {KEYS}.transaction_id = page.transaction_id)"
                " SELECT count(*), max(id::text) FROM page",
                [last, settings.RETENTION_STEP_ROWS],
            )
            [(number, latest)] = cursor.fetchall()
            if not number:
                return
            last = UUID(latest)
            keep_place(part, last)
        yield number


def rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
