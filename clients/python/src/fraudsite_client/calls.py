"""The calls of the API as plans: see `flow`."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from fraudsite_client.errors import FraudsiteError, InvalidRequest, NotReached, NotUnderstood, Refused
from fraudsite_client.flow import TRY_AGAIN, Attempt, Patience, Pause, Plan, send
from fraudsite_client.models import (
    BatchAnswer,
    Explanation,
    LabelBatchAnswer,
    LabelReceipt,
    LabelResult,
    Pending,
    Prediction,
    Result,
)

Model = TypeVar("Model", bound=BaseModel)
Transaction = Mapping[str, Any]
T = TypeVar("T")
PlanOfRows = Callable[[Sequence[dict[str, Any]], Patience], Plan[list[T]]]

# How many rows the API takes at once, unless its operator chose otherwise. A smaller limit is found out.
ROWS = 1_000
LABELS = 5_000
TOO_LARGE = 413


@dataclass(frozen=True)
class Named:
    """A transaction with an id of its own, so that the server recognises repeats."""

    body: dict[str, Any]

    @classmethod
    def of(cls, transaction: Transaction) -> "Named":
        body = {name: sendable(value) for name, value in items_of(transaction)}
        if body.get("transaction_id") is None:
            body["transaction_id"] = f"py-{uuid.uuid4()}"
        return cls(body)


def items_of(fields: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The names and values of a transaction or a label.

    Raises:
        TypeError: it has no names, as one of a list has that is a mapping or a text itself.
    """
    if not hasattr(fields, "items"):
        raise TypeError(f"Give values by name, such as {{'amount': 12.5}}, and not a {type(fields).__name__}.")
    return fields.items()


def sendable(value: Any) -> Any:
    """A value as JSON has it: a time or a date as text, a decimal as a number, an id as text.

    Raises:
        ValueError: it is a time without its zone.
    """
    match value:
        case datetime(tzinfo=None):
            raise ValueError(f"{value!r} has no time zone: use datetime.now(UTC), or .astimezone().")
        case date():  # a time is a date, too
            return value.isoformat()
        case Decimal():
            return float(value)
        case uuid.UUID():
            return str(value)
    return value


def predict(transaction: Transaction, patience: Patience) -> Plan[Prediction]:
    """Have a transaction scored. The server is told in `deadline_ms` how long this attempt waits."""
    body = Named.of(transaction).body

    def make(left_s: float) -> Attempt:
        wanted_ms = body.get("deadline_ms", max(1, int(left_s * 1000)))
        return Attempt("POST", "/api/v1/predict", left_s, json=body | {"deadline_ms": wanted_ms})

    return read(Prediction, (yield from send(make, patience)))


def predict_later(transaction: Transaction, patience: Patience) -> Plan[Pending | Prediction]:
    """Have a transaction stored now and scored afterwards. A repeat of one that is scored has its prediction."""
    body = Named.of(transaction).body
    headers = {"Prefer": "respond-async"}
    response = yield from send(
        lambda left_s: Attempt("POST", "/api/v1/predict", left_s, json=body, headers=headers), patience
    )
    return prediction_or_pending(response)


def prediction(key: str, patience: Patience) -> Plan[Prediction | Pending]:
    return prediction_or_pending((yield from get(f"/api/v1/predictions/{part(key)}", patience)))


def explanation(key: str, patience: Patience) -> Plan[Explanation]:
    return read(Explanation, (yield from get(f"/api/v1/predictions/{part(key)}/explanation", patience)))


def get(path: str, patience: Patience, query: Sequence[tuple[str, str]] = ()) -> Plan[httpx.Response]:
    return (yield from send(lambda left_s: Attempt("GET", path, left_s, query=query), patience))


def label(fields: Mapping[str, Any], patience: Patience) -> Plan[LabelReceipt]:
    """Say what became of a transaction."""
    return read(LabelReceipt, (yield from send(posted("/api/v1/labels", label_of(fields)), patience)))


def posted(path: str, body: Mapping[str, Any]) -> Callable[[float], Attempt]:
    """What makes an attempt to send a body, by the seconds that are left."""
    return lambda left_s: Attempt("POST", path, left_s, json=body)


