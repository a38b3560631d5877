"""Reads what is known of earlier decisions, and how decisions of a day are scored, for the estimator.

Decisions are in parts by what would have been decided: each kind of alert, and all others together. A part's outcomes
are known from

- alerts of matured days that somebody labelled or the control group let through, weighted as in
  `monitoring.matured.estimates`;
- alerts of open days that were labelled and not let through: of what was let through, only the frauds have been heard
  of so far;
- for what was no alert, the reported frauds and the random sample. What the sample finds of days that are still open
  stands for all that is not reported yet, so it counts as well.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np

from monitoring.label_free.estimator import Counted, Evidence, Judged, Scores
from monitoring.matured import bands, estimates, selectors
from monitoring.matured.estimates import Fate
from monitoring.matured.selectors import Banded, Window
from scoring.decisions import ALERTS

# So many days before a day tell of it.
LOOKED_BACK = timedelta(days=91)
OTHERS = "others"


def part_of(decision: str) -> str:
    return decision if decision in ALERTS else OTHERS


def banded(window: Window) -> dict[Fate, Banded]:
    """The sums of the one version of a window, by fate."""
    return selectors.banded(window).get(window.version, {})


def scores(of: Iterable[Banded]) -> Scores:
    """The scores of some decisions."""
    parts = list(of)
    rows = np.sum([part["rows"] for part in parts], axis=0) if parts else np.zeros(bands.COUNT)
    total = np.sum([part["score"] for part in parts], axis=0) if parts else np.zeros(bands.COUNT)
    return Scores(rows, _means(total, rows))


def before(window: Window) -> dict[str, Evidence]:
    """What is known of the days before a window's, by part. Parts without alerts are left out."""
    earlier = replace(window, since=window.since - LOOKED_BACK, until=window.since - timedelta(days=1))
    matured = earlier.matured
    still_open = replace(earlier, since=max(earlier.since, earlier.matured_before))
    of_open = {fate: sums for fate, sums in banded(still_open).items() if not fate.let_through}
    of_matured = banded(matured)
    covered = estimates.coverage(selectors.counts(matured).get((), {}))
    found: dict[str, Evidence] = {
        decision: judged(decision, [of_matured, of_open], covered) for decision in sorted(map(str, ALERTS))
    }
    sums = selectors.counts(earlier).get((), {})
    found[OTHERS] = counted([*_of_others(of_matured), *_of_others(of_open)], estimates.missed(sums))
    return found


def judged(decision: str, parts: Iterable[Mapping[Fate, Banded]], covered: Mapping[str, float]) -> Judged:
    """What is known of the alerts with this decision."""
    weight, frauds, score, rows = (np.zeros(bands.COUNT) for _ in range(4))
    squares = 0.0
    for part in parts:
        for fate, sums in part.items():
            if fate.decision != decision:
                continue
            each = estimates.weight(fate, covered)
            known = sums["rows"] - sums["undecided"] if fate.let_through else sums["labelled"]
            weight += each * known
            frauds += each * sums["frauds"]
            squares += each**2 * float(known.sum())
            score += sums["score"]
            rows += sums["rows"]
    return Judged(weight, np.minimum(frauds, weight), _means(score, rows), squares)


def counted(others: Iterable[Banded], missed: estimates.Missed) -> Counted | None:
    """What is known of decisions that were no alerts; None without a judged sample."""
    if not missed.judged:
        return None
    variance = missed.reported + missed.unreported_square
    return Counted(scores(others), missed.value, variance, max(1.0, missed.judged_weight / missed.judged))


def _of_others(part: Mapping[Fate, Banded]) -> list[Banded]:
    return [sums for fate, sums in part.items() if fate.decision not in ALERTS]


def _means(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The mean score of each band, [bands.COUNT]; of an empty band where it begins."""
    return np.divide(total, rows, out=bands.EDGES.copy(), where=rows > 0)
