"""The dashboard as its page uses it: over HTTP, with the requests that Dash's script sends."""

import base64
import hashlib
import json
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload
from monitoring import selectors
from monitoring.dashboard import NAME, REFRESH_S, WINDOWS
from monitoring.models import LATENCY_EDGES_MS, SCORE_BINS, DriftReport, TrafficRollup
from monitoring.rollups import update_rollups
from monitoring.tests.support import fall_back, moments, predict
from scoring.models import Decision, Prediction, RefusalCount, Review
from scoring.reviews import labelling

pytestmark = pytest.mark.django_db

PAGE = reverse("dashboard")
FRAME = reverse("the_django_plotly_dash:app-main", kwargs={"ident": NAME})
UPDATE = reverse("the_django_plotly_dash:app-update-component", kwargs={"ident": NAME})
PARTS = [
    reverse(f"the_django_plotly_dash:app-{part}", kwargs={"ident": NAME}) for part in ("main", "layout", "dependencies")
]
SHORT_WINDOW, LONG_WINDOW = "15 min", "24 h"


@pytest.fixture
def analyst(client, alice):
    client.force_login(alice)
    return client


@pytest.fixture
def refresh(analyst):
    return lambda window=SHORT_WINDOW, schema="ulb": answer_of(
        analyst, "updated.children", {"tick": 1, "window": window, "schema": schema}
    )


def answer_of(client, output, values):
    """Call the callback that has this output, as the page does, and give what it says by element."""
    dependencies = client.get(reverse("the_django_plotly_dash:app-dependencies", kwargs={"ident": NAME})).json()
    callback = next(callback for callback in dependencies if output in callback["output"])
    inputs = [given | {"value": values[given["id"]]} for given in callback["inputs"]]
    body = {"output": callback["output"], "inputs": inputs, "changedPropIds": ["tick.n_intervals"]}
    response = client.post(UPDATE, json.dumps(body), content_type="application/json")
    assert response.status_code == 200, response.content
    return response.json()["response"]


def words(element):
    """All text of a part of the page, in order."""
    if isinstance(element, dict):
        return words(element["props"].get("children"))
    if isinstance(element, list):
        return [word for child in element for word in words(child)]
    return [] if element is None else [str(element)]


def tiles(answer):
    """Title to number and remark."""
    return {title: (value, remark) for title, value, remark in map(words, answer["tiles"]["children"])}


def ago(**duration):
    return timezone.now() - timedelta(**duration)


def test_it_shows_what_was_posted(worker, acme_api, alice, client):
    for payload in (seed_payload(), seed_payload(Amount=88.25), fraudulent_payload(Amount=321.5)):
        assert acme_api.post("/predict", json.dumps(payload), content_type="application/json").status_code == 200
    update_rollups()
    client.force_login(alice)
    answer = answer_of(client, "updated.children", {"tick": 1, "window": "1 h", "schema": "ulb"})
    shown = tiles(answer)
    assert shown["Transactions"][0] == "3"
    assert shown["Alerts"][0] == "1"
    assert shown["Alert rate"][0] == "33.33%"
    assert shown["Model"][0] == "Champion"
    for tile in ("Latency, average", "Latency, p95"):
        assert float(shown[tile][0].removesuffix(" ms")) > 0
    feed, alerts = words(answer["feed"]["children"]), words(answer["alerts"]["children"])
    assert {"12.50 EUR", "88.25 EUR", "321.50 EUR"} <= set(feed)
    assert "321.50 EUR" in alerts
    assert "Open" in alerts
    assert "88.25 EUR" not in alerts
    assert sum(answer["scores"]["figure"]["data"][0]["y"]) == 3
    assert answer["empty"]["children"] is None


def test_without_any_transaction_it_says_how_to_post_one(refresh):
    answer = refresh()
    assert "No transaction has been scored yet" in words(answer["empty"]["children"])
    assert tiles(answer) == {
        "Transactions": ("0", "none in this window"),
        "Alerts": ("0", "0 blocked, 0 to review"),
        "Alert rate": ("–", "alerts among transactions"),
        "Alert precision": ("–", "no review closed in this window"),
        "Open reviews": ("0", "now, of any age"),
        "Latency, average": ("–", "arrival to commit"),
        "Latency, p95": ("–", "19 of 20 are faster"),
        "Model": ("None", "run manage.py train"),
        "Refused calls": ("0", "of all schemas"),
        "Without a score": ("0", "answered by rules"),
        "Waiting for a score": ("0", "now; 0 set aside"),
    }
    assert words(answer["feed"]["children"]) == ["Waiting for the first transaction."]
    assert words(answer["alerts"]["children"]) == ["No alert so far."]
    assert not any(answer["scores"]["figure"]["data"][0]["y"])


