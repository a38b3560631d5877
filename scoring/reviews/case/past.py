"""The latest transactions of an entity, found by its stored history and by the links of its alerts.

A history has the sequences of the entity's latest events, as many as its schema keeps, and an index leads from each to
its transaction. So traffic pays for one small index and no table of its own. Of what is older, and of an entity whose
history no computed feature reads, alerts are known, by their links.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from scoring.models import History, Label, ReviewLink, Transaction
from scoring.reviews import second_opinions, verdicts
from scoring.tenancy import restriction
from training.core.features import stored
from training.core.features.declaration import Entity
from training.core.schema import Schema

COLUMNS = ("pk", "transaction_id", "amount", "event_time", "fields", "decided", "score")


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


class Line(NamedTuple):
    """Transactions of an entity, the oldest first. Before `complete_since` only alerts are known, None if all are; and
    `more` says whether there are older ones than these."""

    rows: list[Past]
    complete_since: datetime | None = None
    more: bool = False


def transactions_of(
    schema: Schema,
    entity: str,
    token: str,
    *,
    viewer: User,
    at: datetime | None = None,
    until: Transaction | None = None,
    before: datetime | None = None,
) -> Line:
    """The latest `CASE_TIMELINE_ROWS` transactions of an entity within `CASE_TIMELINE_DAYS`, with the verdicts that the
    viewer may see: those of its history, and older alerts.

    With `at` most of them are before this time, and a quarter after it, if there are so many; with `until` none is
    later than this one. With `before` they, and what is said of them, are as they were known before that time. A
    shared entity shows the transactions of the clients that the viewer sees.
    """
    kept = _kept(schema, entity, token)
    alerts = ReviewLink.objects.filter(key=token, **({"review__lte": until.pk} if until else {})).order_by("-review")
    alert_keys = list(alerts.values_list("review", flat=True)[: settings.CASE_TIMELINE_ROWS])
    rows = Transaction.objects.filter(Q(sequence__in=kept) | Q(pk__in=alert_keys), schema=schema.name)
    rows = restriction.visible(rows.filter(received_at__lt=before) if before else rows, viewer)
    # Of one place in the order of arrival there may be transactions of several cards.
    places = rows.values_list("pk", "event_time", "sequence", "tokens")
    found = sorted((row for row in places if (row[3] or {}).get(entity) == token), key=lambda row: row[1])
    of_history = set(kept)
    since = (
        min((row[1] for row in found if row[2] in of_history), default=None) if _is_full(schema, entity, kept) else None
    )
    if until:
        found = [row for row in found if row[1] <= until.event_time]
    shown = _around(found, at)
    more = len(alert_keys) == settings.CASE_TIMELINE_ROWS or (bool(shown) and shown[0] != found[0])
    return Line(_past([row[0] for row in shown], viewer, before), since, more)


def _kept(schema: Schema, entity: str, token: str) -> list[int]:
    """The sequences of the events in the history; none if no feature reads it."""
    events = History.objects.filter(token=token).values_list("events", flat=True).first()
    return stored.keys_in(schema, entity, bytes(events)) if events and has_history(schema, entity) else []


def _is_full(schema: Schema, entity: str, kept: Sequence[int]) -> bool:
    """Whether a history has as many events as it keeps, so that there may have been earlier ones."""
    [limit] = [each.history_limit for each in schema.entities if each.name == entity]
    return len(kept) >= limit


def _around(rows: list[Any], at: datetime | None) -> list[Any]:
    most, days = settings.CASE_TIMELINE_ROWS, timedelta(days=settings.CASE_TIMELINE_DAYS)
    if not rows:
        return []
    end = at or rows[-1][1]
    rows = [row for row in rows if row[1] >= end - days]
    before = sum(1 for row in rows if at is None or row[1] <= at)
    until = min(len(rows), max(before + most // 4, most) if at else len(rows))
    return rows[max(0, until - most) : until]


def _past(keys: list[UUID], viewer: User, before: datetime | None) -> list[Past]:
    decided = Coalesce("prediction__decision", "fallback__decision")
    rows = Transaction.objects.filter(pk__in=keys).annotate(decided=decided, score=F("prediction__fraud_score"))
    labels = second_opinions.labels_shown_to(viewer, Label.objects.filter(transaction__in=keys))
    known = verdicts.known(labels, before) if keys else {}
    return [
        Past(
            pk=row[0],
            transaction_id=row[1] or "",
            amount=row[2],
            event_time=row[3],
            fields=row[4],
            decision=row[5] or "",
            score=row[6],
            verdict=known.get(row[0]),
        )
        for row in rows.order_by("event_time").values_list(*COLUMNS)
    ]


def told_apart(schema: Schema) -> list[Entity]:
    """The entities without those that are made of another: what shares a card and its address shares the card."""
    names = set(schema.entity_names)
    return [entity for entity in schema.entities if not names & set(entity.of)]


def is_personal(schema: Schema, name: str) -> bool:
    """Whether an entity or value tells something personal."""
    made_of = {name} | {part for entity in schema.entities if entity.name == name for part in entity.of}
    return bool(made_of & schema.personal_names)
