"""The rows of a chunk, checked as the body of a predict call is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import numpy as np
from django.conf import settings

from scoring.api.decoding import Body
from scoring.api.outcomes import may_be_repeated
from scoring.api.rates import courses
from scoring.api.validation import read_event_time, refuse_card_data, rfc3339, validate
from scoring.exceptions import FieldError, InvalidFields, RequestRefused
from scoring.files.columns import vouch
from scoring.files.layout import SCHEMA, Layout, schema_of
from scoring.files.models import BatchFile, FileChunk, Mode
from scoring.files.sent import Sent, sent_in
from scoring.messages.submission import Submission
from training import store
from training.core.exchange.rates import NO_RATES
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema
from training.core.schema.values import Value

# Rows wait for nobody: their deadline is this long after they are scored.
DEADLINE_S = 3_600
# Makes a submission of a body and its id. Of a row that was vouched for, the features are given, and the body has the
# rest.
Check = Callable[[Body, str, list[Value] | None], Submission]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file: its line, the client's id of the transaction if it has a usable one, and what was found."""

    line: int
    transaction_id: str | None
    found: Submission | RequestRefused


class Reading:
    """The rows of a chunk. `lines` are the numbers of their lines, and `vouched` those that are plainly correct. `now`,
    in seconds since the epoch, is when they are scored.

    Raises:
        FileUnacceptable: the file's schema is not served any more.
        DatabaseUnavailable: rates of exchange cannot be read.
    """

    def __init__(self, file: BatchFile, chunk: FileChunk, now: float) -> None:
        layout = msgspec.convert(file.layout, Layout)
        self.schema = schema_of(file)
        content = store.read_range(layout.source, chunk.start, chunk.size)
        self._sent = sent_in(file, chunk, layout, self.schema, content)
        self.lines = self._sent.lines
        self.vouched = vouch(self._sent.columns(), self.schema)
        self._file, self._first = file, chunk.first_row
        self._check = _checker(file, self.schema, now)

    def is_time(self, value: str) -> bool:
        """Whether an event time is right for a row."""
        faults: list[FieldError] = []
        received_at = _received_at(self._file, {EVENT_TIME: value}, self.schema)
        read_event_time(value, received_at, settings.PREDICT_CLOCK_SKEW_S, self.schema, faults, faults)
        return not faults

    def rows(self, done: np.ndarray | None = None) -> Iterator[Row]:
        """The rows in order, without those that are `done`, [n] bool."""
        to_do = np.ones(len(self.lines), bool) if done is None else ~done
        left = self.vouched.those(to_do[self.vouched.places])
        known = dict(zip(left.places, left.rows(), strict=True))
        for place in np.flatnonzero(to_do).tolist():
            line = self.lines[place]
            key = row_id(self._file, self._first + place)
            found = _submission(self._check, key, *known[place]) if place in known else None
            yield Row(line, found.transaction_id, found) if found else _alone(self._sent, place, self._check, key)


def _submission(check: Check, key: str, features: list[Value], rest: Body) -> Submission | None:
    """What a row with these features makes; None if something else in it is refused."""
    try:
        return check(rest, key, features)
    except RequestRefused:
        return None


def _alone(sent: Sent, place: int, check: Check, key: str) -> Row:
    """A row that is checked by itself."""
    line, named = sent.lines[place], None
    try:
        body = sent.body(place)
        named = body.get(TRANSACTION_ID)
        submission = check(body, key, None)
    except RequestRefused as refusal:
        return Row(line, named if may_be_repeated(named, refusal) else None, refusal)
    return Row(line, submission.transaction_id, submission)


def row_id(file: BatchFile, number: int) -> str:
    """The id of a row, the same whenever it is scored: a UUID (version 7) with the time of the file, the row's number
    (26 bits) and random bits of the file's own id.

    As a database constraint knows the ids that are stored, a row that is scored again is found, and not doubled.
    """
    of_file, upper, lower = file.pk.int, number >> 14, number & (1 << 14) - 1
    time, own = of_file >> 80 << 80, of_file & (1 << 48) - 1
    digits = f"{time | 0x7 << 76 | upper << 64 | 0b10 << 62 | lower << 48 | own:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _checker(file: BatchFile, schema: Schema, now: float) -> Check:
    rates = courses.now() if schema.amount_currency else NO_RATES

    def check(body: Body, key: str, checked: list[Value] | None) -> Submission:
        if checked is None:
            refuse_card_data(body, {})
        if body.pop(SCHEMA, schema.name) != schema.name:
            only = f"All rows of this file are of the schema {schema.name}. Send others in a file of their own."
            raise InvalidFields(errors=[FieldError("/schema", "another_schema", only)])
        submission = validate(
            body,
            schema=schema,
            client_id=file.client_id,
            received_at=_received_at(file, body, schema),
            deadline_ms=settings.BATCH_DEADLINE_MS,
            clock_skew_s=settings.PREDICT_CLOCK_SKEW_S,
            request_id=file.request_id,
            rates=rates,
            checked=checked,
        )
        return msgspec.structs.replace(submission, id=key, deadline=now + DEADLINE_S)

    return check


def _received_at(file: BatchFile, body: Body, schema: Schema) -> datetime:
    """When a row counts as received: traffic with its file. What is only scored may be as old as it likes, so it counts
    as received when it happened."""
    if file.mode == Mode.SCORE and EVENT_TIME in body:
        try:
            return min(file.created_at, rfc3339(body[EVENT_TIME]) + timedelta(days=schema.past_days))
        except (TypeError, ValueError, OverflowError):
            pass  # the check says so
    return file.created_at
