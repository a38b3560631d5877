"""Months of decisions whose truth is known, with the labels that would have come by a time."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from monitoring.matured.counting import start_of
from scoring.decisions import ALERTS, Decision
from scoring.models import Client, Label, Prediction, Review, ReviewQueue, SampledPeriod, Transaction
from scoring.worker.opening import review_of
from training.models import ModelVersion

# Of the control group and of the random sample.
SHARE, SAMPLED = 0.1, 0.05
RULES = ("night abroad", "many small amounts")


class Truth(NamedTuple):
    """Of alerts that would have been, and of all decisions: how many there are, and how many are fraud."""

    alerts: int
    caught: int
    frauds: int

    @property
    def precision(self) -> float:
        return self.caught / self.alerts

    @property
    def recall(self) -> float:
        return self.caught / self.frauds


def decisions(
    version: ModelVersion,
    client: Client,
    *,
    days: int,
    a_day: int,
    now: datetime,
    known_at: datetime | None = None,
    seed: int = 0,
    unreported: float = 0.4,
    delay_days: float = 20.0,
) -> Truth:
    """Store `a_day` decisions on each of the `days` before `now`.

    A third of the frauds is no alert. Of blocked transactions nobody labels any, analysts label those under review in
    two days; chargebacks come `delay_days` later in the mean, but for a share `unreported` of the missed frauds, which
    only the random sample finds.
    """
    random, first = np.random.default_rng(seed), start_of((now - timedelta(days=days)).date())
    queues = [ReviewQueue.objects.get_or_create(name=name, position=at)[0] for at, name in enumerate(("Large", "Rest"))]
    SampledPeriod.objects.create(since=first - timedelta(days=1), until=now)
    number = days * a_day
    fraud = random.random(number) < 0.03
    alert = np.where(fraud, random.random(number) < 0.65, random.random(number) < 0.012)
    rows, predictions, reviews = [], [], []
    labels: list[Label] = []
    for i in range(number):
        at = first + timedelta(days=i // a_day, seconds=float(random.uniform(0, 86_400)))
        amount = round(float(random.lognormal(4 + fraud[i], 0.8)), 2)
        row = Transaction(client=client, schema=version.schema, amount=amount, fields={"Amount": amount})
        row.body_sha256, row.event_time, row.received_at = "0" * 64, at, at
        would = Decision(random.choice(["block", "review"])) if alert[i] else Decision.APPROVE
        through = bool(alert[i] and random.random() < SHARE)
        why: dict = {}
        if alert[i]:
            why = {"control": {"would": would, "propensity": SHARE, "let_through": through}}
            why["rules"] = [{"rule": RULES[i % 2], "action": would, "state": "active"}] if random.random() < 0.7 else []
        made = Prediction(transaction=row, model_version=version, fraud_score=0.9 if alert[i] else 0.1)
        made.decision, made.threshold, made.latency_ms = Decision.APPROVE if through else would, 0.5, 4.0
        made.created_at, made.evidence = at, why
        rows.append(row)
        predictions.append(made)
        if made.decision in ALERTS:
            opened = review_of(made)
            opened.queue = queues[amount < 120]
            reviews.append(opened)
        elif not through and random.random() < SAMPLED:
            drawn = review_of(made)
            drawn.is_sample, drawn.sample_probability = True, SAMPLED
            reviews.append(drawn)
        labels += _labels(made, reviews[-1] if reviews else None, bool(fraud[i]), random, unreported, delay_days)
    Transaction.objects.bulk_create(rows, batch_size=2_000)
    Prediction.objects.bulk_create(predictions, batch_size=2_000)
    Review.objects.bulk_create(reviews, batch_size=2_000)
    Label.objects.bulk_create([label for label in labels if label.created_at < (known_at or now)], batch_size=2_000)
    return Truth(int(alert.sum()), int((alert & fraud).sum()), int(fraud.sum()))


def _labels(
    made: Prediction,
    last: Review | None,
    is_fraud: bool,
    random: np.random.Generator,
    unreported: float,
    delay_days: float,
) -> Iterator[Label]:
    """The labels that will come of a decision, each with the time of its arrival."""

    def label(fraud: bool, source: str, days: float) -> Label:
        at = made.created_at + timedelta(days=days)
        kind = Label.Kind.FRAUD if fraud else Label.Kind.LEGITIMATE
        of = {"transaction": made.transaction, "source": source, "kind": kind, "event_time": at, "created_at": at}
        return Label(is_fraud=fraud, verdict=fraud, **of)

    review = last if last and last.prediction is made else None
    if review and made.decision != Decision.BLOCK:
        review.state = Review.State.FRAUD if is_fraud else Review.State.LEGITIMATE
        yield label(is_fraud, Label.Source.ANALYST, float(random.exponential(0.5)))
    if made.decision == Decision.APPROVE and is_fraud:
        let_through = bool(made.evidence and made.evidence.get("control"))
        if let_through or random.random() >= unreported:
            yield label(True, Label.Source.CHARGEBACK, 3 + float(random.gamma(4, delay_days / 4)))
