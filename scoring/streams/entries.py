"""Entries of a stream, each of which is a transaction: checked as the body of a predict call is."""

import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from django.conf import settings

from scoring.api.decoding import Body, decode_object
from scoring.api.outcomes import may_be_repeated
from scoring.api.permissions import refuse_other_schemas
from scoring.api.rates import courses
from scoring.api.validation import refuse_card_data, schema_of, validate
from scoring.exceptions import (
    BodyTooLarge,
    DatabaseUnavailable,
    FieldError,
    MalformedBody,
    RequestRefused,
    UnacceptableValues,
)
from scoring.messages import traces
from scoring.messages.submission import Submission
from scoring.models import ApiKey
from scoring.telemetry import tracing
from training import clock
from training.core.card_numbers import holds_card_number
from training.core.exchange.rates import NO_RATES
from training.core.schema import TRANSACTION_ID

# The fields of an entry. Others are passed over.
BODY, REQUEST_ID, TRACEPARENT = b"body", b"request_id", b"traceparent"
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Nobody waits for entries at a connection: their deadline is this long after they are scored.
DEADLINE_S = 3_600


class Entry(NamedTuple):
    """An entry as Redis has it. `id` is `<milliseconds since 1970>-<number>`, the time at which it was added."""

    id: str
    fields: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Read:
    """What was found in an entry: a valid transaction, or why it is refused. `transaction_id` is the client's, if it
    has a usable one; `request_id` is the producer's, or else Fraudsite's id of the transaction."""

    entry: Entry
    request_id: str
    transaction_id: str | None
    found: Submission | RequestRefused
    client_id: int


def read(entry: Entry, *, stream: str, client_id: int, key: ApiKey | None = None) -> Read:
    """Check an entry of a stream whose transactions are a client's, and of schemas that its key may be used for.

    Raises:
        DatabaseUnavailable: rates of exchange cannot be read.
    """
    trace = traces.read(entry.fields.get(TRACEPARENT, b"").decode("latin-1"))
    with tracing.entry(stream, trace):
        own_id = transaction_id_of(entry, stream=stream, client_id=client_id)
        request_id = _request_id(entry) or own_id
        body: Body = {}
        try:
            body = _body_of(entry)
            submission = _checked(body, entry, own_id, request_id, client_id, key, trace)
            return Read(entry, request_id, submission.transaction_id, submission, client_id)
        except DatabaseUnavailable:
            raise
        except RequestRefused as refusal:
            named = body.get(TRANSACTION_ID)
            usable = named if may_be_repeated(named, refusal) else None
            return Read(entry, request_id, usable, refusal, client_id)


def transaction_id_of(entry: Entry, *, stream: str, client_id: int) -> str:
    """The id of an entry's transaction: a UUID (version 7) with the entry's time, the same whenever it is read.

    As a database constraint knows the ids that are stored, an entry that comes again is found, and not doubled.
    """
    time = _added_ms(entry) & (1 << 48) - 1
    digest = hashlib.sha256(f"{client_id} {stream} {entry.id}".encode()).digest()
    upper, lower = int.from_bytes(digest[:2]) & (1 << 12) - 1, int.from_bytes(digest[2:10]) & (1 << 62) - 1
    return str(uuid.UUID(int=time << 80 | 0x7 << 76 | upper << 64 | 0b10 << 62 | lower))


def _checked(
    body: Body,
    entry: Entry,
    own_id: str,
    request_id: str,
    client_id: int,
    key: ApiKey | None,
    trace: traces.Trace | None,
) -> Submission:
    refuse_card_data(body, {})
    schema = schema_of(body)
    if key:
        refuse_other_schemas(key, schema.name)
    now = clock.now()
    submission = validate(
        body,
        schema=schema,
        client_id=client_id,
        received_at=_received_at(entry, now, schema.past_days),
        deadline_ms=settings.PREDICT_DEADLINE_MS,
        clock_skew_s=settings.PREDICT_CLOCK_SKEW_S,
        request_id=request_id,
        trace_id=trace.id if trace else "",
        rates=courses.now() if schema.amount_currency else NO_RATES,
    )
    return msgspec.structs.replace(submission, id=own_id, deadline=now.timestamp() + DEADLINE_S, span=tracing.carried())


def _body_of(entry: Entry) -> Body:
    raw = entry.fields.get(BODY)
    if raw is None:
        wanted = "Add entries with a field `body`, which holds the transaction as one JSON object."
        raise MalformedBody(wanted, errors=[FieldError("", "missing_body", wanted)])
    if len(raw) > settings.PREDICT_BODY_LIMIT_BYTES:
        raise BodyTooLarge(f"The body may have at most {settings.PREDICT_BODY_LIMIT_BYTES} bytes.")
    return decode_object(raw)


def _received_at(entry: Entry, now: datetime, past_days: float) -> datetime:
    """When an entry was added, by the clock of its Redis.

    Raises:
        UnacceptableValues: its id tells no such time.
    """
    added, earliest = _added_ms(entry) / 1000, now - timedelta(days=past_days)
    if not earliest.timestamp() <= added <= now.timestamp() + settings.PREDICT_CLOCK_SKEW_S:
        wanted = f"Add entries with the id *, at most {past_days:g} days before they are read."
        raise UnacceptableValues(errors=[FieldError("", "entry_id_without_its_time", wanted)])
    return min(datetime.fromtimestamp(added, UTC), now)


def _request_id(entry: Entry) -> str:
    """The id that the producer gave; empty if it gave none that can be used."""
    offered = entry.fields.get(REQUEST_ID, b"").decode("latin-1")
    return offered if ACCEPTABLE.fullmatch(offered) and not holds_card_number(offered) else ""


def _added_ms(entry: Entry) -> int:
    return int(entry.id.partition("-")[0])
