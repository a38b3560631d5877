"""The queries of the dashboard and Prometheus: correct, at a cost that does not grow with the tables."""

from datetime import timedelta

import pytest
from django.utils import timezone

from monitoring import selectors
from monitoring.models import DriftReport
from monitoring.rollups import update_rollups
from monitoring.tests.support import NOON, fall_back, moments, predict
from scoring.models import Decision, Review
from scoring.reviews import labelling
from training import registry

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
QUERIES = {
    "traffic": (1, lambda: selectors.traffic(HOUR, now=NOON)),
    "decisions": (1, lambda: selectors.decisions(HOUR, now=NOON)),
    "review_outcomes": (2, lambda: selectors.review_outcomes(HOUR, now=NOON)),
    "open_reviews": (1, selectors.open_reviews),
    "fallbacks": (1, lambda: selectors.fallbacks(HOUR, now=NOON)),
    "unscored": (1, selectors.unscored),
    "latest_predictions": (
        2,
        lambda: [(row.transaction.amount, row.decision) for row in selectors.latest_predictions("ulb")],
    ),
    "latest_alerts": (
        2,
        lambda: [(row.transaction.amount, row.review.state) for row in selectors.latest_alerts("ulb")],
    ),
    "champion": (1, lambda: registry.champion_or_none("ulb")),
    "champions": (1, lambda: list(registry.champions())),
    "latest_drift": (1, lambda: selectors.latest_drift("ulb")),
}


def some_of_everything(version, client, count, seed):
    for decision in Decision:
        predict(version, client, moments(count, before=NOON, within=HOUR, seed=seed), decision=decision)
    fall_back(client, moments(count, before=NOON, within=HOUR, seed=seed))
    for _ in range(count):
        DriftReport.objects.create(
            created_at=NOON,
            model_version=version,
            window_start=NOON,
            window_end=NOON,
            samples=500,
            features={},
            score=0,
            status="stable",
        )
    update_rollups(now=NOON)


@pytest.mark.parametrize("name", QUERIES)
def test_it_asks_as_often_whatever_the_rows(champion, acme, django_assert_num_queries, name):
    queries, read = QUERIES[name]
    with django_assert_num_queries(queries):
        read()
    for count in (1, 40):
        some_of_everything(champion, acme, count, seed=count)
        with django_assert_num_queries(queries):
            read()


def test_of_empty_tables_it_says_nothing(db):
    traffic = selectors.traffic(HOUR)
    assert (traffic.transactions, traffic.alerts, traffic.mean_ms, traffic.p95_ms) == (0, 0, None, None)
    assert not any(traffic.score_histogram)
    assert selectors.review_outcomes(HOUR) == {"fraud": 0, "legitimate": 0, "open": 0}
    assert selectors.decisions(HOUR) == {"approve": 0, "challenge": 0, "review": 0, "block": 0}
    assert (selectors.fallbacks(HOUR), selectors.unscored()) == (0, selectors.Unscored(waiting=0, set_aside=0))
    assert (registry.champion_or_none("ulb"), list(registry.champions())) == (None, [])
    assert selectors.latest_drift("ulb") is None
    assert selectors.latest_predictions("ulb") == selectors.latest_alerts("ulb") == []


def test_traffic_adds_up_the_minutes_of_the_window(champion, acme):
    predict(champion, acme, [NOON, NOON], latencies_ms=[2.5, 3.5])
    predict(champion, acme, [NOON], decision=Decision.REVIEW, fraud_scores=[0.93], latencies_ms=[9.0])
    predict(champion, acme, [NOON - HOUR / 2], decision=Decision.BLOCK, fraud_scores=[0.99])
    predict(champion, acme, [NOON - HOUR])
    update_rollups(now=NOON)
    traffic = selectors.traffic(HOUR, now=NOON)
    assert traffic.minutes == [NOON - HOUR / 2, NOON]
    assert (traffic.approved, traffic.reviewed, traffic.blocked) == ([0, 2], [0, 1], [1, 0])
    assert (traffic.transactions, traffic.alerts) == (4, 2)
    assert traffic.latency_mean_ms == [4.0, 5.0]
    assert traffic.mean_ms == pytest.approx(4.75)
    assert traffic.p95_ms == pytest.approx(7 + 0.8 * (10 - 7))
    assert (sum(traffic.score_histogram), traffic.score_histogram[18], traffic.score_histogram[19]) == (4, 1, 1)


