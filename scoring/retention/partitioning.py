"""Partitions the tables of an installation that is at work: the tables that are there become the first partitions.

What takes long (ids of clients, an index, two checks) happens while others read and write. The exchange itself needs
the tables for some milliseconds.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from scoring.retention import partitions
from scoring.retention.partitions import KEYS, LOWEST, TABLES, TRIGGERS, TRIGGERS_OF_TABLE, patiently, rows, run
from training.core.exceptions import FraudsiteError

STEP = 20_000
ONCE, ONCE_FIRST = "one_row_per_client_transaction_id", "transaction_names_first"
CHECK = "before_partitions"
NAMES = "(client_id, transaction_id varchar_pattern_ops) WHERE transaction_id IS NOT NULL"


class PartitioningRefused(FraudsiteError):
    """The tables were not partitioned."""


def partition(now: datetime) -> Iterator[str]:
    """Partition the tables, and tell of each step. It can be repeated after a failure.

    Raises:
        PartitioningRefused: the database is no PostgreSQL, they are partitioned, or keys do not begin with their time.
    """
    if connection.vendor != "postgresql":
        raise PartitioningRefused("Only PostgreSQL has partitions. On SQLite, retention deletes row by row.")
    if partitions.are_made():
        raise PartitioningRefused("The tables are partitioned already.")
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    # Until then the exchange has to be done: the checks refuse later keys.
    end = partitions.lowest_key(midnight + timedelta(days=settings.PARTITION_DAYS))
    run(f"CREATE TABLE IF NOT EXISTS {KEYS} (client_id bigint, transaction_id varchar(64))")
    run(f"CREATE UNIQUE INDEX IF NOT EXISTS {KEYS}_once ON {KEYS} (client_id, transaction_id)")
    run(TRIGGERS)
    patiently(_trigger)
    for number in _copy_names():
        yield f"{number:,} ids of clients are copied."
    at_work = "" if connection.in_atomic_block else "CONCURRENTLY"
    run(f"DROP INDEX IF EXISTS {ONCE_FIRST}")
    run(f"CREATE INDEX {at_work} {ONCE_FIRST} ON scoring_transaction {NAMES}")
    yield "The index of clients' ids is made."
    try:
        for table, key in TABLES.items():
            patiently(partial(_check, table, key, end))
            with transaction.atomic():
                run(f"ALTER TABLE {table} VALIDATE CONSTRAINT {CHECK}")
            yield f"All keys of {table} are before the end of the first partition."
        patiently(partial(_exchange, end))
    except IntegrityError as error:
        raise PartitioningRefused(
            "There are keys that are not drawn by Fraudsite, which do not begin with their time: with such rows there "
            "are no ranges of time."
        ) from error
    finally:
        # Left behind, they would refuse rows one day.
        for table in TABLES:
            if not partitions.are_made():
                patiently(partial(run, f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {CHECK}"))
    yield "The tables are partitioned."
    for name in partitions.make_ahead(now):
        yield f"{name} is made."
    run("ANALYZE scoring_transaction, scoring_prediction")


def _trigger() -> None:
    run("DROP TRIGGER IF EXISTS scoring_once ON scoring_transaction")
    run("DROP TRIGGER IF EXISTS scoring_forget ON scoring_transaction")
    run(TRIGGERS_OF_TABLE)


def _copy_names() -> Iterator[int]:
    last, copied = LOWEST, 0
    while True:
        after = f"FROM scoring_transaction WHERE id > '{last}' ORDER BY id LIMIT {STEP}"
        page = f"SELECT id, client_id, transaction_id {after}"
        [(number, latest)] = rows(
            f"WITH page AS ({page}), copied AS (INSERT INTO {KEYS} SELECT client_id, transaction_id FROM page"
            " WHERE transaction_id IS NOT NULL ON CONFLICT DO NOTHING) SELECT count(*), max(id::text) FROM page"
        )
        if not number:
            return
        last, copied = UUID(latest), copied + number
        yield copied


def _check(table: str, key: str, end: UUID) -> None:
    run(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {CHECK}")
    run(f"ALTER TABLE {table} ADD CONSTRAINT {CHECK} CHECK ({key} < '{end}') NOT VALID")


def _exchange(end: UUID) -> None:
    """Put a partitioned table in the place of each, with the table that was there as its first partition."""
    run(f"LOCK TABLE {', '.join(reversed(TABLES))} IN ACCESS EXCLUSIVE MODE")
    run("DROP TRIGGER scoring_once ON scoring_transaction; DROP TRIGGER scoring_forget ON scoring_transaction")
    run(f"DROP INDEX {ONCE}")
    run(f"ALTER INDEX {ONCE_FIRST} RENAME TO {ONCE}")
    for table, key in TABLES.items():
        # A partition could not be dropped without a look for rows that refer to it.
        for referring, name in rows(
            f"SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE confrelid = '{table}'::regclass"
        ):
            run(f'ALTER TABLE {referring} DROP CONSTRAINT "{name}"')
        first = f"{table}_first"
        grants = rows(
            "SELECT grantee, privilege_type FROM information_schema.role_table_grants "
            f"WHERE table_name = '{table}' AND table_schema = current_schema AND grantee <> grantor"
        )
        indexes = rows(
            "SELECT c.relname, i.indisprimary, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c "
            f"ON c.oid = i.indexrelid WHERE i.indrelid = '{table}'::regclass"
        )
        run(f"ALTER TABLE {table} RENAME TO {first}")
        run(f"CREATE TABLE {table} (LIKE {first} INCLUDING DEFAULTS INCLUDING STORAGE) PARTITION BY RANGE ({key})")
        for name, is_primary, definition in indexes:
            run(f'ALTER INDEX "{name}" RENAME TO "{name[:57]}_first"')
            run(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" PRIMARY KEY ({key})' if is_primary else definition)
        run(f"ALTER TABLE {table} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ('{end}')")
        run(f"ALTER TABLE {first} DROP CONSTRAINT {CHECK}")
        run(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
        for role, privilege in grants:
            run(f'GRANT {privilege} ON {table} TO "{role}"')
    run(TRIGGERS_OF_TABLE)
