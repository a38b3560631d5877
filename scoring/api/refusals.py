"""Counts refused calls by minute and kind.

A web process counts in memory, which costs a call next to nothing, and adds its counts to the database every few
seconds. While the database is away, the counts wait. A process that is killed loses the counts of its last seconds.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import Error, connection, transaction

from scoring.models import RefusalCount, RefusalOfClientCount
from training import clock

logger = logging.getLogger(__name__)

ADD = (
    f"INSERT INTO {RefusalCount._meta.db_table} (minute, status, kind, count) VALUES (%s, %s, %s, %s) "  # noqa: S608
    f"ON CONFLICT (minute, status, kind) DO UPDATE SET count = {RefusalCount._meta.db_table}.count + excluded.count"
)

OF_CLIENTS = RefusalOfClientCount._meta.db_table
ADD_OF_CLIENT = (
    f"INSERT INTO {OF_CLIENTS} (minute, client, status, kind, count) VALUES (%s, %s, %s, %s, %s) "  # noqa: S608
    f"ON CONFLICT (minute, client, status, kind) DO UPDATE SET count = {OF_CLIENTS}.count + excluded.count"
)
NOBODY = 0

# By minute, key of the client, status and kind.
_counts: Counter[tuple[int, int, int, str]] = Counter()
_lock = threading.Lock()
_writer: threading.Thread | None = None


def count(status: int, kind: str, *, client: int | None) -> None:
    """Count a refusal in the current minute. `kind` is the title of its problem document, `client` the key of the
    client, None if the call came without a key that is known."""
    global _writer
    with _lock:
        _counts[int(clock.seconds() // 60), client or NOBODY, status, kind] += 1
        if _writer is None:
            _writer = threading.Thread(target=_write_on, name="refusals", daemon=True)
            _writer.start()


def flush() -> None:
    """Add the counts to the database; if that fails, keep them for the next flush."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    if not taken:
        return
    of_all: Counter[tuple[int, int, str]] = Counter()
    for (minute, _, status, kind), number in taken.items():
        of_all[minute, status, kind] += number
    of_clients = {key: number for key, number in taken.items() if key[1] != NOBODY}
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(ADD, _rows(of_all))
            if of_clients:
                cursor.executemany(ADD_OF_CLIENT, _rows(of_clients))
    except Error as error:
        logger.warning("Refusals were not stored; they are kept for the next try: %s", error)
        with _lock:
            _counts.update(taken)


def _rows(counts: Mapping[tuple[Any, ...], int]) -> list[tuple[Any, ...]]:
    """The rows of counts, sorted: every process writes in the same order; otherwise two of them could deadlock."""
    field = RefusalCount._meta.get_field("minute")
    return [
        (field.get_db_prep_save(datetime.fromtimestamp(60 * minute, UTC), connection), *others, number)
        for (minute, *others), number in sorted(counts.items())
    ]


def _write_on() -> None:
    while True:
        time.sleep(settings.REFUSALS_INTERVAL_S)
        flush()
        connection.close()
