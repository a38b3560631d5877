"""Validates a JSON object as a transaction. One refusal names every faulty field."""

import hashlib
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import itemgetter, le
from typing import Any, cast

import uuid_utils
from django.conf import settings

from scoring import served
from scoring.api import entities
from scoring.api.decoding import texts
from scoring.exceptions import FieldError, InvalidFields, UnacceptableValues
from scoring.messages.submission import Conversion, Submission
from scoring.served import Served
from training.core.card_numbers import SHORTEST, holds_card_number, names_verification_code
from training.core.exchange.rates import NO_RATES, AmountRefused, Converted, Rates, microseconds
from training.core.schema import Schema
from training.core.schema.kinds import dates
from training.core.schema.kinds.kind import ValueRefused
from training.core.schema.values import Value

TRANSACTION_ID_LIMIT = 64
USABLE_ID = f"Send a string of 1 to {TRANSACTION_ID_LIMIT} printable characters."
OPTIONAL_FIELDS = ("transaction_id", "event_time", "deadline_ms", "schema")
# A string of RFC 9651; its parameters are ignored.
STRUCTURED_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)" *(?:;.*)?')


def schema_of(body: dict[str, Any]) -> Schema:
    """The schema that a body names, or the default.

    Raises:
        InvalidFields: there is no such schema.
    """
    name = body.get("schema", settings.DEFAULT_SCHEMA)
    known_now = served.now().schemas
    schema = known_now.get(name) if type(name) is str else None
    if schema is None:
        known = f"Send one of {', '.join(known_now)}, or leave it out for {settings.DEFAULT_SCHEMA}."
        raise InvalidFields(errors=[FieldError("/schema", "unknown_schema", known)])
    return schema


def validate(
    body: dict[str, Any],
    *,
    schema: Schema,
    client_id: int,
    received_at: datetime,
    deadline_ms: int,
    clock_skew_s: int,
    idempotency_key: str | None = None,
    request_id: str = "",
    is_ours: bool = False,
    trace_id: str = "",
    rates: Rates = NO_RATES,
    checked: list[Value] | None = None,
) -> Submission:
    """Check a decoded body against its schema. Call `refuse_card_data` first. A `deadline_ms` in the body can only
    lower the given one. A request's id that `is_ours`, of a request with one transaction, is the transaction's id, too.
    `rates` convert an amount in another currency than the schema's. `checked` are the features as their kinds read
    them, if that is done already; then the body has all else.

    Raises:
        UnacceptableValues: values outside their declared range.
        InvalidFields: fields missing, unknown or of the wrong type.
    """
    malformed: list[FieldError] = []
    unacceptable: list[FieldError] = []
    features = checked
    if features is None and not schema.has_texts:
        features = _ordinary(body, schema)
    if features is None:
        features = _checked(body, schema, malformed, unacceptable)
    tokens = entities.tokens_of(body, features, schema, client_id, malformed) if schema.entities else ()
    malformed += _unknown(body, schema)
    transaction_id = _transaction_id(body.get("transaction_id"), idempotency_key, malformed)
    event_time = received_at
    if "event_time" in body:
        event_time = read_event_time(body["event_time"], received_at, clock_skew_s, schema, malformed, unacceptable)
    if schema.has_texts:
        unacceptable += _dates_after(event_time, features, schema)
        features = entities.concealed(features, schema)
    converted = _converted(features, schema, event_time, rates, unacceptable) if schema.amount_currency else None
    if "deadline_ms" in body:
        deadline_ms = min(deadline_ms, _wanted_ms(body["deadline_ms"], malformed))
    if malformed:
        raise InvalidFields(errors=malformed + unacceptable)
    if unacceptable:
        raise UnacceptableValues(errors=unacceptable)
    identity = (schema.name, transaction_id, event_time.isoformat() if "event_time" in body else None, *tokens)
    # What was sent decides whether a body is the same: other rates may hold when it is sent again.
    content = _bytes_of(features, schema) + repr(identity).encode()
    if converted:
        features[schema.amount_index] = converted.amount
    return Submission(
        id=request_id if is_ours else str(uuid_utils.uuid7()),
        client_id=client_id,
        schema=schema.name,
        transaction_id=transaction_id,
        features=features,
        event_time=event_time.timestamp(),
        received_at=received_at.timestamp(),
        deadline=received_at.timestamp() + deadline_ms / 1000,
        body_sha256=hashlib.sha256(content).hexdigest(),
        tokens=tokens,
        request_id=request_id,
        declaration=schema.hash,
        conversion=Conversion.of(converted, schema.currency) if converted else None,
        trace_id=trace_id,
    )


def _unknown(body: dict[str, Any], schema: Schema) -> Iterator[FieldError]:
    if body.keys() <= _known_names(schema):
        return
    for name in body.keys() - _known_names(schema):
        pointer = "/" + name[:TRANSACTION_ID_LIMIT].replace("~", "~0").replace("/", "~1")
        yield FieldError(pointer, "unknown_field", f"The schema {schema.name} has no such field.")


