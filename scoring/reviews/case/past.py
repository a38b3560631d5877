"""The latest transactions of an entity, found by its stored history.

A history has the sequences of the entity's latest events, as many as its schema keeps, and an index leads from each to
its transaction. So traffic pays for one small index and no table of its own. An entity whose history no computed
feature reads has none: of it only alerts are known, by their links.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Coalesce

from scoring.models import History, Label, ReviewLink, Transaction
from scoring.reviews import verdicts
from training.core.features import stored
from training.core.features.declaration import Entity
from training.core.schema import Schema

COLUMNS = ("pk", "transaction_id", "amount", "event_time", "fields", "tokens", "decided", "score")


@dataclass(frozen=True, slots=True)
class Past:
    """A transaction of an entity. `decision` is empty if it was stored without one, `score` None if it has none, and
    `verdict` is what holds of its labels: None if nothing does."""

    pk: UUID
    transaction_id: str
    amount: float
    event_time: datetime
    fields: dict[str, Any]
    decision: str
    score: float | None
    verdict: bool | None

    @property
    def name(self) -> str:
        return self.transaction_id or str(self.pk)


def has_history(schema: Schema, entity: str) -> bool:
    return any(feature.entity == entity for feature in schema.velocity)


def transactions_of(schema: Schema, entity: str, token: str, *, at: datetime | None = None) -> list[Past]:
    """The latest `CASE_TIMELINE_ROWS` transactions of an entity within `CASE_TIMELINE_DAYS`, the oldest first.

    With `at` most of them are before this time, and a quarter after it, if there are so many.
    """
    keys = _keys(schema, entity, token)
    rows = Transaction.objects.filter(schema=schema.name)
    if keys is None:
        alerts = ReviewLink.objects.filter(key=token).order_by("-review")[: settings.CASE_TIMELINE_ROWS]
        rows = rows.filter(pk__in=list(alerts.values_list("review", flat=True)))
    else:
        rows = rows.filter(sequence__in=keys)
    decided = Coalesce("prediction__decision", "fallback__decision")
    found = list(rows.annotate(decided=decided, score=F("prediction__fraud_score")).values_list(*COLUMNS))
    # Of one place in the order of arrival there may be transactions of several cards.
    found = [row for row in found if (row[5] or {}).get(entity) == token]
    return _past(_around(sorted(found, key=lambda row: row[3]), at))


def _keys(schema: Schema, entity: str, token: str) -> list[int] | None:
    """The sequences of the events in the history; None if no feature reads it."""
    if not has_history(schema, entity):
        return None
    events = History.objects.filter(token=token).values_list("events", flat=True).first()
    return stored.keys_in(schema, entity, bytes(events)) if events else []


def _around(rows: list[Any], at: datetime | None) -> list[Any]:
    most, days = settings.CASE_TIMELINE_ROWS, timedelta(days=settings.CASE_TIMELINE_DAYS)
    if not rows:
        return []
    end = at or rows[-1][3]
    rows = [row for row in rows if row[3] >= end - days]
    before = sum(1 for row in rows if at is None or row[3] <= at)
    until = min(len(rows), max(before + most // 4, most) if at else len(rows))
    return rows[max(0, until - most) : until]


def _past(rows: Iterable[Any]) -> list[Past]:
    rows = list(rows)
    known = verdicts.known(Label.objects.filter(transaction__in=[row[0] for row in rows])) if rows else {}
    return [
        Past(
            pk=row[0],
            transaction_id=row[1] or "",
            amount=row[2],
            event_time=row[3],
            fields=row[4],
            decision=row[6] or "",
            score=row[7],
            verdict=known.get(row[0]),
        )
        for row in rows
    ]


def told_apart(schema: Schema) -> list[Entity]:
    """The entities without those that are made of another: what shares a card and its address shares the card."""
    names = set(schema.entity_names)
    return [entity for entity in schema.entities if not names & set(entity.of)]


def is_personal(schema: Schema, name: str) -> bool:
    """Whether an entity or value tells something personal."""
    made_of = {name} | {part for entity in schema.entities if entity.name == name for part in entity.of}
    return bool(made_of & schema.personal_names)