def test_a_longer_window_shows_more(refresh, champion, acme):
    predict(champion, acme, [ago(minutes=2)] * 3)
    predict(champion, acme, [ago(hours=3)] * 4, decision=Decision.REVIEW)
    update_rollups()
    short, long = refresh(SHORT_WINDOW), refresh(LONG_WINDOW)
    assert (tiles(short)["Transactions"][0], tiles(long)["Transactions"][0]) == ("3", "7")
    assert (tiles(short)["Alerts"][0], tiles(long)["Alerts"][0]) == ("0", "4")
    assert sum(short["scores"]["figure"]["data"][0]["y"]) == 3
    assert sum(long["scores"]["figure"]["data"][0]["y"]) == 7
    approved, reviewed, blocked = (trace["y"] for trace in long["traffic"]["figure"]["data"])
    assert (sum(approved), sum(reviewed), sum(blocked)) == (3, 4, 0)
    assert [trace["name"] for trace in long["latency"]["figure"]["data"]] == ["average", "p95"]


@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_can_be_chosen(refresh, champion, acme, window):
    predict(champion, acme, [ago(minutes=1)])
    update_rollups()
    assert tiles(refresh(window))["Transactions"][0] == "1"


@pytest.mark.parametrize("window", ["a century", "", None, 15, ["1 h"], {"1 h": 1}])
def test_an_unknown_window_is_taken_for_the_shortest(refresh, champion, acme, window):
    predict(champion, acme, [ago(minutes=1)])
    predict(champion, acme, [ago(minutes=30)])
    update_rollups()
    assert tiles(refresh(window))["Transactions"][0] == "1"


def test_the_schema_can_be_chosen_where_several_are_live(analyst, refresh, champion, handbook_champion, acme):
    predict(champion, acme, [ago(minutes=1)] * 3)
    predict(handbook_champion, acme, [ago(minutes=1)], decision=Decision.BLOCK)
    update_rollups()
    assert [tiles(refresh(schema=name))["Transactions"][0] for name in ("ulb", "handbook")] == ["3", "1"]
    assert tiles(refresh(schema="handbook"))["Model"] == ("Champion", handbook_champion.version)
    layout = analyst.get(reverse("the_django_plotly_dash:app-layout", kwargs={"ident": NAME})).content.decode()
    assert '"options": ["handbook", "ulb"], "value": "ulb"' in layout.replace('":', '": ').replace(":  ", ": ")


@pytest.mark.parametrize("schema", ["moon", "", None, 15, ["ulb"], {"ulb": 1}])
def test_an_unknown_schema_is_taken_for_the_default(refresh, champion, acme, schema):
    predict(champion, acme, [ago(minutes=1)])
    update_rollups()
    assert tiles(refresh(schema=schema))["Transactions"][0] == "1"


def test_it_says_what_was_answered_without_a_score_and_what_waits(refresh, acme, settings):
    fall_back(acme, [ago(minutes=1)] * 3)
    fall_back(acme, [ago(hours=1)] * 2, attempts=settings.PENDING_ATTEMPTS_LIMIT)
    answer = refresh(SHORT_WINDOW)
    assert tiles(answer)["Without a score"][0] == "3"
    assert tiles(refresh(LONG_WINDOW))["Without a score"][0] == "5"
    for window in (SHORT_WINDOW, LONG_WINDOW):
        assert tiles(refresh(window))["Waiting for a score"] == ("3", "now; 2 set aside")
    assert answer["tiles"]["children"][-1]["props"]["className"] == "tile"


def test_while_all_is_scored_that_tile_is_quiet(refresh, champion, acme):
    predict(champion, acme, [ago(minutes=1)])
    for tile in refresh()["tiles"]["children"][-3:]:
        assert tile["props"]["className"] == "tile calm"


def test_it_counts_refused_calls_of_the_window_by_kind(refresh):
    for minutes, status, kind, count in (
        (2, 503, "No worker", 7),
        (1, 503, "No worker", 5),
        (1, 422, "Unacceptable values", 3),
        (90, 429, "Too many requests", 40),
    ):
        RefusalCount.objects.create(minute=ago(minutes=minutes), status=status, kind=kind, count=count)
    assert tiles(refresh())["Refused calls"] == (
        "15",
        "of all schemas: 12 × 503 no worker, 3 × 422 unacceptable values",
    )
    assert tiles(refresh(LONG_WINDOW))["Refused calls"][0] == "55"