def label_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a label. Unknown names are refused by the server, not here."""
    return {name: sendable(value) for name, value in items_of(fields) if value is not None}


def predict_rows(rows: Sequence[dict[str, Any]], patience: Patience) -> Plan[list[Result]]:
    """Score rows that have ids, in one call."""
    return (yield from _rows("/api/v1/predict/batch", "transactions", rows, BatchAnswer, patience))


def label_rows(rows: Sequence[dict[str, Any]], patience: Patience) -> Plan[list[LabelResult]]:
    return (yield from _rows("/api/v1/labels/batch", "labels", rows, LabelBatchAnswer, patience))


def _rows(
    path: str, name: str, rows: Sequence[dict[str, Any]], answer: type[Any], patience: Patience
) -> Plan[list[Any]]:
    """Send rows, and those again that the server had no time for. Returns the result of each, in order."""
    give_up = time.monotonic() + patience.deadline_s
    results: dict[int, Any] = {}
    missing = list(range(len(rows)))
    for _ in range(patience.attempts):
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            break
        body = {name: [rows[index] for index in missing]}
        try:
            response = yield from send(posted(path, body), replace(patience, deadline_s=left_s))
        except FraudsiteError:
            if results:  # what the server had time for is not lost, and the others have the problem that it told
                break
            raise
        results |= zip(missing, read(answer, response).results, strict=True)
        missing = [index for index in missing if results[index].status in TRY_AGAIN]
        pause_s = patience.first_pause_s
        if not missing or time.monotonic() + pause_s >= give_up:
            break
        yield Pause(pause_s)
    if len(results) < len(rows):
        raise NotReached("The deadline had passed before the rows were sent.")
    return [results[index] for index in range(len(rows))]


def halves(rows: Sequence[dict[str, Any]], refusal: Refused) -> tuple[Sequence[dict[str, Any]], ...]:
    """The two halves of rows that the server refused as too much at once.

    Raises:
        Refused: the refusal, if it is another one, or there is one row.
    """
    too_many = isinstance(refusal, InvalidRequest) and any(
        error.code == "invalid_list" for error in refusal.problem.errors
    )
    if len(rows) == 1 or not (refusal.status == TOO_LARGE or too_many):
        raise refusal
    middle = len(rows) // 2
    return rows[:middle], rows[middle:]


def pages(filters: Mapping[str, Any], fields: Sequence[str] | None, limit: int | None) -> list[tuple[str, str]]:
    """The query of a listing's first page. A filter may have several values."""
    query = [(name, _listed(value)) for name, value in filters.items() if value is not None]
    if fields is not None:
        query.append(("fields", ",".join(fields)))
    if limit is not None:
        query.append(("limit", str(limit)))
    return query


def _listed(value: Any) -> str:
    several = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    return ",".join(str(sendable(one)) for one in several)


def page(path: str, query: Sequence[tuple[str, str]], patience: Patience) -> Plan[tuple[list[Any], str | None]]:
    """A page of a listing: its rows, and the address of the next page."""
    response = yield from get(path, patience, query)
    try:
        content = response.json()
        return content["results"], content["next"]
    except (ValueError, KeyError, TypeError):
        raise not_understood(response) from None


def part(key: Any) -> str:
    """An id as a part of an address.

    Raises:
        ValueError: it is empty, and the address would be that of all.
    """
    if not str(key):
        raise ValueError("Give an id: this one is empty.")
    return quote(str(key), safe="")


def chunks(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    """The rows, so many at a time.

    Raises:
        ValueError: none at a time.
    """
    if size < 1:
        raise ValueError(f"rows must be 1 or more, and not {size}.")
    rest = iter(rows)
    while chunk := list(islice(rest, size)):
        yield chunk


def prediction_or_pending(response: httpx.Response) -> Prediction | Pending:
    if response.status_code == httpx.codes.ACCEPTED:
        return read(Pending, response)
    return read(Prediction, response)


def read(model: type[Model], response: httpx.Response) -> Model:
    """Make a model of an answer.

    Raises:
        NotUnderstood: it is none.
    """
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise not_understood(response) from error


def not_understood(response: httpx.Response) -> NotUnderstood:
    return NotUnderstood(f"{response.request.url} answered {response.status_code} with something unexpected.")
