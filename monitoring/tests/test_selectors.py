"""The queries of the dashboard and Prometheus: correct, at a cost that does not grow with the tables."""

from datetime import timedelta

import pytest

from monitoring import selectors
from monitoring.models import DriftReport
from monitoring.rollups import reading
from monitoring.rollups.updating import update as update_rollups
from monitoring.rollups.windows import Window
from monitoring.tests.support import NOON, fall_back, moments, predict
from scoring.models import Decision, Review
from scoring.reviews import labelling
from training import registry

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
QUERIES = {
    "decisions": (1, lambda: selectors.decisions(HOUR, now=NOON)),
    "open_reviews": (1, selectors.open_reviews),
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
    assert selectors.decisions(HOUR) == {"approve": 0, "challenge": 0, "review": 0, "block": 0}
    assert selectors.unscored() == selectors.Unscored(waiting=0, set_aside=0)
    assert (registry.champion_or_none("ulb"), list(registry.champions())) == (None, [])
    assert selectors.latest_drift("ulb") is None
    assert selectors.latest_predictions("ulb") == selectors.latest_alerts("ulb") == []


def test_it_tells_what_waits_from_what_was_set_aside(acme, settings):
    settings.PENDING_ATTEMPTS_LIMIT = 5
    fall_back(acme, [NOON] * 3, attempts=4)
    fall_back(acme, [NOON - HOUR] * 2, attempts=5)
    assert selectors.unscored() == selectors.Unscored(waiting=3, set_aside=2)


def test_rows_are_counted_up_to_a_limit(champion, acme, monkeypatch):
    monkeypatch.setattr(selectors, "COUNT_LIMIT", 3)
    some_of_everything(champion, acme, 5, seed=0)
    assert selectors.open_reviews() == 3
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
        traffic = reading.traffic(Window.last(HOUR, now=NOON), schema=schema)
        assert (traffic.transactions, traffic.counts["block"].sum()) == (transactions, blocked)
        assert selectors.open_reviews(schema) == transactions - closed
        fallbacks = sum(int(found.sum()) for found in traffic.fallbacks.values())
        assert fallbacks == selectors.unscored(schema).waiting == waiting
    assert [len(selectors.latest_alerts(name)) for name in ("ulb", "handbook")] == [3, 1]
    assert list(registry.champions()) == [handbook_champion, champion]


def test_what_an_earlier_champion_said_is_among_the_latest(champion, acme):
    predict(champion, acme, [NOON])
    later = type(champion).objects.create(version="later", schema="ulb", review_threshold=0.5)
    later.promote(by="Mel")
    predict(later, acme, [NOON + HOUR])
    assert [row.model_version_id for row in selectors.latest_predictions("ulb")] == ["later", champion.pk]
