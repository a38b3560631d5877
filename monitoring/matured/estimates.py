"""From counts of outcomes to precision, recall and money, each with its 95 % interval. Pure: no database, no clock.

An alert whose outcome is known stands for 1/π of those that the control group could have, as
`scoring.learning.outcomes` has it; precision is the weighted share of fraud. Its interval is Wilson's (1927), with the
effective number of alerts (Kish, Survey Sampling, 1965).

Missed frauds are those that somebody reports, and of those that nobody reports the estimate by the random sample
(`scoring.policies.missed`). The interval of recall takes each count of frauds as Poisson, and a weighted one as an
effective count (Fay and Feuer, Confidence Intervals for Directly Standardized Rates: A Method Based on the Gamma
Distribution, 1997), under Jeffreys' prior, so that few frauds, or none in the sample, give a wide interval and never a
certain one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from math import sqrt
from typing import NamedTuple

import numpy as np

from scoring.decisions import ALERTS, Decision
from scoring.policies.backtesting import WITHIN_95, Share

DRAWS = 2_000
PRIOR = 0.5


@dataclass
class Sums:
    """The sums of `OutcomeCount`, over any number of days."""

    rows: int = 0
    labelled: int = 0
    undecided: int = 0
    frauds: int = 0
    fraud_amount: float = 0.0
    fraud_square: float = 0.0
    reported: int = 0
    drawn: int = 0
    judged: int = 0
    drawn_weight: float = 0.0
    judged_weight: float = 0.0
    unreported: float = 0.0
    unreported_square: float = 0.0


SUMS = tuple(field.name for field in fields(Sums))


class Fate(NamedTuple):
    """What would have been decided, with which chance it was let through by the control group (0: it could not be),
    and whether it was."""

    decision: str
    propensity: float = 0.0
    let_through: bool = False


class Money(NamedTuple):
    """An amount with its interval."""

    value: float
    low: float
    high: float


class Costs(NamedTuple):
    """What an alert costs in work, and what it costs to block an honest payment; in the schema's currency."""

    review: float = 0.0
    blocked: float = 0.0


@dataclass(frozen=True)
class Caught:
    """What is known of alerts, in weighted numbers of transactions, and of money in the schema's currency."""

    alerts: float = 0.0
    known: float = 0.0  # alerts with a known outcome, unweighted
    weight: float = 0.0
    weight_square: float = 0.0
    frauds: float = 0.0
    frauds_square: float = 0.0
    stopped: float = 0.0
    stopped_square: float = 0.0
    worked: float = 0.0
    blocked_honest: float = 0.0

    @property
    def precision(self) -> Share:
        """The share of fraud among alerts whose outcome is known; None if none is."""
        if not self.weight:
            return Share()
        effective = self.weight**2 / self.weight_square
        return Share.of(self.frauds / self.weight * effective, effective)

    def saved(self, costs: Costs, further_reviews: int = 0) -> Money:
        """The amounts of the frauds that were stopped, less the work of reviews, those of the random sample among them,
        and of honest payments that were blocked. The interval is that of the frauds: what chance alone would change."""
        cost = costs.review * (self.worked + further_reviews) + costs.blocked * self.blocked_honest
        value, reach = self.stopped - cost, WITHIN_95 * sqrt(self.stopped_square)
        return Money(value, value - reach, value + reach)


@dataclass(frozen=True)
class Missed:
    """Frauds that were no alerts: those that are `reported`, and of the others the estimate of the random sample,
    `judged` of whose `drawn` transactions were looked at."""

    reported: int = 0
    drawn: int = 0
    judged: int = 0
    judged_weight: float = 0.0
    unreported: float = 0.0
    unreported_square: float = 0.0

    @property
    def value(self) -> float:
        return max(0.0, self.reported + self.unreported)


def coverage(counts: Mapping[Fate, Sums]) -> dict[str, float]:
    """The share of would-be alerts that the control group could have, and did not let through, that has a label: by
    what would have been decided."""
    rows: Counter[str] = Counter()
    labelled: Counter[str] = Counter()
    for fate, sums in counts.items():
        if fate.propensity and not fate.let_through:
            rows[fate.decision] += sums.rows
            labelled[fate.decision] += sums.labelled
    return {decision: labelled[decision] / number for decision, number in rows.items() if number}


