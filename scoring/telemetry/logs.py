"""The lines of the log, as text or as JSON, and what they say of the work that they are about.

Both leave out card numbers, and the details in which PostgreSQL repeats the values of a row.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

from scoring.messages import request_ids
from scoring.telemetry.release import release
from training.core.card_numbers import holds_card_number

LEFT_OUT = "A message that holds a card number was left out."
# "DETAIL:  Key (card)=(…) already exists.", up to the next of the server's fields or the traceback's next part.
_DETAIL = re.compile(r"^DETAIL: .*?(?=^(?:HINT|CONTEXT|QUERY|The above|During handling|Traceback)|\Z)", re.M | re.S)

_transaction: ContextVar[str | None] = ContextVar("transaction", default=None)
_batch: ContextVar[str | None] = ContextVar("batch", default=None)


def begin(*, transaction: str | None = None, batch: str | None = None) -> None:
    """What the running code works for, until the end of this context: one transaction, a batch, or neither."""
    _transaction.set(transaction)
    _batch.set(batch)


@contextmanager
def of_transaction(key: str) -> Iterator[None]:
    """Inside the block, lines are about this transaction. An empty key changes nothing."""
    token = _transaction.set(key or _transaction.get())
    try:
        yield
    finally:
        _transaction.reset(token)


def without_values(text: str) -> str:
    """The text without what nobody may find in a log."""
    text = _DETAIL.sub("DETAIL: left out.\n", text).rstrip("\n")
    return LEFT_OUT if holds_card_number(text) else text


class TextLines(logging.Formatter):
    """`format` may use `request_ids`: those of the requests, separated by spaces, or a dash."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = without_values(record.getMessage())
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        return "\n".join([self.formatMessage(record), *_trouble(self, record)])


class JsonLines(logging.Formatter):
    """One JSON object a line. It has all fields on every line; what does not apply is null.

    `request_id`, `trace_id` and `transaction_id` are those of the one that a line is about. A line about a batch has
    its `batch`, and the ids of all its requests as `request_ids`.
    """

    def format(self, record: logging.LogRecord) -> str:
        named = request_ids.current()
        request_id, _, trace_id = named[0].partition(" ") if len(named) == 1 else ("", "", "")
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_values(record.getMessage()),
            "request_id": request_id or None,
            "trace_id": trace_id or None,
            "transaction_id": _transaction.get(),
            "batch": _batch.get(),
            "request_ids": [each.partition(" ")[0] for each in named] if len(named) > 1 else None,
            "version": release(),
            "process": record.process,
            "exception": "\n".join(_trouble(self, record)) or None,
        }
        return msgspec.json.encode(line).decode()


def _trouble(formatter: logging.Formatter, record: logging.LogRecord) -> Iterator[str]:
    """The traceback of a record, and the stack."""
    if record.exc_info:
        yield without_values(formatter.formatException(record.exc_info))
    if record.stack_info:
        yield without_values(formatter.formatStack(record.stack_info))
