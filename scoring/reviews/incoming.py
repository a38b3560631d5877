"""What a client says of a transaction, checked. Every refusal names the field and what to send."""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

from scoring.api.validation import USABLE_ID, is_transaction_id, refuse_card_data, rfc3339
from scoring.exceptions import FieldError, InvalidFields, UnacceptableValues
from scoring.reviews.models import REFERENCE_LIMIT, LabelKind, LabelSource
from training.core.card_numbers import holds_card_number

# The source that says a kind, where none is sent.
SOURCES: dict[str, str] = {
    LabelKind.FRAUD: LabelSource.CLIENT,
    LabelKind.LEGITIMATE: LabelSource.CLIENT,
    LabelKind.RETRACTED: LabelSource.CLIENT,
    LabelKind.DISPUTED: LabelSource.CHARGEBACK,
    LabelKind.FRIENDLY_FRAUD: LabelSource.CHARGEBACK,
    LabelKind.CHARGEBACK_WON: LabelSource.CHARGEBACK,
    LabelKind.CHARGEBACK_LOST: LabelSource.CHARGEBACK,
    LabelKind.EARLY_FRAUD_WARNING: LabelSource.NETWORK,
}
# An analyst's word is given in the admin, where somebody answers for it.
SENT_SOURCES = [str(source) for source in LabelSource if source != LabelSource.ANALYST]
FIELDS = ("id", "transaction_id", "kind", "source", "event_time", "amount", "reference")
NAMES = frozenset(FIELDS)
# Times that hold no card number, whatever their digits.
ORDINARY_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


class Incoming(NamedTuple):
    """What is said of a transaction, which has the id that Fraudsite gave it, `id`, or that of the client."""

    id: UUID | None
    transaction_id: str | None
    kind: str
    source: str
    event_time: datetime
    amount: float | None
    reference: str


class _Refused(Exception):
    """A value cannot be taken: its code and the remedy."""


def read(body: Any, received_at: datetime) -> Incoming:
    """Check what was sent about one transaction.

    Raises:
        InvalidFields: it is no object, or fields are missing, unknown or malformed.
        UnacceptableValues: it holds card data, or an event time in the future.
    """
    return _ordinary(body, received_at) or _checked(body, received_at)


def _ordinary(body: Any, received_at: datetime) -> Incoming | None:
    """A label without any fault, as nearly all are; None for all others. A fast path: what it takes, `_checked` takes
    as the same."""
    if type(body) is not dict or not NAMES.issuperset(body):
        return None
    key, name, kind, source, moment, amount, reference = map(body.get, FIELDS)
    if type(kind) is not str or kind not in SOURCES or type(moment) is not str or not ORDINARY_TIME.fullmatch(moment):
        return None
    try:
        event_time = datetime.fromisoformat(moment).astimezone(UTC)
        identifier = None if key is None else UUID(key)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
    texts = [text for text in (key, name, reference) if text is not None]
    fine = (
        (key is None) is not (name is None)
        and (source is None or (type(source) is str and source in SENT_SOURCES))
        and event_time <= received_at + timedelta(seconds=settings.PREDICT_CLOCK_SKEW_S)
        and (amount is None or (type(amount) is float and 0 <= amount <= sys.float_info.max))
        and all(is_transaction_id(text) and not holds_card_number(text) for text in texts)
    )
    if not fine:
        return None
    return Incoming(identifier, name, kind, source or SOURCES[kind], event_time, amount, reference or "")


def _checked(body: Any, received_at: datetime) -> Incoming:
    if not isinstance(body, dict):
        raise InvalidFields("A label must be a JSON object.")
    refuse_card_data(body, {})
    errors = [
        FieldError(f"/{name[:REFERENCE_LIMIT]}", "unknown_field", f"A label has the fields {', '.join(FIELDS)}.")
        for name in body
        if name not in FIELDS
    ]
    sent = {name: value for name, value in body.items() if value is not None}
    if ("id" in sent) == ("transaction_id" in sent):
        one = "Send either id, which our answer had, or transaction_id, which is your own."
        errors.append(FieldError("/transaction_id", "which_transaction", one))
    values: dict[str, Any] = {"id": None, "transaction_id": None, "amount": None, "reference": "", "source": None}
    for name, check in CHECKS.items():
        if name in sent:
            try:
                values[name] = check(sent[name])
            except _Refused as refusal:
                errors.append(FieldError(f"/{name}", *refusal.args))
        elif name in ("kind", "event_time"):
            errors.append(FieldError(f"/{name}", "missing", "This field is required."))
    if errors:
        raise InvalidFields(errors=errors)
    if values["event_time"] > received_at + timedelta(seconds=settings.PREDICT_CLOCK_SKEW_S):
        ahead = f"Send a time at most {settings.PREDICT_CLOCK_SKEW_S} s ahead of the server's clock."
        raise UnacceptableValues(errors=[FieldError("/event_time", "in_the_future", ahead)])
    values["source"] = values["source"] or SOURCES[values["kind"]]
    return Incoming(**values)


def _id(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise _Refused("invalid_id", "Send the id of an answer, a UUID.") from None


def _transaction_id(value: Any) -> str:
    if not is_transaction_id(value):
        raise _Refused("invalid_id", USABLE_ID)
    return str(value)


def _one_of(code: str, values: list[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in values:
            raise _Refused(code, f"Send one of {', '.join(values)}.")
        return str(value)

    return check


def _event_time(value: Any) -> datetime:
    try:
        return rfc3339(value)
    except (TypeError, ValueError, OverflowError):
        wanted = "Send an RFC 3339 time with its offset, like 2026-01-31T12:00:00Z: when it was said."
        raise _Refused("invalid_time", wanted) from None


def _amount(value: Any) -> float:
    # JSON has integers that are larger than any float.
    if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:
        raise _Refused("invalid_amount", "Send a number that is not negative, or leave it out.")
    return float(value)


def _reference(value: Any) -> str:
    if not is_transaction_id(value):
        raise _Refused("invalid_reference", f"{USABLE_ID} Or leave it out.")
    return str(value)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "id": _id,
    "transaction_id": _transaction_id,
    "kind": _one_of("unknown_kind", LabelKind.values),
    "source": _one_of("unknown_source", SENT_SOURCES),
    "event_time": _event_time,
    "amount": _amount,
    "reference": _reference,
}
