"""Estimates without labels: made of counts, kept as they were, shown beside what is known and held against it later."""

import csv
from datetime import UTC, datetime, timedelta
from io import StringIO
from urllib.parse import urlencode

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from monitoring import tasks
from monitoring.label_free import making, record
from monitoring.label_free.models import LabelFreeEstimate
from monitoring.label_free.record import Record
from monitoring.matured import report, updating
from monitoring.matured.bands import bands_of
from monitoring.matured.estimates import Costs
from monitoring.matured.models import OutcomeCount, OutcomeDay, ScoreOutcome
from monitoring.matured.selectors import Window
from monitoring.tests.support import predict
from monitoring.tests.test_dashboard import answer_of, words
from scoring.models import Decision

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def calibrated(champion, acme):
    """Two weeks of decisions without any label, whose scores are probabilities."""
    today = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)
    times = [today - DAY * (1 + i % 14) for i in range(1_400)]
    scores = np.random.default_rng(4).beta(0.05, 2.0, 1_400)
    for decision, kept in ((Decision.APPROVE, scores < 0.3), (Decision.REVIEW, scores >= 0.3)):
        chosen = [at for at, is_kept in zip(times, kept, strict=True) if is_kept]
        predict(champion, acme, chosen, decision=decision, fraud_scores=scores[kept].tolist())
    list(updating.recount())
    return scores


# Of the days that `counted_days` makes. Scores say that precision is 0.9 and that two in a thousand others are fraud.
PRECISION = (200 * 0.6 + 100 * 0.8) / 300
RECALL = 200 / (200 + 20_000 * 0.005)


def counted_days(version, now, *, days):
    """Counts of days whose decisions have misleading scores: 200 blocked, of which the control group let a tenth
    through and nobody labels the others; 100 under review, all labelled; 20,000 approved, one in a hundred judged."""
    random, rows, scored = np.random.default_rng(6), [], []
    for back in range(1, days + 1):
        kind = {"day": now.date() - back * DAY, "schema": version.schema, "model_version": version}
        through, review, missed = random.binomial(20, 0.6), random.binomial(100, 0.8), random.binomial(20_000, 0.005)
        reported = random.binomial(missed, 0.7)
        found = random.binomial(missed - reported, 0.01)
        sampled = {"drawn": 200, "judged": 200, "drawn_weight": 20_000, "judged_weight": 20_000}
        sampled |= {"reported": reported, "unreported": found * 100, "unreported_square": found * 10_000}
        for fate, score, sums in (
            ({"decision": "block", "propensity": 0.1}, 0.9, {"rows": 180}),
            ({"decision": "block", "propensity": 0.1, "let_through": True}, 0.9, {"rows": 20, "frauds": through}),
            ({"decision": "review"}, 0.9, {"rows": 100, "labelled": 100, "frauds": review}),
            ({"decision": "approve"}, 0.002, {"rows": 20_000} | sampled),
        ):
            if "let_through" in fate:
                sums["labelled"] = sums["frauds"]
            rows.append(OutcomeCount(**kind, **fate, **{name: int(value) for name, value in sums.items()}))
            band = str(bands_of(np.array([score]))[0])
            banded = {name: {band: int(value)} for name, value in sums.items() if name in ScoreOutcome.BANDED}
            scored.append(ScoreOutcome(**kind, **fate, sums=banded | {"score": {band: score * sums["rows"]}}))
        OutcomeDay.objects.create(day=kind["day"], counted=1, counted_at=now)
    OutcomeCount.objects.bulk_create(rows)
    ScoreOutcome.objects.bulk_create(scored)


@pytest.fixture
def shown(client, rita):
    client.force_login(rita)
    return lambda **query: answer_of(client, urlencode({"window": "90d"} | query), "model")


def lines(client, panel, **query):
    address = reverse("dashboard_csv", args=["model", panel])
    return list(csv.DictReader(StringIO(client.get(address, {"window": "90d"} | query).content.decode())))


def assumed(answer):
    return " ".join(words(answer["assumptions"]["children"]))


def test_without_any_label_it_expects_what_the_scores_say_and_tells_what_it_assumes(calibrated, champion, shown):
    tasks.estimate_without_labels()
    today = timezone.now().date()
    window = Window("ulb", today - 20 * DAY, today, today - 45 * DAY)
    found = report.of(window, Costs())
    assert found.all.precision.value is None
    [*foreseen] = record.foreseen(window, found.periods)
    together = record.Expected.together(each.expected for each in foreseen)
    alerts = calibrated[calibrated >= 0.3]
    assert together.alerts == len(alerts)
    assert together.precision.value == pytest.approx(alerts.mean(), abs=0.03)
    assert together.recall.value == pytest.approx(alerts.sum() / calibrated.sum(), abs=0.03)
    answer = shown()
    assert "are assumed to be calibrated" in assumed(answer)
    for plot in ("precision", "recall"):
        drawn = {trace["name"]: trace["y"] for trace in answer[plot]["figure"]["data"]}
        low, value, high = (drawn[f"expected {end}"] for end in ("low", "without labels", "high"))
        assert all(low[i] <= value[i] <= high[i] for i in range(len(value)))


def test_scores_that_mislead_are_corrected_by_reviews_the_control_group_and_the_random_sample(
    champion, settings, shown
):
    settings.LABEL_MATURITY_DAYS = 20.0
    now = timezone.now()
    counted_days(champion, now, days=80)
    making.update(now=now)
    newest = LabelFreeEstimate.objects.latest("day")
    assert {*newest.factors} == {"review", "block", "others"}
    assert newest.factors["block"][2] < 1 < newest.factors["others"][1]
    found = report.of(Window("ulb", now.date() - 14 * DAY, now.date(), now.date() - 20 * DAY), Costs())
    together = record.Expected.together(each.expected for each in record.foreseen(found.window, found.periods))
    assert together.precision.value == pytest.approx(PRECISION, abs=0.04)
    assert together.recall.value == pytest.approx(RECALL, abs=0.05)
    assert "for alerts to review by" in assumed(shown())


