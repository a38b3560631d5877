"""Decisions as a training set reads them: of stored transactions, and of the archive alike."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet

from scoring.decisions import Decision
from scoring.learning import archive, outcomes
from scoring.learning.archive import Archived
from scoring.learning.outcomes import Coverage
from scoring.models import Label, Prediction
from scoring.policies import evidence
from scoring.policies.evidence import Draw
from scoring.policies.missed import reported_by_others
from scoring.policies.stored import rows_of
from training.core.schema import Schema

PAGE = 5_000
COLUMNS = (
    *("pk", "created_at", "fraud_score", "decision", "model_version_id", "evidence", "derived"),
    *("transaction__event_time", "transaction__fields", "transaction__tokens", "review__sample_probability"),
)


class Decided(NamedTuple):
    """A decision, what it was made of, and what was known of it at a time. Of the archive, `key` and `tokens` are
    empty.

    `verdict` is what its labels say, and `is_disputed` whether it has labels of which none holds, or one that does.
    `sampled` is the chance with which it was drawn for the random sample that alone found its fraud, else 1.
    """

    key: str
    decided_at: datetime
    fraud_score: float
    decision: str
    model_version: str
    draw: Draw | None
    event_time: datetime
    values: dict[str, Any]
    derived: dict[str, float | None]
    tokens: dict[str, str]
    verdict: bool | None
    is_disputed: bool
    sampled: float


def pages(schema: Schema, until: datetime, as_of: datetime) -> Iterator[list[Decided]]:
    """The decisions about a schema's transactions before a time, with what was known of them at another: those of the
    archive, then the stored ones, the oldest first.

    Raises:
        StoreUnavailable, ArchiveBroken: the archive cannot be read.
    """
    for part in archive.pages(schema, until):
        yield [_archived(row, as_of) for row in part]
    found = _stored(schema, until).order_by("created_at", "pk")
    after = Q()
    while page := list(found.filter(after).values_list(*COLUMNS)[:PAGE]):
        yield list(_living(page, as_of))
        key, moment = page[-1][:2]
        after = Q(created_at__gte=moment) & (Q(created_at__gt=moment) | Q(pk__gt=key))


def coverage(schema: Schema, until: datetime, as_of: datetime) -> Coverage:
    """How many of the alerts before a time that the control group could have were labelled at another."""
    counted = Coverage()
    for part in archive.pages(schema, until):
        alerts = [(row.draw, row.known(as_of)) for row in part if row.draw and row.decision != Decision.APPROVE]
        told = {place: labels[-1].verdict if labels else None for place, (_, labels) in enumerate(alerts)}
        counted.add([(place, draw) for place, (draw, _) in enumerate(alerts)], told)
    stored = _stored(schema, until).exclude(decision=Decision.APPROVE).filter(evidence__control__isnull=False)
    of_page: list[tuple[UUID, Draw]] = []

    def count() -> None:
        counted.add(of_page, outcomes.known([key for key, _ in of_page], as_of))
        of_page.clear()

    for key, why in stored.values_list("pk", "evidence").iterator(PAGE):
        if draw := evidence.read(why).control:
            of_page.append((key, draw))
        if len(of_page) == PAGE:
            count()
    count()
    return counted


def _stored(schema: Schema, until: datetime) -> QuerySet[Prediction]:
    found = rows_of(schema, datetime.min.replace(tzinfo=until.tzinfo), until)
    last = archive.boundary().last
    return found.filter(pk__gt=last) if last else found


def _archived(row: Archived, as_of: datetime) -> Decided:
    labels = row.known(as_of)
    verdict = labels[-1].verdict if labels else None
    is_found_by_sample = bool(row.chance and verdict) and not archive.is_reported(labels)
    return Decided(
        key="",
        decided_at=row.decided_at,
        fraud_score=row.fraud_score,
        decision=row.decision,
        model_version=row.model_version,
        draw=row.draw,
        event_time=row.event_time,
        values=row.values,
        derived=row.derived,
        tokens={},
        verdict=verdict,
        is_disputed=bool(labels),
        sampled=row.chance if row.chance and is_found_by_sample else 1.0,
    )


def _living(page: list[tuple[Any, ...]], as_of: datetime) -> Iterator[Decided]:
    known = outcomes.known([row[0] for row in page], as_of)
    chances = _of_found_by_sample(page, known, as_of)
    for key, decided_at, score, decision, version, why, derived, event_time, fields, tokens, _ in page:
        yield Decided(
            key=str(key),
            decided_at=decided_at,
            fraud_score=score,
            decision=decision,
            model_version=version,
            draw=evidence.read(why).control,
            event_time=event_time,
            values=fields,
            derived=derived or {},
            tokens=tokens or {},
            verdict=known.get(key),
            is_disputed=key in known,
            sampled=chances.get(key, 1.0),
        )


def _of_found_by_sample(
    page: list[tuple[Any, ...]], known: Mapping[UUID, bool | None], as_of: datetime
) -> dict[UUID, float]:
    """The frauds that only an analyst found, in the random sample, with the chance that they were drawn."""
    chances = {key: chance for key, *_, chance in page if chance and known.get(key)}
    if not chances:
        return {}
    reported = reported_by_others(Label.objects.filter(transaction__in=list(chances), created_at__lte=as_of))
    return {key: chance for key, chance in chances.items() if key not in reported}