def test_open_reviews_are_those_of_now_whatever_the_window(refresh, champion, acme):
    predict(champion, acme, [ago(hours=3)] * 2, decision=Decision.REVIEW)
    for window in (SHORT_WINDOW, LONG_WINDOW):
        assert tiles(refresh(window))["Open reviews"] == ("2", "now, of any age")


def test_a_count_that_stops_at_its_limit_says_that_there_may_be_more(refresh, champion, acme, monkeypatch):
    monkeypatch.setattr(selectors, "COUNT_LIMIT", 3)
    predict(champion, acme, [ago(hours=3)] * 2, decision=Decision.REVIEW)
    assert tiles(refresh())["Open reviews"][0] == "2"
    predict(champion, acme, [ago(hours=2)] * 2, decision=Decision.REVIEW)
    assert tiles(refresh())["Open reviews"][0] == "3+"


def test_it_shows_how_alerts_turned_out(refresh, champion, acme, alice):
    predict(champion, acme, [ago(minutes=1)] * 4, decision=Decision.REVIEW)
    for review, is_fraud in zip(Review.objects.all()[:3], (True, True, False), strict=True):
        labelling.close_review(review=review, is_fraud=is_fraud, reviewer=alice)
    update_rollups()
    shown = tiles(refresh())
    assert shown["Alert precision"] == ("67%", "2 of 3 reviewed confirmed")
    assert shown["Alerts"] == ("4", "0 blocked, 4 to review")
    assert shown["Open reviews"][0] == "1"


def test_rows_lead_to_where_an_analyst_works_on_them(analyst, refresh, champion, acme):
    predict(champion, acme, [ago(minutes=1)])
    predict(champion, acme, [ago(minutes=2)], decision=Decision.BLOCK)
    feed = json.dumps(refresh()["feed"]["children"])
    for decision, page in ((Decision.APPROVE, "prediction"), (Decision.BLOCK, "review")):
        address = reverse(f"admin:scoring_{page}_change", args=[Prediction.objects.get(decision=decision).pk])
        assert address in feed
        assert analyst.get(address).status_code == 200


def test_script_in_what_a_client_sent_travels_as_data(refresh, champion, acme):
    predict(champion, acme, [ago(minutes=1)], decision=Decision.REVIEW)
    Prediction.objects.update(reasons=[{"feature": "<script>alert(1)</script>", "contribution": 1.0}])
    assert "<script>alert(1)</script>" in words(refresh()["alerts"]["children"])


def test_drift_waits_for_its_minimum_sample(refresh, champion, acme, settings):
    settings.DRIFT_MIN_SAMPLES = 500
    predict(champion, acme, moments(7, before=timezone.now(), within=timedelta(hours=1)))
    [note] = words(refresh()["drift-note"]["children"])
    assert note == "Drift needs 500 scored transactions; there are 7 so far."


def test_drift_shows_the_strongest_features_and_the_score(refresh, champion):
    DriftReport.objects.create(
        created_at=timezone.now(),
        model_version=champion,
        window_start=ago(hours=1),
        window_end=timezone.now(),
        samples=512,
        features={f"V{i}": i / 100 for i in range(1, 29)},
        score=0.07,
        status=DriftReport.Status.STRONG,
    )
    answer = refresh()
    [note] = words(answer["drift-note"]["children"])
    assert note.startswith("Strong drift: the latest 512 transactions")
    [bars] = answer["drift"]["figure"]["data"]
    assert bars["y"] == [*[f"V{i}" for i in range(19, 29)], "score"]
    assert bars["x"] == [*[i / 100 for i in range(19, 29)], 0.07]


@pytest.mark.parametrize(("choice", "interval", "paused"), [("1 s", 1000, False), ("30 s", 30_000, False)])
def test_the_pace_can_be_chosen(analyst, choice, interval, paused):
    tick = answer_of(analyst, "tick.interval", {"refresh": choice})["tick"]
    assert tick == {"interval": interval, "disabled": paused}
    assert choice in REFRESH_S


def test_it_can_be_paused(analyst):
    assert answer_of(analyst, "tick.interval", {"refresh": "Paused"})["tick"]["disabled"] is True


@pytest.mark.parametrize("choice", ["never", None, ["1 s"]])
def test_an_unknown_pace_is_taken_for_the_usual_one(analyst, choice):
    assert answer_of(analyst, "tick.interval", {"refresh": choice})["tick"] == {"interval": 2000, "disabled": False}


