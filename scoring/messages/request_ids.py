"""The ids of the requests that the running code works for, for log lines of web processes and workers.

Each request has a context of its own, on the event loop and in threads; a task's context begins and ends with the task.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ids: ContextVar[tuple[str, ...]] = ContextVar("request_ids", default=())


def name_of(request_id: str, trace_id: str = "") -> str:
    """What names a request in the logs: its id, and that of its trace if the caller told one."""
    return f"{request_id} {trace_id}" if trace_id else request_id


def current() -> tuple[str, ...]:
    return _ids.get()


def begin(ids: Iterable[str]) -> None:
    """Work for these requests until the end of this context."""
    _ids.set(_distinct(ids))


@contextmanager
def working_for(ids: Iterable[str]) -> Iterator[None]:
    """Work for these requests inside the block. If no id is given, the previous ones stay."""
    token = _ids.set(_distinct(ids) or _ids.get())
    try:
        yield
    finally:
        _ids.reset(token)


def _distinct(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, ids)))


class RequestIds(logging.Filter):
    """Adds `request_ids` to each log record: the ids separated by spaces, or a dash."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_ids = " ".join(current()) or "-"
        return True
