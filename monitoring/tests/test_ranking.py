"""AUPRC and calibration by bands of the score: as of the decisions one by one, though most outcomes are not known."""

import numpy as np
import pytest

from monitoring.matured import bands
from monitoring.matured.estimates import Fate, Missed
from monitoring.matured.models import ScoreOutcome
from monitoring.matured.ranking import average_precision, ranked
from training.core import evaluation

THROUGH, HELD, APPROVED = Fate("block", 0.2, True), Fate("block", 0.2), Fate("approve")
SAMPLED = 0.1


def decisions(seed, rows=40_000, off=0.0):
    """Scores and labels of decisions; true log odds are `off` from those of the scores."""
    random = np.random.default_rng(seed)
    scores = random.beta(0.05, 1.5, rows)
    odds = scores / (1 - scores) * np.exp(off)
    return scores, (random.random(rows) < odds / (1 + odds)).astype(np.int8)


def banded(**values):
    """Sums by bands of so many values each, given with the scores of the rows."""
    found = {name: np.zeros(bands.COUNT) for name in ScoreOutcome.BANDED}
    scores = values.pop("scores")
    for name, each in {"rows": np.ones(len(scores)), "score": scores, **values}.items():
        found[name] = np.bincount(bands.bands_of(scores), each, bands.COUNT).astype(float)
    return found


def known_of(decided, seed):
    """What is known of decisions that are blocked from 0.5 on: a fifth is let through, nobody labels what was blocked;
    of the others, half of the frauds are reported and a tenth of all is judged."""
    (scores, labels), random = decided, np.random.default_rng(seed)
    alert, draw = scores >= 0.5, random.random(len(scores))
    through, held = alert & (draw < 0.2), alert & (draw >= 0.2)
    others = scores[~alert]
    reported = (labels[~alert] == 1) & (draw[~alert] < 0.5)
    unreported = ((labels[~alert] == 1) & ~reported & (random.random(len(others)) < SAMPLED)) / SAMPLED
    sums = {
        THROUGH: banded(scores=scores[through], frauds=labels[through], labelled=labels[through]),
        HELD: banded(scores=scores[held]),
        APPROVED: banded(
            scores=others, reported=reported, unreported=unreported, unreported_square=unreported / SAMPLED
        ),
    }
    judged = int(len(others) * SAMPLED)
    missed = Missed(int(reported.sum()), judged, judged, float(len(others)), float(unreported.sum()), 0.0)
    return ranked(sums, {"block": 0.0}, missed)


@pytest.mark.parametrize("seed", range(5))
def test_bands_rank_as_the_decisions_themselves(seed):
    scores, labels = decisions(seed)
    rows = np.bincount(bands.bands_of(scores), minlength=bands.COUNT).astype(float)
    frauds = np.bincount(bands.bands_of(scores), labels, bands.COUNT)
    exact = evaluation.Ranking(labels, scores, threshold=0.5).metrics()["auprc"]
    assert float(average_precision(frauds, rows)) == pytest.approx(exact, abs=0.01)


def test_what_is_known_tells_the_auprc_of_all_within_its_interval():
    within, errors = [], []
    for seed in range(40):
        scores, labels = decisions(seed)
        exact = evaluation.Ranking(labels, scores, threshold=0.5).metrics()["auprc"]
        found = known_of((scores, labels), seed).auprc
        within.append(found.low <= exact <= found.high)
        errors.append(found.value - exact)
    assert np.mean(within) >= 0.9
    assert abs(np.mean(errors)) < 0.02


@pytest.mark.parametrize(("off", "low", "high"), [(0.0, 0.85, 1.0), (1.0, 0.0, 0.6)])
def test_calibrated_scores_lie_on_the_line_and_others_do_not(off, low, high):
    on_line = []
    for seed in range(12):
        for group in known_of(decisions(seed, off=off), seed).groups:
            on_line.append(group.share.low <= group.score <= group.share.high)
    assert low <= np.mean(on_line) <= high


def test_groups_have_all_decisions_and_rise():
    found = known_of(decisions(1), 1)
    assert sum(group.rows for group in found.groups) == pytest.approx(40_000)
    assert [group.score for group in found.groups] == sorted(group.score for group in found.groups)
    assert len(found.groups) > 5


def test_without_any_fraud_nothing_is_claimed():
    nothing = ranked({APPROVED: banded(scores=np.array([0.1, 0.2]))}, {}, Missed())
    assert nothing.auprc.value is None
    assert not nothing.is_sampled
    assert ranked({}, {}, Missed()).groups == []
