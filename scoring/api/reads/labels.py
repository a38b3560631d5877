"""The labels that a client sent. Those of analysts and of others are not among them."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet

from scoring.api.reads.listing import Listing
from scoring.api.reads.parameters import one_of, our_id, own_id, range_of
from scoring.models import Label
from scoring.reviews.incoming import SENT_SOURCES
from scoring.reviews.models import LabelKind


class Labels(Listing):
    name = "labels"
    time = "created_at"
    key = "id"
    schema = "transaction__schema"
    filters = (
        *range_of("created_at", "received", "Became known"),
        our_id("id", "transaction", "Of the transaction with this id."),
        own_id("transaction__"),
        one_of("kind", LabelKind.values, lambda names: Q(kind__in=names), "Of these kinds."),
        one_of("source", SENT_SOURCES, lambda names: Q(source__in=names), "Said by one of these."),
    )
    names = (
        *("id", "transaction_id", "kind", "source", "event_time", "amount", "reference"),
        "received_at",
    )

    def rows(self, client_id: int) -> QuerySet[Label]:
        return Label.objects.filter(client=client_id)

    def load(self, rows: QuerySet[Label], names: Sequence[str]) -> QuerySet[Label]:
        return rows.select_related("transaction").only(*COLUMNS, "transaction__transaction_id")

    def tell(self, row: Label, names: Sequence[str]) -> dict[str, Any]:
        return {name: TOLD[name](row) for name in names}


COLUMNS = ("kind", "source", "event_time", "amount", "reference", "created_at")
TOLD = {
    "id": lambda row: row.transaction_id,
    "transaction_id": lambda row: row.transaction.transaction_id,
    "kind": lambda row: row.kind,
    "source": lambda row: row.source,
    "event_time": lambda row: row.event_time,
    "amount": lambda row: row.amount,
    "reference": lambda row: row.reference or None,
    "received_at": lambda row: row.created_at,
}