def weight(fate: Fate, covered: Mapping[str, float]) -> float:
    """How many alerts one with a known outcome stands for: `scoring.learning.outcomes.Coverage.weight`."""
    if not fate.propensity:
        return 1.0
    return 1 / (fate.propensity + (1 - fate.propensity) * covered.get(fate.decision, 0.0))


def caught(counts: Mapping[Fate, Sums], covered: Mapping[str, float]) -> Caught:
    """What is known of the alerts among these counts, if labels cover as much of each decision."""
    found: dict[str, float] = defaultdict(float)
    for fate, sums in counts.items():
        if fate.decision not in ALERTS:
            continue
        each = weight(fate, covered)
        # What was let through was approved: nobody complains about it, so it is legitimate.
        known = sums.rows - sums.undecided if fate.let_through else sums.labelled
        # What was let through was not stopped, and stands for others that were.
        stopping = each - fate.let_through
        found["alerts"] += sums.rows
        found["known"] += known
        found["weight"] += each * known
        found["weight_square"] += each**2 * known
        found["frauds"] += each * sums.frauds
        found["frauds_square"] += each**2 * sums.frauds
        found["stopped"] += stopping * sums.fraud_amount
        found["stopped_square"] += stopping**2 * sums.fraud_square
        found["worked"] += 0 if fate.let_through else sums.rows
        if fate.decision == Decision.BLOCK:
            found["blocked_honest"] += stopping * (known - sums.frauds)
    return Caught(**found)


def missed(counts: Mapping[Fate, Sums]) -> Missed:
    """The missed frauds of these counts. The sample's reviews that nobody has decided are represented by the others."""
    others = added(sums for fate, sums in counts.items() if fate.decision not in ALERTS)
    factor = others.drawn_weight / others.judged_weight if others.judged_weight else 0.0
    return Missed(
        reported=others.reported,
        drawn=others.drawn,
        judged=others.judged,
        judged_weight=factor * others.judged_weight,
        unreported=factor * others.unreported,
        unreported_square=factor**2 * others.unreported_square,
    )


def recall(of: Caught, all_caught: Caught, missed: Missed) -> Share:
    """The share of all frauds that some alerts caught. None without a judged random sample, as then nobody knows how
    many frauds nobody reports, and without any fraud."""
    if not missed.judged or all_caught.frauds + missed.value <= 0:
        return Share()
    draws = np.random.default_rng(0)
    by_these = _drawn(draws, of.frauds, of.frauds_square, _scale(of.weight_square, of.weight))
    others = (all_caught.frauds - of.frauds, all_caught.frauds_square - of.frauds_square)
    by_others = _drawn(draws, *others, 1.0) if others[0] > 1e-9 else 0.0
    reported = _drawn(draws, missed.reported, missed.reported, 1.0)
    unreported = _drawn(draws, missed.unreported, missed.unreported_square, missed.judged_weight / missed.judged)
    low, high = np.quantile(by_these / (by_these + by_others + reported + unreported), [0.025, 0.975]).tolist()
    value = of.frauds / (all_caught.frauds + missed.value)
    return Share(value, min(low, value), max(high, value))


def at_most(of: Caught, all_caught: Caught, missed: Missed) -> float | None:
    """Recall among known frauds: there may be more that nobody reports, so recall is at most that. None without any."""
    known = all_caught.frauds + missed.reported
    return of.frauds / known if known else None


def final(counts: Mapping[Fate, Sums], *, is_matured: bool) -> tuple[int, int]:
    """How many decisions have a final outcome, and how many there are. A label is one; once it is matured, that nobody
    has said anything of an approved transaction is one, too."""
    known = total = 0
    for fate, sums in counts.items():
        is_silent = is_matured and (fate.decision == Decision.APPROVE or fate.let_through)
        known += sums.rows - sums.undecided if is_silent else sums.labelled
        total += sums.rows
    return known, total


def added(parts: Iterable[Sums]) -> Sums:
    found = Sums()
    for part in parts:
        for name in SUMS:
            setattr(found, name, getattr(found, name) + getattr(part, name))
    return found


def _drawn(random: np.random.Generator, total: float, squares: float, scale: float) -> np.ndarray:
    """Draws of a weighted count of frauds, given its sum of weights and of their squares. `scale` is what one would
    weigh if there are none."""
    if total > 0 and squares > 0:
        scale = squares / total
    return random.gamma(max(0.0, total) / scale + PRIOR, scale, DRAWS)


def _scale(squares: float, total: float) -> float:
    return squares / total if total else 1.0
