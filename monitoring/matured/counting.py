"""Counts what became of the decisions of one day, of each client and of all together: for `OutcomeCount` and, by bands
of the score, `ScoreOutcome`.

The rules are those of `scoring.learning.outcomes` and `scoring.policies.missed`. What is most of the traffic, approved
without a label, is counted by the database; alerts, the control group, the random sample and what has labels are read
in pages.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.db.models import BigIntegerField, Count, Exists, F, OuterRef, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce

from monitoring.matured import delays
from monitoring.matured.bands import BAND_OF_BIN
from monitoring.matured.models import LabelDelay, OutcomeCount, ScoreOutcome
from monitoring.rollups.counting import ALL_CLIENTS
from scoring.decisions import ALERTS, Decision
from scoring.models import Client, Label, Prediction, Review, SampledPeriod
from scoring.policies import evidence
from scoring.policies.bins import bin_of, bins_of
from scoring.reviews import bulk, verdicts  # noqa: F401  # bulk registers the lookup `among`
from scoring.reviews.models import LabelKind, LabelSource
from training.models import ModelVersion

PAGE = 5_000
RULE, QUEUE = "rule", "queue"
NO_QUEUE = "no queue"
COLUMNS = (
    *("pk", "created_at", "model_version_id", "decision", "evidence", "transaction__amount", "number"),
    *("review__is_sample", "review__sample_probability", "review__state", "review__decided_by_default"),
    *("review__queue__name", "fraud_score", "transaction__client_id"),
)


class Key(NamedTuple):
    """What tells a count from the others of its day: see `OutcomeCount`."""

    model_version_id: str
    policy: int
    decision: str
    propensity: float = 0.0
    let_through: bool = False
    by: str = ""
    name: str = ""
    client: int = ALL_CLIENTS

    @property
    def fate(self) -> "Key":
        """What tells it from the others of its day in `ScoreOutcome`."""
        return self._replace(policy=0)


class Row(NamedTuple):
    """A decision that has to be looked at."""

    key: UUID
    at: datetime
    version: str
    decision: str
    evidence: Any
    amount: float
    policy: int
    is_sample: bool | None
    probability: float | None
    state: str | None
    is_default: bool | None
    queue: str | None
    score: float
    client: int


class Counts(NamedTuple):
    """The counts of a day, not saved."""

    outcomes: list[OutcomeCount]
    scores: list[ScoreOutcome]
    delays: list[LabelDelay]


# The sums of a day by key, and by key and band.
ByKey = dict[Key, Counter[str]]
ByBand = dict[Key, dict[str, Counter[int]]]


def start_of(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def count(day: date) -> Counts:
    start = start_of(day)
    of_day = Prediction.objects.filter(created_at__gte=start, created_at__lt=start + timedelta(days=1))
    of_day = of_day.annotate(number=Coalesce("policy__number", 0))
    schemas = dict(ModelVersion.objects.values_list("pk", "schema"))
    periods = _sampled_periods(start)
    counts: ByKey = defaultdict(Counter)
    bands: ByBand = defaultdict(lambda: defaultdict(Counter))
    delayed: dict[tuple[str, str, int], Counter[int]] = defaultdict(Counter)
    seen: Counter[tuple[int, str, int, int]] = Counter()
    for page in _pages(of_day):
        labels = _labels({row.key for row in page})
        for row, bin_ in zip(page, bins_of(np.array([row.score for row in page])).tolist(), strict=True):
            given = labels.get(row.key, [])
            for of_all, sums in _contributions(row, given, periods):
                for key in (of_all, of_all._replace(client=row.client)):
                    counts[key].update(sums)
                    if not key.by:
                        _add(bands[key.fate], int(BAND_OF_BIN[bin_]), {**sums, "score": row.score})
            seen[row.client, row.version, row.policy, bin_] += row.decision == Decision.APPROVE
            for source, delay in _delays(row.at, given):
                for client in (ALL_CLIENTS, row.client):
                    delayed[schemas[row.version], source, client][delay] += 1
    _add_the_rest(counts, bands, of_day, seen)
    return Counts(
        [
            OutcomeCount(day=day, schema=schemas[key.model_version_id], **key._asdict(), **sums)
            for key, sums in counts.items()
            if sums["rows"]
        ],
        [_of_scores(day, schemas[key.model_version_id], key, sums) for key, sums in bands.items()],
        [
            LabelDelay(
                day=day,
                schema=schema,
                source=source,
                client=client,
                counts={str(bin_): n for bin_, n in found.items()},
            )
            for (schema, source, client), found in delayed.items()
        ],
    )


def _add(sums: dict[str, Counter[int]], band: int, added: Mapping[str, float]) -> None:
    for name in ScoreOutcome.BANDED:
        if value := added.get(name, 0):
            sums[name][band] += value  # type: ignore[assignment]  # a counter of floats counts as well


def _of_scores(day: date, schema: str, key: Key, sums: Mapping[str, Counter[int]]) -> ScoreOutcome:
    kept = {name: {str(band): round(value, 9) for band, value in sorted(of.items())} for name, of in sums.items()}
    return ScoreOutcome(
        day=day,
        schema=schema,
        model_version_id=key.model_version_id,
        decision=key.decision,
        propensity=key.propensity,
        let_through=key.let_through,
        client=key.client,
        sums=kept,
    )


def _pages(of_day: QuerySet[Prediction]) -> Iterator[list[Row]]:
    """The decisions that are more than a number, in pages."""
    labels, samples = Label.objects.filter(transaction=OuterRef("pk")), Review.objects.filter(pk=OuterRef("pk"))
    told = ~Q(decision=Decision.APPROVE) | Q(evidence__control__isnull=False)
    rows = of_day.filter(told | Exists(labels) | Exists(samples)).order_by("created_at", "pk")
    after = Q()
    while page := [Row(*row) for row in rows.filter(after).values_list(*COLUMNS)[:PAGE]]:
        yield page
        last = page[-1]
        after = Q(created_at__gte=last.at) & (Q(created_at__gt=last.at) | Q(pk__gt=last.key))


def _labels(keys: set[UUID]) -> dict[UUID, list[Label]]:
    """The labels of these transactions, each in the order of their arrival."""
    given = Label.objects.filter(transaction__pk__among=keys).order_by("transaction", "created_at", "pk")
    of_each = groupby(given.only(*_LABEL_FIELDS), key=lambda label: label.transaction_id)
    return {key: list(labels) for key, labels in of_each}


_LABEL_FIELDS = ("transaction_id", "source", "kind", "is_fraud", "verdict", "event_time", "created_at")


def _contributions(
    row: Row, given: list[Label], periods: Iterable[tuple[datetime, datetime]]
) -> Iterator[tuple[Key, Mapping[str, float]]]:
    """What a decision adds to which counts."""
    why = evidence.read(row.evidence)
    draw = why.control
    verdict = given[-1].verdict if given else None
    sums: dict[str, float] = {
        "rows": 1,
        "labelled": verdict is not None,
        "undecided": bool(given) and verdict is None,
    }
    if verdict:
        sums |= {"frauds": 1, "fraud_amount": row.amount, "fraud_square": row.amount**2}
    key = Key(row.version, row.policy, row.decision)
    if draw:
        key = key._replace(decision=draw.would, propensity=draw.propensity, let_through=draw.let_through)
    if key.decision not in ALERTS:
        yield key, sums | _missed(row, given, bool(verdict), periods)
        return
    yield key, sums
    for rule in dict.fromkeys(why.active_rules):
        yield key._replace(by=RULE, name=rule), sums
    if row.state is not None:
        yield key._replace(by=QUEUE, name=row.queue or NO_QUEUE), sums


def _missed(
    row: Row, given: list[Label], is_fraud: bool, periods: Iterable[tuple[datetime, datetime]]
) -> dict[str, float]:
    """What a decision that is no alert adds to the estimate of missed frauds: see `scoring.policies.missed`."""
    by_others = verdicts.holding(label for label in given if label.source != LabelSource.ANALYST)
    reported = bool(by_others and by_others.is_fraud)
    could_be_drawn = row.decision == Decision.APPROVE and any(since < row.at <= until for since, until in periods)
    sums: dict[str, float] = {"reported": reported or (is_fraud and not could_be_drawn)}
    if row.is_sample and row.probability:
        weight = 1 / row.probability
        sums |= {"drawn": 1, "drawn_weight": weight}
        if row.state != Review.State.OPEN and not row.is_default:
            new = (row.state == Review.State.FRAUD) - reported
            sums |= {"judged": 1, "judged_weight": weight, "unreported": new * weight}
            sums["unreported_square"] = (new * weight) ** 2
    return sums


def _delays(decided_at: datetime, given: list[Label]) -> Iterator[tuple[str, int]]:
    """The source and the bin of the first word of each source."""
    first = {label.source: label for label in reversed(given) if label.kind != LabelKind.RETRACTED}
    for source, label in first.items():
        yield source, delays.bin_of(label.created_at - decided_at)


def _add_the_rest(counts: ByKey, bands: ByBand, of_day: Any, seen: Counter[tuple[int, str, int, int]]) -> None:
    """Count the approved that nobody has said anything about. `seen` are approved rows that are counted already, by
    client, version, policy and bin of the score."""
    approved: Any = of_day.filter(decision=Decision.APPROVE).annotate(bin=bin_of("fraud_score")).order_by()
    groups = approved.annotate(of=_client()).values_list("of", "model_version_id", "number", "bin")
    for client, version, number, bin_, total, score in groups.annotate(total=Count("*"), score=Sum("fraud_score")):
        # Others may have been stored since the pages were read: they are for the next count.
        rest = max(0, total - seen[client, version, number, bin_])
        for key in (Key(version, number, Decision.APPROVE, client=each) for each in (ALL_CLIENTS, client)):
            counts[key]["rows"] += rest
            # Within a bin, those that were seen score like the others.
            _add(bands[key.fate], int(BAND_OF_BIN[bin_]), {"rows": rest, "score": score * rest / total})


def _client() -> Any:
    """The client of a prediction. Where there is but one, nobody has to look at every transaction."""
    known = list(Client.objects.values_list("pk", flat=True)[:2])
    return Value(known[0], BigIntegerField()) if len(known) == 1 else F("transaction__client_id")


def _sampled_periods(start: datetime) -> list[tuple[datetime, datetime]]:
    found = SampledPeriod.objects.filter(until__gte=start, since__lt=start + timedelta(days=1))
    return list(found.values_list("since", "until"))