def test_an_estimate_is_made_anew_while_its_day_goes_on_and_kept_from_then_on(champion, acme):
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def counted(hours):
        updating.update(now=noon + timedelta(hours=hours))
        making.update(now=noon + timedelta(hours=hours))
        return LabelFreeEstimate.objects.get()

    predict(champion, acme, [noon - timedelta(hours=1)] * 3, decision=Decision.REVIEW, fraud_scores=[0.9] * 3)
    assert counted(0).alerts == 3
    predict(champion, acme, [noon + timedelta(hours=2)] * 2, decision=Decision.REVIEW, fraud_scores=[0.1] * 2)
    assert counted(3).alerts == 5
    kept = counted(15)  # at three in the night
    assert not kept.is_late
    predict(champion, acme, [noon] * 4, decision=Decision.REVIEW, fraud_scores=[0.5] * 4)
    OutcomeDay.objects.update(marked=100)
    assert counted(40) == kept
    assert counted(40).alerts == 5
    assert (counted(40).made_at, counted(40).caught) == (kept.made_at, kept.caught)


def test_a_day_is_not_settled_before_all_its_rows_are_counted(champion, acme):
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    predict(champion, acme, [noon], decision=Decision.REVIEW)
    updating.update(now=noon)
    assert making.update(now=noon + DAY) == 0
    updating.update(now=noon + DAY)
    assert making.update(now=noon + DAY) == 1


def test_the_second_of_two_runs_at_once_changes_nothing(calibrated):
    now = timezone.now()
    making.update(now=now)
    before = sorted(LabelFreeEstimate.objects.values_list("day", "made_at", "alerts", "caught"))
    assert making.update(now=now) == 0
    LabelFreeEstimate.objects.all().delete()
    making.update(now=now)  # and the same draws come again
    assert sorted(LabelFreeEstimate.objects.values_list("day", "made_at", "alerts", "caught")) == before


def test_kept_estimates_are_held_against_what_came_true(champion, settings, client, rita):
    settings.LABEL_MATURITY_DAYS = 10.0
    now = timezone.now()
    counted_days(champion, now, days=60)
    nights = [start(now) - timedelta(days=back) + timedelta(hours=3) for back in range(30, 0, -1)]
    for night in nights:  # beat was alive all the time
        OutcomeDay.objects.filter(day=night.date() - DAY).update(counted_at=night)
        making.update(now=night)
    found = report.of(Window("ulb", now.date() - 34 * DAY, now.date(), now.date() - 10 * DAY), Costs())
    foreseen = record.foreseen(found.window, found.periods)
    for measure in ("precision", "recall"):
        of_measure = Record.of(foreseen, measure)
        assert len(of_measure.held) >= 2
        assert of_measure.within >= len(of_measure.held) - 1
        assert of_measure.mean_error < 0.1
    client.force_login(rita)
    choice = {"from": f"{found.window.since}", "matured": "10"}
    answer = answer_of(client, urlencode(choice), "model")
    [held] = answer["held-precision"]["figure"]["data"]
    assert len(held["x"]) >= 2
    assert "came as close to the estimate as its interval allows" in answer["held-precision-note"]["children"]
    rows = lines(client, "held-precision", **choice)
    assert len(rows) == len(foreseen)
    assert 0 < float(rows[0]["expected_precision_low"]) < float(rows[0]["expected_precision_high"]) < 1


def start(now):
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def test_an_estimate_that_was_made_late_is_shown_but_not_held_against_anything(calibrated, shown):
    making.update(now=timezone.now())
    today = timezone.now().date()
    window = Window("ulb", today - 20 * DAY, today, today + DAY)
    foreseen = record.foreseen(window, report.of(window, Costs()).periods)
    assert not Record.of(foreseen, "precision").held
    assert "held here against what came true" in shown()["held-precision-note"]["children"]


def test_it_reads_counts_and_no_predictions(calibrated):
    with CaptureQueriesContext(connection) as queries:
        assert making.update(now=timezone.now()) == 14
    assert not any("scoring_prediction" in query["sql"] for query in queries.captured_queries)


def test_a_run_that_ran_out_of_time_leaves_days_for_the_next(calibrated):
    assert making.update(now=timezone.now(), seconds=0.0) < 14
    making.update(now=timezone.now())
    assert LabelFreeEstimate.objects.count() == 14


def test_the_page_tells_ranking_and_calibration_of_each_version(champion, client, rita, settings):
    settings.LABEL_MATURITY_DAYS = 10.0
    counted_days(champion, timezone.now(), days=40)
    client.force_login(rita)
    answer = answer_of(client, "window=90d", "model")
    assert [trace["name"] for trace in answer["calibration"]["figure"]["data"]] == [champion.pk]
    assert "without frauds that nobody reports" not in " ".join(words(answer["ranking"]["children"]))
    rows = lines(client, "calibration")
    highest = rows[-1]
    # All alerts have the score 0.9, and PRECISION of them are fraud.
    assert float(highest["mean_score"]) == pytest.approx(0.9)
    assert float(highest["share_low"]) < PRECISION < float(highest["share_high"])
    assert 0.3 < float(highest["auprc"]) < PRECISION