def _bytes_of(features: list[Value], schema: Schema) -> bytes:
    """The same bytes for equal values."""
    # Adding 0.0 turns -0.0 into 0.0.
    if not schema.has_texts:
        return struct.pack(f"<{len(features)}d", *[cast(float, value) + 0.0 for value in features])
    return repr([value + 0.0 if isinstance(value, float) else value for value in features]).encode()


def _ordinary(body: dict[str, Any], schema: Schema) -> list[Value] | None:
    """The features of a body whose numbers are all floats inside their range, else None. A fast path."""
    take, minima, maxima = _columns(schema)
    try:
        features = take(body)
    except KeyError:
        return None
    if set(map(type, features)) != {float} or not all(map(le, minima, features)) or not all(map(le, features, maxima)):
        return None
    return list(features)


@lru_cache
def _columns(
    schema: Schema,
) -> tuple[Callable[[dict[str, Any]], tuple[Any, ...]], tuple[float, ...], tuple[float, ...]]:
    fields = schema.features
    take = itemgetter(*(field.name for field in fields), fields[0].name)  # with one name it would not return a tuple
    return (
        lambda body: take(body)[:-1],
        tuple(field.lowest for field in fields),
        tuple(field.highest for field in fields),
    )


def _checked(
    body: dict[str, Any], schema: Schema, malformed: list[FieldError], unacceptable: list[FieldError]
) -> list[Value]:
    """The values of a body, with None for each that is missing or refused; adds the errors to the two lists."""
    values: list[Value] = []
    for name, optional, read in _readers(schema):
        value, sent = body.get(name), None
        if value is not None or (name in body and not optional):
            try:
                sent = read(value)
            except ValueRefused as error:
                errors = malformed if error.malformed else unacceptable
                errors.append(FieldError(f"/{name}", error.code, error.remedy))
        elif not optional:
            malformed.append(FieldError(f"/{name}", "missing", "This field is required."))
        values.append(sent)
    return values


@lru_cache
def _readers(schema: Schema) -> list[tuple[str, bool, Callable[[Any], float | str]]]:
    """The name of each value of a request, whether it is optional, and what reads it."""
    return [(field.name, field.optional, partial(field.of_kind.read, field)) for field in schema.sent_features]


def _dates_after(event_time: datetime, values: list[Value], schema: Schema) -> list[FieldError]:
    # In the last year of the calendar some zones are in the next one, which no value is in either.
    latest = (event_time if event_time.year == MAXYEAR else event_time + dates.ZONES).date().isoformat()
    return [
        FieldError(f"/{name}", "after_the_event", "Send a date that is not after the transaction.")
        for name, place in _past_dates(schema)
        if isinstance(value := values[place], str) and value > latest
    ]


@lru_cache
def _past_dates(schema: Schema) -> list[tuple[str, int]]:
    """The names and places of the dates that are not after their transaction."""
    return [
        (field.name, place) for place, field in enumerate(schema.features) if field.kind == "date" and not field.future
    ]


def _converted(
    values: list[Value], schema: Schema, event_time: datetime, rates: Rates, unacceptable: list[FieldError]
) -> Converted | None:
    """The amount in the schema's currency. None if it cannot be converted, or if it or its currency was refused."""
    sent, currency = values[schema.amount_index], values[schema.currency_index]
    if not isinstance(sent, float) or not isinstance(currency, str):
        return None
    try:
        return rates.of_transaction(schema, sent, currency, microseconds(event_time))
    except AmountRefused as error:
        name = schema.amount_currency if error.of_currency else schema.amount
        unacceptable.append(FieldError(f"/{name}", error.code, error.remedy))
        return None


def _transaction_id(value: Any, idempotency_key: str | None, malformed: list[FieldError]) -> Any:
    """The id in the body or in the header `Idempotency-Key`; None where neither has one."""
    if value is not None and not is_transaction_id(value):
        malformed.append(FieldError("/transaction_id", "invalid_id", f"{USABLE_ID} Or leave it out."))
    if idempotency_key is None:
        return value
    named = _unquoted(idempotency_key)
    if not is_transaction_id(named):
        malformed.append(FieldError("", "invalid_idempotency_key", f"Idempotency-Key: {USABLE_ID}"))
    elif value not in (None, named):
        same = "Idempotency-Key is another way to send transaction_id: send one of them, or the same value in both."
        malformed.append(FieldError("/transaction_id", "differs_from_idempotency_key", same))
    return named


