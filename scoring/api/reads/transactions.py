"""A client's own transactions, as they are stored, and the predictions about them."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet

from scoring import served
from scoring.api.reads.listing import Listing
from scoring.api.reads.parameters import Filter, one_of, own_id, range_of
from scoring.decisions import Decision
from scoring.messages.answers import ANSWER_PARTS, answer_dict_of
from scoring.models import Transaction

ANSWERED = Q(prediction__isnull=False) | Q(fallback__isnull=False)
STATES = {
    "scored": Q(prediction__isnull=False),
    "fallback": Q(prediction__isnull=True, fallback__isnull=False),
    "waiting": Q(prediction__isnull=True, fallback__isnull=True, pending__isnull=False),
    "unscored": Q(prediction__isnull=True, fallback__isnull=True, pending__isnull=True),
}


def _in_states(names: list[str]) -> Q:
    found = Q()
    for name in names:
        found |= STATES[name]
    return found


def _decided(decisions: list[str]) -> Q:
    """What the client was answered: a fallback's decision stays, whatever the score that follows."""
    return Q(fallback__decision__in=decisions) | Q(fallback__isnull=True, prediction__decision__in=decisions)


OF_BOTH: tuple[Filter, ...] = (
    *range_of("received_at", "received", "Arrived"),
    own_id(""),
    one_of("schema", lambda: served.now().schemas, lambda names: Q(schema__in=names), "Of these dataset schemas."),
    one_of("decision", Decision.values, _decided, "Answered with one of these decisions."),
)


class Transactions(Listing):
    name = "transactions"
    time = "received_at"
    key = "id"
    filters = (
        *OF_BOTH,
        one_of("state", STATES, _in_states, "What was made of it: see the field of this name."),
    )
    names = (
        *("id", "transaction_id", "schema", "state", "decision", "amount", "conversion", "values"),
        *("event_time", "received_at", "request_id", "trace_id"),
    )

    def rows(self, client_id: int) -> QuerySet[Transaction]:
        return Transaction.objects.filter(client=client_id)

    def load(self, rows: QuerySet[Transaction], names: Sequence[str]) -> QuerySet[Transaction]:
        columns = {"received_at"} | {{"values": "fields"}.get(name, name) for name in names} - {"state", "decision"}
        if "values" in names:
            columns.add("schema")
        if not {"state", "decision"} & set(names):
            return rows.only(*columns)
        parts = ("prediction__decision", "fallback__decision", "pending__due_at")
        return rows.select_related("prediction", "fallback", "pending").only(*columns, *parts)

    def tell(self, row: Transaction, names: Sequence[str]) -> dict[str, Any]:
        return {name: OF_TRANSACTION[name](row) if name in OF_TRANSACTION else getattr(row, name) for name in names}


def _state(row: Transaction) -> str:
    if hasattr(row, "prediction"):
        return "scored"
    return "fallback" if hasattr(row, "fallback") else "waiting" if hasattr(row, "pending") else "unscored"


def _decision(row: Transaction) -> str | None:
    """The decision that was answered; null while there is none."""
    answered = getattr(row, "fallback", None) or getattr(row, "prediction", None)
    return answered.decision if answered else None


def _values(row: Transaction) -> dict[str, Any]:
    """The values as they are stored. Of concealed ones only a keyed hash is, which tells a client nothing."""
    schema = served.now().schemas.get(row.schema)
    hidden = {field.name for _, field in schema.concealed_features} if schema else set()
    return {name: value for name, value in row.fields.items() if name not in hidden}


OF_TRANSACTION = {
    "state": _state,
    "decision": _decision,
    "values": _values,
    "trace_id": lambda row: row.trace_id.hex if row.trace_id else None,
}


class Predictions(Listing):
    name = "predictions"
    time = "received_at"
    key = "id"
    filters = OF_BOTH
    names = (
        *("id", "transaction_id", "fraud_score", "is_fraud", "alert", "decision", "reasons", "threshold"),
        *("model_version", "policy_version", "basis", "rules", "lists", "latency_ms", "created_at", "degraded"),
        *("conversion", "rescored"),
    )

    def rows(self, client_id: int) -> QuerySet[Transaction]:
        return Transaction.objects.filter(client=client_id)

    def load(self, rows: QuerySet[Transaction], names: Sequence[str]) -> QuerySet[Transaction]:
        # Transactions that wait are passed over; there are few.
        unused = ("fields", "tokens", "prediction__explanation", "prediction__derived")
        return rows.filter(ANSWERED).select_related(*ANSWER_PARTS).defer(*unused)

    def tell(self, row: Transaction, names: Sequence[str]) -> dict[str, Any]:
        answer = answer_dict_of(row)
        return {name: answer[name] for name in names if name in answer}
