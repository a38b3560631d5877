"""Estimates from counts of outcomes are right where the known labels alone mislead, and their intervals are honest."""

import numpy as np
import pytest

from monitoring.matured import estimates
from monitoring.matured.estimates import Caught, Costs, Fate, Missed, Sums, caught, coverage, missed, recall
from monitoring.tests.generated import SAMPLED, SHARE

BLOCKED, THROUGH, REVIEWED = Fate("block", SHARE), Fate("block", SHARE, True), Fate("review")
APPROVED = Fate("approve")


def month(random, *, alerts=600, approved=30_000):
    """Counts of a month whose truth is known: of blocked transactions 30 % are fraud and nobody labels them; of those
    under review, which all are labelled, 90 %. One of 500 approved is fraud, and six of ten of these are reported."""
    blocked, reviewed = random.binomial(1, 0.3, alerts), random.binomial(1, 0.9, alerts)
    through = random.random(alerts) < SHARE
    fraud = random.random(approved) < 0.002
    reported = fraud & (random.random(approved) < 0.6)
    drawn = random.random(approved) < SAMPLED
    new = (fraud & ~reported & drawn).sum()
    sums = {
        BLOCKED: Sums(rows=int((~through).sum())),
        THROUGH: of_frauds(int(through.sum()), int(blocked[through].sum()), labelled=int(blocked[through].sum())),
        REVIEWED: of_frauds(alerts, int(reviewed.sum()), labelled=alerts),
        APPROVED: Sums(
            rows=approved,
            reported=int(reported.sum()),
            drawn=int(drawn.sum()),
            judged=int(drawn.sum()),
            drawn_weight=drawn.sum() / SAMPLED,
            judged_weight=drawn.sum() / SAMPLED,
            unreported=new / SAMPLED,
            unreported_square=new / SAMPLED**2,
        ),
    }
    frauds = int(blocked.sum() + reviewed.sum())
    stopped = 10.0 * int(blocked[~through].sum() + reviewed.sum())
    return sums, frauds / (2 * alerts), frauds / (frauds + int(fraud.sum())), stopped


def of_frauds(rows, frauds, *, labelled):
    return Sums(rows=rows, labelled=labelled, frauds=frauds, fraud_amount=10.0 * frauds, fraud_square=100.0 * frauds)


def test_precision_recall_and_money_are_unbiased_and_within_their_intervals_where_labels_alone_mislead():
    random, found, naive, within = np.random.default_rng(5), [], [], []
    for _ in range(200):
        sums, precision, share, stopped = month(random)
        of_all = caught(sums, coverage(sums))
        recalled, saved = recall(of_all, of_all, missed(sums)), of_all.saved(Costs())
        found.append([of_all.precision.value - precision, recalled.value - share, saved.value / stopped - 1])
        within.append(
            [
                of_all.precision.low <= precision <= of_all.precision.high,
                recalled.low <= share <= recalled.high,
                saved.low <= stopped <= saved.high,
            ]
        )
        labelled = sum(each.labelled for fate, each in sums.items() if fate is not APPROVED)
        naive.append(sum(each.frauds for each in sums.values()) / labelled - precision)
    assert np.abs(np.mean(found, axis=0)).max() < 0.015
    assert np.mean(within, axis=0).min() >= 0.9
    assert np.mean(naive) > 0.25


def test_nobody_tells_recall_without_a_judged_sample_but_how_much_it_is_at_most():
    of_all = Caught(frauds=30.0, frauds_square=30.0)
    unknown = Missed(reported=10, drawn=50)
    assert recall(of_all, of_all, unknown).value is None
    assert estimates.at_most(of_all, of_all, unknown) == 0.75


def test_a_sample_without_fraud_leaves_recall_uncertain():
    of_all = Caught(frauds=30.0, frauds_square=30.0)
    small, large = (Missed(reported=10, drawn=n, judged=n, judged_weight=20_000.0) for n in (100, 10_000))
    assert recall(of_all, of_all, small).value == 0.75
    assert recall(of_all, of_all, small).low < 0.1
    assert recall(of_all, of_all, large).low > 0.5


def test_what_the_sample_has_not_judged_yet_is_represented_by_what_it_has():
    sums = Sums(
        rows=100, drawn=20, judged=10, drawn_weight=200, judged_weight=100, unreported=10, unreported_square=100
    )
    assert missed({APPROVED: sums}).value == 20


def test_parts_of_the_alerts_share_all_frauds_among_them():
    whole = Caught(frauds=40.0, frauds_square=40.0, weight=80.0, weight_square=80.0)
    part = Caught(frauds=10.0, frauds_square=10.0, weight=20.0, weight_square=20.0)
    of = Missed(reported=10, drawn=100, judged=100, judged_weight=100)
    assert recall(part, whole, of).value == 0.2
    assert recall(whole, whole, of).value == 0.8


def test_money_counts_what_was_stopped_less_work_and_honest_payments_that_were_blocked():
    sums = {Fate("block"): Sums(rows=4, labelled=4, frauds=3, fraud_amount=300.0, fraud_square=3e4), THROUGH: Sums()}
    of_all = caught(sums, coverage(sums))
    assert of_all.saved(Costs(review=2.0, blocked=15.0), further_reviews=5).value == 300 - 2 * 9 - 15


def test_without_any_alert_nothing_is_claimed():
    nothing = caught({APPROVED: Sums(rows=10)}, {})
    assert nothing.precision.value is None
    assert recall(nothing, nothing, missed({APPROVED: Sums(rows=10)})).value is None


@pytest.mark.parametrize("is_matured", [True, False])
def test_silence_about_an_approved_transaction_is_final_once_it_is_matured(is_matured):
    sums = {APPROVED: Sums(rows=10, labelled=2, undecided=1), REVIEWED: Sums(rows=5, labelled=3)}
    assert estimates.final(sums, is_matured=is_matured) == (12 if is_matured else 5, 15)
