"""What rules watch: each measure finds its shift among rows as the product writes them, and says nothing otherwise."""

from datetime import timedelta

import pytest
import redis
from django.core import mail
from django.utils import timezone

from monitoring.alerts import evaluating, sending
from monitoring.alerts.measures import all_of_them, gauges
from monitoring.alerts.measures.base import HOUR, MINUTE, Scope, Subject, start_of
from monitoring.alerts.models import Alert, AlertRoute, AlertRule, AlertSample
from monitoring.drift.measurement import measure_drift
from monitoring.models import DriftReport
from monitoring.rollups import updating
from monitoring.rollups.counting import ALL_CLIENTS
from monitoring.rollups.histograms import BINS
from monitoring.rollups.models import RollupProgress, Span, TrafficRollup
from monitoring.tests.support import fall_back, made_up_fields, moments, predict
from scoring.models import Decision, RefusalCount, Review, ScoreCount, WebhookDelivery, WebhookEndpoint
from scoring.policies import bins
from scoring.tests.receivers import receiving
from scoring.webhooks import sealing
from scoring.worker import workers

pytestmark = pytest.mark.django_db

NOTHING = bytes(4 * BINS)
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)


@pytest.fixture
def now():
    return start_of(timezone.now(), HOUR) + 32 * MINUTE


def only(*measures):
    AlertRule.objects.exclude(measure__in=measures).update(is_on=False)


def counted(now):
    RollupProgress.objects.update_or_create(pk=1, defaults={"counted_until": now, "whole": True})


def rollup(start, number, *, client=ALL_CLIENTS, decision=Decision.APPROVE, span=Span.HOUR):
    return TrafficRollup(
        span=span,
        start=start,
        client=client,
        schema="ulb",
        version="v",
        decision=decision,
        answer="scored",
        transactions=number,
        amount=0.0,
        histograms=NOTHING,
    )


def hours(now, since, until, number, **options):
    """Roll-ups of each hour of [since, until), with `number` transactions, or those of the hour."""
    first, length = start_of(since, HOUR), (until - since) // HOUR
    starts = [first + place * HOUR for place in range(length)]
    return [rollup(start, number(start) if callable(number) else number, **options) for start in starts]


def fires(now):
    """The measures and subjects that fire."""
    evaluating.evaluate(now=now, everything=True)
    return {(alert.rule.measure, alert.of) for alert in Alert.objects.filter(resolved_at=None).select_related("rule")}