def read_event_time(
    value: Any,
    received_at: datetime,
    clock_skew_s: int,
    schema: Schema,
    malformed: list[FieldError],
    unacceptable: list[FieldError],
) -> datetime:
    """The event time that was sent; where it is malformed, the time of the call."""
    try:
        event_time = rfc3339(value)
    except (TypeError, ValueError, OverflowError):
        wanted = "Send an RFC 3339 time with its offset, like 2026-01-31T12:00:00Z, or leave it out."
        malformed.append(FieldError("/event_time", "invalid_time", wanted))
        return received_at
    if event_time > received_at + timedelta(seconds=clock_skew_s):
        ahead = f"Send a time at most {clock_skew_s} s ahead of the server's clock."
        unacceptable.append(FieldError("/event_time", "in_the_future", ahead))
    elif event_time < received_at - timedelta(days=schema.past_days):
        past = f"Send a time at most {schema.past_days} days ago."
        unacceptable.append(FieldError("/event_time", "too_old", past))
    return event_time


def _wanted_ms(value: Any, malformed: list[FieldError]) -> int:
    """The deadline that was sent."""
    if type(value) is int and value >= 1:
        return value
    wanted = "Send a whole number of milliseconds, at least 1, or leave it out."
    malformed.append(FieldError("/deadline_ms", "invalid_deadline", wanted))
    return 0


@lru_cache
def _known_names(schema: Schema) -> frozenset[str]:
    return frozenset((*schema.feature_names, *schema.identifier_names, *OPTIONAL_FIELDS))


def refuse_card_data(body: dict[str, Any], headers: Mapping[str, str | None]) -> None:
    """Look for card data in a decoded body and in the values of these headers, by name.

    Raises:
        UnacceptableValues: there is card data. It is not stored, logged or repeated.
    """
    errors = [
        FieldError("", "card_number", f"{name}: never send a card number.")
        for name, value in headers.items()
        if value is not None and any(map(holds_card_number, _readings(value)))
    ]
    numbers, names = _names_of_numbers(served.now()), _ordinary_names(served.now())
    others = [(name, value) for name, value in body.items() if type(value) is not float or name not in numbers]
    ordinary = [value for name, value in others if type(value) is str and name in names]
    # In the usual case all texts take one look together: a letter between two of them parts their digits.
    if len(ordinary) == len(others) and not (ordinary and holds_card_number("x".join(ordinary))):
        others = []
    for name, value in others:
        if type(value) is str and name in names and not holds_card_number(value):
            continue
        shown = "" if holds_card_number(name) else f"/{name[:TRANSACTION_ID_LIMIT]}"
        if names_verification_code(name):
            errors.append(FieldError(shown, "card_verification_code", "Never send a card verification code."))
        elif not shown or any(map(holds_card_number, texts(value))):
            errors.append(FieldError(shown, "card_number", "Never send a card number: send a token of it."))
    if errors:
        raise UnacceptableValues("The request holds card data. Nothing of it was stored or logged.", errors=errors)


@lru_cache(maxsize=1)
def _ordinary_names(served: Served) -> frozenset[str]:
    """The names in all schemas that tell of no card data."""
    names = set(OPTIONAL_FIELDS).union(*map(_known_names, served.schemas.values()))
    return frozenset(name for name in names if not names_verification_code(name) and not holds_card_number(name))


def _readings(header: str) -> Iterator[str]:
    """A header as the server reads it (Latin-1), and as a client means it that sends UTF-8."""
    yield header
    if not header.isascii():
        with suppress(UnicodeError):
            yield header.encode("latin-1").decode()


@lru_cache(maxsize=1)
def _names_of_numbers(served: Served) -> frozenset[str]:
    """The names of the numbers in all schemas that are too short for a card number."""
    fields = [field for schema in served.schemas.values() for field in schema.sent_features if field.is_number]
    is_long = {field.name for field in fields if max(-field.lowest, field.highest) >= 10.0 ** (SHORTEST - 1)}
    return frozenset(field.name for field in fields) - is_long


def is_transaction_id(value: Any) -> bool:
    """Whether it is a text that a client may name a transaction, or a label, by."""
    return isinstance(value, str) and 1 <= len(value) <= TRANSACTION_ID_LIMIT and value.isprintable()


def _unquoted(key: str) -> str | None:
    """The value of an `Idempotency-Key`: bare, or a quoted string of RFC 9651 as in the IETF's draft (`"order-1"`).

    None if it has an opening quote but is not such a string.

    >>> _unquoted("order-1"), _unquoted('"order-1"'), _unquoted(r'"a\\"b"'), _unquoted('"order-1')
    ('order-1', 'order-1', 'a"b', None)
    """
    if not key.startswith('"'):
        return key
    found = STRUCTURED_STRING.fullmatch(key)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else None


def rfc3339(value: Any) -> datetime:
    """A time as sent, in UTC.

    Raises:
        TypeError, ValueError, OverflowError: it is no text, or no RFC 3339 time with its offset.
    """
    if not isinstance(value, str):
        raise TypeError("no text")
    moment = datetime.fromisoformat(value.upper())
    if moment.tzinfo is None or "T" not in value.upper() or "\0" in value:
        raise ValueError("no offset")
    return moment.astimezone(UTC)
