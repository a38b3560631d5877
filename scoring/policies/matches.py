"""The latest transactions that an expression matches, for its author."""

from datetime import UTC, datetime
from typing import NamedTuple

from django.utils import timezone

from scoring.policies.document import Document
from scoring.policies.expressions import Binder, Conditions, Outcome
from scoring.policies.names import names_of
from scoring.policies.stored import Reader, Row, rows_of
from training.core.schema import Schema

EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Matches(NamedTuple):
    """The latest matches, newest first, and how many of the latest transactions matched, or lacked a value."""

    latest: list[Row]
    tried: int
    matched: int
    absent: int


def latest_matches(schema: Schema, source: str, document: Document, *, tried: int, shown: int) -> Matches:
    """Try an expression, which has no faults, on the latest stored transactions. Lists are taken as empty."""
    now = timezone.now()
    ever = rows_of(schema, EVER, now)
    moments = ever.order_by("-created_at").values_list("created_at", flat=True)[:tried]
    since = min(moments, default=now)
    names = names_of(schema, document)
    conditions = Conditions([source], names)
    binder = Binder(schema, names, conditions.names, document.constants)
    found: list[Row] = []
    count = absent = 0
    for page in Reader(schema, since, now, conditions.names).pages():
        for row in page:
            count += 1
            for _, outcome in conditions.outcomes(binder.context(row.case, row.derived, row.score, ())):
                if outcome is Outcome.MATCHED:
                    found.append(row)
                else:
                    absent += outcome is Outcome.ABSENT
    return Matches(found[: -shown - 1 : -1], count, len(found), absent)