def test_outcomes_are_of_the_reviews_closed_within_the_window(champion, acme, alice):
    predict(champion, acme, [NOON] * 4, decision=Decision.REVIEW)
    first, second, third, _ = Review.objects.all()
    for review, is_fraud in ((first, True), (second, False), (third, True)):
        labelling.close_review(review=review, is_fraud=is_fraud, reviewer=alice)
    Review.objects.filter(pk=third.pk).update(closed_at=timezone.now() - HOUR)
    assert selectors.review_outcomes(HOUR / 2) == {"fraud": 1, "legitimate": 1, "open": 1}


def test_it_tells_what_waits_from_what_was_set_aside(acme, settings):
    settings.PENDING_ATTEMPTS_LIMIT = 5
    fall_back(acme, [NOON] * 3, attempts=4)
    fall_back(acme, [NOON - HOUR] * 2, attempts=5)
    assert selectors.unscored() == selectors.Unscored(waiting=3, set_aside=2)
    assert selectors.fallbacks(HOUR, now=NOON) == 3


def test_rows_are_counted_up_to_a_limit(champion, acme, monkeypatch):
    monkeypatch.setattr(selectors, "COUNT_LIMIT", 3)
    some_of_everything(champion, acme, 5, seed=0)
    assert selectors.open_reviews() == selectors.fallbacks(HOUR, now=NOON) == 3
    assert selectors.unscored() == selectors.Unscored(waiting=3, set_aside=0)


def test_the_drift_shown_is_the_champions(champion, acme):
    other = type(champion).objects.create(version="other", schema="ulb", review_threshold=0.5)
    some_of_everything(champion, acme, 1, seed=0)
    some_of_everything(other, acme, 1, seed=1)
    assert selectors.latest_drift("ulb").model_version == champion


def test_samples_are_counted_up_to_the_number_asked_for(champion, acme):
    predict(champion, acme, [NOON] * 5)
    assert selectors.samples_so_far(champion, 3) == 3
    assert selectors.samples_so_far(champion, 100) == 5


def test_each_schema_is_counted_for_itself_and_all_together(champion, handbook_champion, acme, alice):
    predict(champion, acme, [NOON] * 3, decision=Decision.REVIEW)
    predict(handbook_champion, acme, [NOON], decision=Decision.BLOCK)
    fall_back(acme, [NOON])
    update_rollups(now=NOON)
    for review in Review.objects.filter(prediction__model_version=champion)[:2]:
        labelling.close_review(review=review, is_fraud=True, reviewer=alice)
    for schema, transactions, blocked, closed, waiting in (
        ("ulb", 3, 0, 2, 1),
        ("handbook", 1, 1, 0, 0),
        (None, 4, 1, 2, 1),
    ):
        traffic = selectors.traffic(HOUR, schema=schema, now=NOON)
        assert (traffic.transactions, sum(traffic.blocked)) == (transactions, blocked)
        assert selectors.review_outcomes(HOUR, schema=schema)["fraud"] == closed
        assert selectors.open_reviews(schema) == transactions - closed
        assert selectors.fallbacks(HOUR, schema=schema, now=NOON) == selectors.unscored(schema).waiting == waiting
    assert [len(selectors.latest_alerts(name)) for name in ("ulb", "handbook")] == [3, 1]
    assert list(registry.champions()) == [handbook_champion, champion]


def test_what_an_earlier_champion_said_is_among_the_latest(champion, acme):
    predict(champion, acme, [NOON])
    later = type(champion).objects.create(version="later", schema="ulb", review_threshold=0.5)
    later.promote(by="Mel")
    predict(later, acme, [NOON + HOUR])
    assert [row.model_version_id for row in selectors.latest_predictions("ulb")] == ["later", champion.pk]
