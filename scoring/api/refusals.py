"""Counts refused calls by minute and kind.

A web process counts in memory, which costs a call next to nothing, and adds its counts to the database every few
seconds. While the database is away, the counts wait. A process that is killed loses the counts of its last seconds.
"""

import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime

from django.conf import settings
from django.db import Error, connection, transaction

from scoring.models import RefusalCount

logger = logging.getLogger(__name__)

ADD = (
    f"INSERT INTO {RefusalCount._meta.db_table} (minute, status, kind, count) VALUES (%s, %s, %s, %s) "  # noqa: S608
    f"ON CONFLICT (minute, status, kind) DO UPDATE SET count = {RefusalCount._meta.db_table}.count + excluded.count"
)

_counts: Counter[tuple[int, int, str]] = Counter()
_lock = threading.Lock()
_writer: threading.Thread | None = None


def count(status: int, kind: str, calls: int = 1) -> None:
    """Count refusals in the current minute. `kind` is the title of their problem document."""
    global _writer
    with _lock:
        _counts[int(time.time() // 60), status, kind] += calls
        if _writer is None:
            _writer = threading.Thread(target=_write_on, name="refusals", daemon=True)
            _writer.start()


def flush() -> None:
    """Add the counts to the database; if that fails, keep them for the next flush."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    # Every process writes in the same order; otherwise two of them could deadlock.
    rows = [
        (datetime.fromtimestamp(60 * minute, UTC), status, kind, number)
        for (minute, status, kind), number in sorted(taken.items())
    ]
    if not rows:
        return
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            field = RefusalCount._meta.get_field("minute")
            cursor.executemany(ADD, [(field.get_db_prep_save(row[0], connection), *row[1:]) for row in rows])
    except Error as error:
        logger.warning("Refusals were not stored; they are kept for the next try: %s", error)
        with _lock:
            _counts.update(taken)


def _write_on() -> None:
    while True:
        time.sleep(settings.REFUSALS_INTERVAL_S)
        flush()
        connection.close()
