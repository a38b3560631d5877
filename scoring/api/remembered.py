"""Values of the database that requests need and that change rarely, kept in the memory of a web process."""

import logging
import threading
import time
from typing import Generic, TypeVar, cast

from django.conf import settings
from django.db import Error, connection

from scoring.exceptions import DatabaseUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Remembered(Generic[T]):
    """A value that is read from the database, and kept for `keep_s` seconds.

    After half of that time a thread reads it again while requests go on with the kept value. A request waits for the
    database only if the value has expired. A subclass says what is read, and for how long it is kept.
    """

    def __init__(self) -> None:
        self._value: T | None = None
        self._read_at = -float("inf")
        self._reading = threading.Lock()
        self._is_refreshing = False

    @property
    def keep_s(self) -> float:
        raise NotImplementedError

    def read(self) -> T:
        raise NotImplementedError

    def kept(self) -> T | None:
        """The value, without waiting; None if it has expired."""
        age_s, value = time.monotonic() - self._read_at, self._value
        if age_s > self.keep_s:
            return None
        if age_s > self.keep_s / 2 and not self._is_refreshing:
            self._is_refreshing = True
            threading.Thread(target=self._refresh, name=f"read-{type(self).__name__}", daemon=True).start()
        return value

    def read_since(self, moment: float) -> T:
        """The value as it was at `moment`, of `time.monotonic`, or later.

        Raises:
            DatabaseUnavailable: the database failed, or the thread that reads it had no answer in time.
        """
        # One thread reads for all of them: a database that hangs must not block every thread.
        if not self._reading.acquire(timeout=settings.PREDICT_DEADLINE_MS / 1000):
            raise DatabaseUnavailable
        try:
            if self._read_at < moment:
                self._read()
        except Error as error:
            raise DatabaseUnavailable from error
        finally:
            self._reading.release()
        return cast(T, self._value)  # which `_read` has just set, or did so earlier

    def _refresh(self) -> None:
        try:
            with self._reading:
                self._read()
        except Error as error:
            logger.warning("%s could not be read: %s", type(self).__name__, error)
        finally:
            connection.close()
            self._is_refreshing = False

    def _read(self) -> None:
        began = time.monotonic()
        self._value = self.read()
        self._read_at = began
