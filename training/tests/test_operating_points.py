"""The counts behind the slider are those that a count of the rows would give."""

import numpy as np
import pytest

from training.core.evaluation.operating_points import operating_points
from training.core.scored import ScoredRows


def made_up(rows, frauds, *, seed=0, amounts=True):
    random = np.random.default_rng(seed)
    labels = (np.arange(rows) < frauds).astype(np.int8)
    # Of three digits, so that many scores are equal.
    scores = random.beta(np.where(labels == 1, 3, 1), np.where(labels == 1, 1, 20)).round(3)
    return ScoredRows(
        labels, scores, random.uniform(1, 100, rows).astype(np.float32) if amounts else np.full(rows, np.nan)
    )


@pytest.fixture(params=[(40, 5), (20_000, 60), (5_000, 2_000)], ids=str)
def scored(request):
    return {"validation": made_up(*request.param), "test": made_up(*request.param, seed=1)}


def test_every_count_is_exact_on_both_parts(scored):
    found = operating_points(scored, marked=[0.123])
    for part, (labels, scores, amounts) in scored.items():
        counted, fraud = found.parts[part], labels == 1
        assert (counted.rows, counted.frauds) == (len(labels), fraud.sum())
        assert counted.fraud_amount == pytest.approx(amounts[fraud].sum(dtype=float), abs=0.01)
        at_each = zip(found.thresholds, counted.alerts, counted.caught, counted.missed or [], strict=True)
        for threshold, *counts in at_each:
            alert = scores >= threshold
            missed = amounts[fraud & ~alert].sum(dtype=float)
            assert counts == [alert.sum(), (alert & fraud).sum(), pytest.approx(missed, abs=0.01)]


def test_there_are_few_thresholds_and_the_marked_ones_are_among_them(scored):
    found = operating_points(scored, marked=[0.123, 0.456], limit=50).thresholds
    assert len(found) <= 52
    assert found == sorted(set(found))
    assert {0.123, 0.456} <= set(found)


def test_with_few_frauds_each_number_of_caught_ones_can_be_chosen():
    rows = made_up(20_000, 60)
    caught = operating_points({"validation": rows}).parts["validation"].caught
    possible = {int((rows.scores[rows.labels == 1] >= score).sum()) for score in rows.scores[rows.labels == 1]}
    assert possible <= set(caught)


def test_without_amounts_there_is_no_money():
    counted = operating_points({"validation": made_up(100, 10, amounts=False)}).parts["validation"]
    assert (counted.fraud_amount, counted.missed) == (None, None)
    assert max(counted.caught) == 10
