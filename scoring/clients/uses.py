"""When keys were last used.

A web process notes it in memory, which costs a call next to nothing; a thread writes it to the database, of each key at
most once a minute. A process that is killed loses the notes of its last minute.
"""

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import Error, connection
from django.db.models import Q

from scoring.models import ApiKey

logger = logging.getLogger(__name__)

APART_S = 60.0

# By the digest of the key, in seconds since the epoch.
_noted: dict[str, float] = {}
_written: dict[str, float] = {}
_starting = threading.Lock()
_writer: threading.Thread | None = None


def note(key: ApiKey) -> None:
    """Note that a key is used now."""
    _noted[key.digest] = time.time()
    if _writer is None:
        _start()


def flush() -> None:
    """Write what was noted of keys that were not written in the last minute; if that fails, the next flush does."""
    due = [(key, at) for key, at in dict(_noted).items() if at - _written.get(key, -APART_S) >= APART_S]
    for key, at in sorted(due):
        used_at = datetime.fromtimestamp(at, UTC)
        # Another process may have written it meanwhile.
        earlier = Q(last_used_at=None) | Q(last_used_at__lte=used_at - timedelta(seconds=APART_S))
        try:
            ApiKey.objects.filter(earlier, digest=key).update(last_used_at=used_at)
        except Error as error:
            logger.warning("The last uses of keys were not stored: %s", error)
            return
        _written[key] = at


def _start() -> None:
    global _writer
    with _starting:
        if _writer is None:
            _writer = threading.Thread(target=_write_on, name="key-uses", daemon=True)
            _writer.start()


def _write_on() -> None:
    while True:
        time.sleep(settings.KEY_USES_INTERVAL_S)
        flush()
        connection.close()