def test_a_refresh_asks_as_often_whatever_the_rows(
    refresh, champion, acme, django_assert_max_num_queries, django_assert_num_queries
):
    def fill(count):
        for decision in Decision:
            predict(champion, acme, moments(count, before=timezone.now(), within=timedelta(hours=1)), decision=decision)
        fall_back(acme, [ago(minutes=1)] * count)
        update_rollups()

    fill(1)
    refresh()  # the first of all enters the page into a table of django-plotly-dash
    with django_assert_max_num_queries(24) as few:
        refresh(LONG_WINDOW)
    fill(60)
    with django_assert_num_queries(len(few)):
        refresh(LONG_WINDOW)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_busy_window_is_shown_in_steps_that_add_up_to_its_whole(refresh, window):
    length, step = WINDOWS[window]
    now = timezone.now().replace(second=0, microsecond=0)
    minutes = length // timedelta(minutes=1) - 2  # time goes on while the rows are written
    TrafficRollup.objects.bulk_create(
        TrafficRollup(
            schema="ulb",
            minute=now - timedelta(minutes=i),
            transactions=6,
            reviewed=2,
            blocked=1,
            latency_sum_ms=21.0,
            latency_histogram=[0] * 5 + [6] + [0] * (len(LATENCY_EDGES_MS) - 5),
            score_histogram=[3] + [0] * (SCORE_BINS - 4) + [1] * 3,
        )
        for i in range(minutes)
    )
    answer = refresh(window)
    counts = [trace["y"] for trace in answer["traffic"]["figure"]["data"]]
    assert [sum(series) for series in counts] == [3 * minutes, 2 * minutes, minutes]
    assert all(length // step - 2 <= len(series) <= length // step + 1 for series in counts)
    assert max(map(len, counts)) <= 100
    average, p95 = (trace["y"] for trace in answer["latency"]["figure"]["data"])
    assert set(average) == {3.5}
    assert all(3 < value < 4 for value in p95)
    assert sum(answer["scores"]["figure"]["data"][0]["y"]) == 6 * minutes


def test_a_refresh_writes_nothing(analyst, refresh):
    refresh()
    with CaptureQueriesContext(connection) as queries:
        refresh()
    assert {query["sql"].split()[0] for query in queries} == {"SELECT"}


@pytest.fixture
def eve(db):
    """Somebody with an account, who is not staff."""
    return User.objects.create_user("eve", password="eve-password")


@pytest.mark.parametrize("person", [None, "eve"])
def test_nobody_but_staff_gets_anything_of_it(client, request, person):
    if person:
        client.force_login(request.getfixturevalue(person))
    assert client.get(PAGE)["Location"].startswith(reverse("admin:login"))
    for address in PARTS:
        assert client.get(address).status_code == 403
    body = {"output": "..tick.interval...tick.disabled..", "inputs": [{"id": "refresh", "property": "value"}]}
    assert client.post(UPDATE, json.dumps(body), content_type="application/json").status_code == 403


@pytest.mark.parametrize("person", ["alice", "mel", "ada"])
def test_every_role_sees_it_inside_the_admin(client, request, person):
    client.force_login(request.getfixturevalue(person))
    page = client.get(PAGE)
    assert page.status_code == 200
    assert f'src="{FRAME}"' in page.content.decode()
    assert client.get(FRAME).status_code == 200


def policy_of(response):
    directives = (directive.split() for directive in response["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in directives}


@pytest.mark.parametrize("address", [PAGE, *PARTS])
def test_no_page_of_it_may_evaluate_text_or_be_framed_by_strangers(analyst, address):
    response = analyst.get(address)
    policy = policy_of(response)
    scripts = policy.get("script-src", policy["default-src"])
    assert not {"'unsafe-eval'", "'unsafe-inline'", "*", "https:", "data:"} & set(scripts)
    assert policy["frame-ancestors"] == ["'self'"]
    assert response["X-Frame-Options"] == "SAMEORIGIN"


def test_the_frame_may_run_the_one_line_of_script_that_is_in_it(analyst):
    response = analyst.get(FRAME)
    inline = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.+?)</script>", response.content.decode(), re.DOTALL)
    runnable = [text for text in inline if "DashRenderer" in text]
    assert runnable
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in runnable}
    assert {f"'sha256-{digest}'" for digest in digests} <= set(policy_of(response)["script-src"])
