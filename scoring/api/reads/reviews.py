"""What became of a client's alerts, as far as it may know: never who decided, what they wrote, or what a second
opinion says."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery

from scoring import served
from scoring.api.reads.listing import Listing
from scoring.api.reads.parameters import Filter, one_of, own_id, range_of
from scoring.decisions import Decision
from scoring.models import Label, Review

OF_THE_DECISION = range_of("closed_at", "decided", "Decided")


class Reviews(Listing):
    name = "reviews"
    time = "opened_at"
    key = "prediction_id"
    filters = (
        *range_of("opened_at", "opened", "Opened"),
        *OF_THE_DECISION,
        own_id("prediction__transaction__"),
        one_of("state", Review.State.values, lambda names: Q(state__in=names), "In one of these states."),
        one_of("decision", Decision.values, lambda names: Q(decision__in=names), "Answered with one of these."),
        one_of("schema", lambda: served.now().schemas, lambda names: Q(schema__in=names), "Of these dataset schemas."),
    )
    names = (
        *("id", "transaction_id", "schema", "state", "decision", "reason_code", "decided_by", "opened_at"),
        "decided_at",
    )

    def time_of(self, filters: Mapping[Filter, Q]) -> str:
        return "closed_at" if set(OF_THE_DECISION) & filters.keys() else self.time

    def rows(self, client_id: int) -> QuerySet[Review]:
        return Review.objects.filter(client=client_id)

    def load(self, rows: QuerySet[Review], names: Sequence[str]) -> QuerySet[Review]:
        # The analysts' label that holds for the review is their latest.
        said = Label.objects.filter(transaction=OuterRef("prediction_id"), source=Label.Source.ANALYST)
        code = Subquery(said.order_by("-created_at", "-pk").values("code")[:1])
        if "reason_code" in names:
            rows = rows.annotate(reason_code=code)
        if "transaction_id" in names:
            rows = rows.select_related("prediction__transaction").only(
                *COLUMNS, "prediction__transaction__transaction_id"
            )
        return rows

    def tell(self, row: Review, names: Sequence[str]) -> dict[str, Any]:
        return {name: TOLD[name](row) for name in names}


COLUMNS = ("state", "decision", "schema", "opened_at", "closed_at", "decided_by_default")


def _is_closed(row: Review) -> bool:
    return row.state != Review.State.OPEN


def _decided_by(row: Review) -> str | None:
    if not _is_closed(row):
        return None
    return "due_time" if row.decided_by_default else "analyst"


def _reason_code(row: Any) -> str | None:
    return row.reason_code or None if _is_closed(row) and not row.decided_by_default else None


TOLD = {
    "id": lambda row: row.pk,
    "transaction_id": lambda row: row.prediction.transaction.transaction_id,
    "schema": lambda row: row.schema,
    "state": lambda row: row.state,
    "decision": lambda row: row.decision,
    "reason_code": _reason_code,
    "decided_by": _decided_by,
    "opened_at": lambda row: row.opened_at,
    "decided_at": lambda row: row.closed_at,
}