def test_from_predictions_by_roll_ups_to_an_email_and_a_webhook(champion, acme, settings):
    settings.WEBHOOK_PRIVATE_TARGETS, settings.SITE_URL = True, "https://fraud.example.com"
    only("latency_p99")
    now = timezone.now()
    times = moments(800, before=now, within=20 * MINUTE)
    predict(champion, acme, times, latencies_ms=[900.0] * len(times))
    updating.update(now=now)
    with receiving() as receiver:
        AlertRoute.objects.create(name="Mail", kind="email", address="ops@example.com")
        secret = sealing.seal("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        AlertRoute.objects.create(name="Pager", kind="webhook", address=receiver.url, secret=secret)
        evaluating.evaluate(now=now)
        assert sending.send_due() == 2
        [call] = receiver.calls
    alert = Alert.objects.get()
    [told] = call.content["data"]["alerts"]
    assert (told["name"], told["event"], told["schema"]) == ("Answers are slow", "fired", "ulb")
    assert told["address"] == f"https://fraud.example.com/admin/monitoring/alert/{alert.pk}/change/"
    assert mail.outbox[0].subject == "[Fraudsite] Fired: Answers are slow (ulb)"
    assert alert.fired_value > 500
    assert alert.began_at <= now - 10 * MINUTE


def test_fast_answers_and_a_few_slow_ones_are_no_alert(champion, acme):
    only("latency_p99", "unscored")
    now = timezone.now()
    times = moments(600, before=now, within=20 * MINUTE)
    predict(champion, acme, times, latencies_ms=[900.0, *[5.0] * (len(times) - 1)])
    predict(champion, acme, moments(20, before=now - HOUR, within=20 * MINUTE), latencies_ms=[900.0] * 20)
    updating.update(now=now)
    assert fires(now) == set()


def test_answers_without_a_score_are_an_alert(champion, acme):
    only("unscored")
    now = timezone.now()
    predict(champion, acme, moments(300, before=now, within=20 * MINUTE))
    fall_back(acme, moments(60, before=now, within=20 * MINUTE))
    updating.update(now=now)
    assert fires(now) == {("unscored", "ulb")}


def test_a_silent_client_is_missed_and_one_that_sends_is_not(acme, globex, now):
    only("client_silence", "silence")
    last = now - 25 * MINUTE
    TrafficRollup.objects.bulk_create(
        [
            *hours(now, now - 3 * WEEK, now, 120),
            *hours(now, now - 3 * WEEK, last, 60, client=acme.pk),
            *hours(now, now - 3 * WEEK, now, 60, client=globex.pk),
            *(rollup(now - minutes * MINUTE, 1, span=Span.MINUTE) for minutes in range(1, 180)),
            *(rollup(now - minutes * MINUTE, 1, span=Span.MINUTE, client=globex.pk) for minutes in range(1, 180)),
            *(rollup(now - minutes * MINUTE, 1, span=Span.MINUTE, client=acme.pk) for minutes in range(26, 180)),
        ]
    )
    counted(now)
    assert fires(now) == {("client_silence", "ulb, Acme")}
    alert = Alert.objects.get()
    assert (alert.client, alert.severity) == (acme, "warning")


def test_while_counting_is_behind_nothing_is_reported_missing(acme, now):
    only("client_silence", "silence")
    TrafficRollup.objects.bulk_create(
        [
            *hours(now, now - 3 * WEEK, now - 2 * HOUR, 600),
            *(rollup(now - 2 * HOUR - minutes * MINUTE, 10, span=Span.MINUTE) for minutes in range(1, 180)),
        ]
    )
    counted(now - 2 * HOUR)
    assert fires(now) == set()
    counted(now)
    assert fires(now) == {("silence", "ulb")}


def test_no_roll_up_at_all_is_no_alert(now):
    only("client_silence", "silence", "transactions", "alert_rate", "latency_p99", "counting_behind")
    assert fires(now) == set()


def test_counting_that_is_behind_is_an_alert_itself(now):
    only("counting_behind")
    counted(timezone.now() - HOUR)
    for minutes in range(8):
        found = fires(timezone.now() + minutes * MINUTE)
    assert found == {("counting_behind", "")}


def test_more_alerts_of_one_client_are_an_alert_of_it_and_not_of_the_others(acme, globex, now):
    only("client_alert_rate", "alert_rate")
    begun = start_of(now, HOUR) - 2 * HOUR
    rows = []
    for client in (acme.pk, globex.pk):
        jump = client == acme.pk
        rows += hours(now, now - 5 * WEEK, now, 1_000, client=client)
        rows += hours(
            now,
            now - 5 * WEEK,
            now,
            lambda start, jump=jump: 60 if jump and start >= begun else 18 + start.hour % 5,
            client=client,
            decision=Decision.REVIEW,
        )
    rows += hours(now, now - 5 * WEEK, now, 40_000)
    rows += hours(now, now - 5 * WEEK, now, lambda start: 800 + (40 if start >= begun else 0), decision=Decision.REVIEW)
    TrafficRollup.objects.bulk_create(rows)
    counted(now)
    assert fires(now) == {("client_alert_rate", "ulb, Acme")}
    assert ", usually " in Alert.objects.get().shown


def test_a_doubling_of_fraud_in_one_segment_is_an_alert_of_the_segment(champion, now):
    only("segment_fraud_hour")
    begun, high, low = start_of(now, HOUR) - 2 * HOUR, str(bins.nearest(0.9)), str(bins.nearest(0.001))
    counts = [
        ScoreCount(
            hour=start,
            model_version=champion,
            number=1,
            segment=segment,
            decided="",
            counts={low: 9_000 + start.hour * 10, high: 200 if segment == "Online" and start >= begun else 100},
        )
        for place in range(5 * 168)
        for segment in ("Online", "Shops")
        for start in [start_of(now, HOUR) - (place + 1) * HOUR]
    ]
    ScoreCount.objects.bulk_create(counts)
    assert fires(now) == {("segment_fraud_hour", "ulb, Online")}


def reports(champion, now, **values):
    """Drift reports of the last 40 minutes."""
    usual = {"features": {"V7": 0.02, "Amount": 0.01}, "score": 0.02, "unusual": {}} | values
    DriftReport.objects.bulk_create(
        DriftReport(
            created_at=now - minutes * MINUTE,
            model_version=champion,
            window_start=now - HOUR,
            window_end=now,
            samples=5_000,
            status="stable",
            **usual,
        )
        for minutes in range(40)
    )


@pytest.mark.parametrize(
    ("values", "measure", "detail"),
    [
        ({}, None, ""),
        ({"features": {"V7": 0.9, "Amount": 0.12, "V1": 0.0}}, "feature_drift", "V7 0.90, Amount 0.12"),
        ({"score": 0.4}, "score_drift", ""),
        (
            {"unusual": {"mcc": {"unseen": {"share": 0.05, "reference": 0.0, "excess": 0.04, "value": "7995"}}}},
            "unseen_values",
            "mcc: 5.0% unseen, such as 7995 (trained with 0.0%)",
        ),
        (
            {"unusual": {"age": {"missing": {"share": 0.5, "reference": 0.1, "excess": 0.38}}}},
            "missing_values",
            "age: 50.0% missing (trained with 10.0%)",
        ),
    ],
)
def test_drift_names_what_moved(champion, now, values, measure, detail):
    only("feature_drift", "score_drift", "unseen_values", "missing_values")
    reports(champion, now, **values)
    assert fires(now) == ({(measure, "ulb")} if measure else set())
    assert [alert.detail for alert in Alert.objects.all()] == ([detail] if measure else [])


def test_a_feature_of_the_clock_is_no_drift(handbook_champion, now):
    only("feature_drift")
    calendar = [moment.name for moment in served_calendar("handbook")]
    reports(handbook_champion, now, features={"amount": 0.01} | dict.fromkeys(calendar, 3.0))
    assert calendar
    assert fires(now) == set()


def served_calendar(schema):
    from scoring import served

    return served.now().schemas[schema].calendar


def test_a_shift_of_a_mean_is_reported_from_real_rows_within_the_stated_time(champion, acme, now):
    only("feature_drift")
    rows = made_up_fields(600, V7=2.0)
    predict(champion, acme, moments(600, before=now, within=HOUR), fields=rows)
    for minutes in (25, 15, 5, 0):
        report = measure_drift(schema="ulb")
        DriftReport.objects.filter(pk=report.pk).update(created_at=now - minutes * MINUTE)
    assert fires(now) == {("feature_drift", "ulb")}
    assert Alert.objects.get().detail.startswith("V7 ")


def test_refused_calls_are_told_apart_by_whose_fault_they_are(now):
    only("refused_by_us", "refused_by_fault")
    minutes = [start_of(now, MINUTE) - place * MINUTE for place in range(40)]
    TrafficRollup.objects.bulk_create(rollup(minute, 50, span=Span.MINUTE) for minute in minutes)
    RefusalCount.objects.bulk_create(
        RefusalCount(minute=minute, status=status, kind="kind", count=count)
        for minute in minutes
        for status, count in ((503, 10), (422, 2))
    )
    counted(now)
    assert fires(now) == {("refused_by_us", "")}


def test_an_old_review_is_an_alert_and_a_snoozed_one_is_not(champion, acme):
    now = timezone.now()
    [prediction] = predict(champion, acme, [now - 3 * DAY], decision=Decision.REVIEW)
    Review.objects.update(opened_at=now - 3 * DAY, schema="ulb")
    assert [found for found in gauges.review_age(now) if found[1]] == [(Subject("ulb"), pytest.approx(72.0), "")]
    Review.objects.filter(pk=prediction.pk).update(snoozed_until=now + DAY)
    assert (Subject("ulb"), 0.0, "") in list(gauges.review_age(now))


def test_an_evaluation_that_is_rarer_than_a_minute_judges_gauges_all_the_same(settings):
    settings.ALERTS_INTERVAL_S = 300.0
    only("review_age")
    now = start_of(timezone.now(), MINUTE)
    AlertSample.objects.bulk_create(
        AlertSample(measure="review_age", subject=Subject("ulb").key, minute=now - 5 * minutes * MINUTE, value=60.0)
        for minutes in range(5)
    )
    assert fires(now) == {("review_age", "ulb")}


def test_webhooks_that_were_given_up_within_the_hour_name_their_endpoint(acme):
    now = timezone.now()
    endpoint = WebhookEndpoint.objects.create(client=acme, url="https://example.com/hook")
    for finished_at in (now - 10 * MINUTE, now - 3 * HOUR):
        WebhookDelivery.objects.create(
            endpoint=endpoint, type="batch.finished", object="batch:1", state="dead", finished_at=finished_at
        )
    assert list(gauges.webhooks_given_up(now)) == [(Subject(), 1.0, "https://example.com/hook")]


def test_transactions_that_are_set_aside_are_counted(acme, settings):
    fall_back(acme, [timezone.now()], attempts=settings.PENDING_ATTEMPTS_LIMIT)
    assert list(gauges.pending_set_aside(timezone.now())) == [(Subject(), 1.0, "")]


def test_workers_that_are_lost_are_an_alert_and_their_return_ends_it(redis_server, settings):
    only("workers", "workers_lost")
    AlertRule.objects.update(lasts_min=0, calm_min=0)
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        keys = list(server.scan_iter(f"{workers.PREFIX}*"))
        if keys:
            server.delete(*keys)
        for name in ("a", "b"):
            workers.publish(workers.Status(name, {"ulb": "v"}, {}))
        now = timezone.now()
        assert fires(now) == set()
        server.delete(f"{workers.PREFIX}b")
        assert fires(now + MINUTE) == {("workers_lost", "")}
        assert Alert.objects.get().detail == "1 of 2 are left"
        server.delete(f"{workers.PREFIX}a")
        assert fires(now + 2 * MINUTE) == {("workers_lost", ""), ("workers", "")}
        for name in ("a", "b"):
            workers.publish(workers.Status(name, {}, {"ulb": workers.Refusal("v", "altered")}))
        assert fires(now + 3 * MINUTE) == set()
        assert list(gauges.models_refused(now)) == [(Subject("ulb"), 2.0, "v: altered")]
        server.delete(*(f"{workers.PREFIX}{name}" for name in ("a", "b")))


def test_workers_of_lists_and_jobs_answer_no_call(redis_server, settings):
    only("workers")
    AlertRule.objects.update(lasts_min=0, calm_min=0)
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        workers.publish(workers.Status("realtime", {"ulb": "v"}, {}))
        workers.publish(workers.Status("bulk", {"ulb": "v"}, {}, queue=settings.BULK_QUEUE))
        now = timezone.now()
        assert fires(now) == set()
        server.delete(f"{workers.PREFIX}realtime")
        assert fires(now + MINUTE) == {("workers", "")}
        server.delete(f"{workers.PREFIX}bulk")


def test_without_redis_the_workers_are_unknown_and_not_lost(monkeypatch):
    only("workers", "workers_lost")

    def away():
        raise redis.ConnectionError

    monkeypatch.setattr(workers, "known", away)
    assert fires(timezone.now()) == set()
    assert not AlertSample.objects.filter(measure__startswith="workers").exists()
    assert AlertSample.objects.filter(measure="disk_free").exists()


@pytest.mark.parametrize("name", all_of_them())
def test_every_measure_reads_nothing_from_nothing_and_has_a_page(name):
    measure, now = all_of_them()[name], timezone.now()
    assert not measure.series(Scope(), now - DAY, now)
    assert measure.page(Subject("ulb")).startswith("/admin/")
