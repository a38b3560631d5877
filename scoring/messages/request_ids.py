"""Which requests the code at hand works for, so that every log line of theirs says so, in the web and in the workers.

A request's context is its own in the web, on the event loop and in threads alike; a task's begins and ends with it.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ids: ContextVar[tuple[str, ...]] = ContextVar("request_ids", default=())


def current() -> tuple[str, ...]:
    return _ids.get()


def begin(ids: Iterable[str]) -> None:
    """From here to the end of this context, work for these requests and no others."""
    _ids.set(_distinct(ids))


@contextmanager
def working_for(ids: Iterable[str]) -> Iterator[None]:
    """Work for these requests inside the block; where none is known, for those from before."""
    token = _ids.set(_distinct(ids) or _ids.get())
    try:
        yield
    finally:
        _ids.reset(token)


def _distinct(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, ids)))


class RequestIds(logging.Filter):
    """Gives each log record its `request_ids`, with spaces between them; a dash where there is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_ids = " ".join(current()) or "-"
        return True
