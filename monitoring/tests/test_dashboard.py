"""The dashboard as its page uses it: over HTTP, with the requests that Dash's script sends."""

import base64
import csv
import hashlib
import io
import json
import re
from datetime import timedelta
from html import unescape
from urllib.parse import urlencode

import numpy as np
import pytest
import redis
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload
from monitoring import selectors
from monitoring.dashboards import choices, frame, traffic
from monitoring.dashboards.choices import WINDOWS
from monitoring.models import DriftReport
from monitoring.rollups.counting import ALL_CLIENTS, SCORED
from monitoring.rollups.histograms import counted, packed
from monitoring.rollups.models import RollupProgress, TrafficRollup
from monitoring.rollups.updating import update as update_rollups
from monitoring.rollups.windows import Window
from monitoring.tests.support import fall_back, moments, predict
from scoring.models import Client, Decision, Prediction, RefusalCount, RefusalOfClientCount, Review
from scoring.reviews import labelling
from scoring.worker import workers

pytestmark = pytest.mark.django_db

PAGE, NAME = reverse("dashboard"), "traffic"
FRAME = reverse("the_django_plotly_dash:app-main", kwargs={"ident": NAME})
UPDATE = reverse("the_django_plotly_dash:app-update-component", kwargs={"ident": NAME})
PARTS = [
    reverse(f"the_django_plotly_dash:app-{part}", kwargs={"ident": NAME}) for part in ("main", "layout", "dependencies")
]
SHORT_WINDOW, LONG_WINDOW = "15m", "24h"


@pytest.fixture
def analyst(client, alice):
    client.force_login(alice)
    return client


@pytest.fixture
def refresh(analyst):
    return lambda window=SHORT_WINDOW, schema="ulb", **asked: answer_of(
        analyst, urlencode({"window": window, "schema": schema} | asked)
    )


def answer_of(client, query, page=NAME):
    """Call the page's callback, as the page does, and give what it says by element."""
    of_page = {"ident": page}
    [callback] = client.get(reverse("the_django_plotly_dash:app-dependencies", kwargs=of_page)).json()
    values = {"tick": 1, "address": query if query is None or isinstance(query, int) else f"?{query}"}
    inputs = [given | {"value": values[given["id"]]} for given in callback["inputs"]]
    body = {"output": callback["output"], "inputs": inputs, "changedPropIds": ["tick.n_intervals"]}
    update = reverse("the_django_plotly_dash:app-update-component", kwargs=of_page)
    response = client.post(update, json.dumps(body), content_type="application/json")
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
    answer = answer_of(client, "window=1h")
    shown = tiles(answer)
    assert shown["Transactions"][0] == "3"
    assert shown["Alerts"][0] == "1"
    assert shown["Alert rate"][0] == "33.33%"
    assert shown["Model"][0] == "Champion"
    for tile in ("Latency, median", "Latency, p95"):
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
    shown = tiles(answer)
    shown.pop("Queue")  # of whichever Redis there is
    assert shown == {
        "Transactions": ("0", "none in this window"),
        "Alerts": ("0", "0 blocked, 0 to review"),
        "Alert rate": ("–", "alerts among transactions"),
        "Open reviews": ("0", "now, of any age"),
        "Money": ("0.00 EUR", "0.00 EUR of it blocked"),
        "Latency, median": ("–", "arrival to commit"),
        "Latency, p95": ("–", "19 of 20 are faster"),
        "Model": ("None", "run manage.py train"),
        "Refused calls": ("0", "of all schemas"),
        "Without a score": ("0", "answered by rules"),
        "Waiting for a score": ("0", "now; 0 set aside"),
    }
    assert words(answer["feed"]["children"]) == ["Waiting for the first transaction."]
    assert words(answer["alerts"]["children"]) == ["No alert so far."]
    assert answer["body"]["className"] == "hidden"


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
    assert [trace["name"] for trace in long["latency"]["figure"]["data"]] == ["median", "p95", "p99"]


@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_can_be_chosen(refresh, champion, acme, window):
    predict(champion, acme, [ago(minutes=1)])
    update_rollups()
    assert tiles(refresh(window))["Transactions"][0] == "1"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"window": "a century"}, "The window is one of"),
        ({"schema": "moon"}, "There is no such schema"),
        ({"client": "x"}, "There is no such client"),
        ({"client": "9" * 30}, "There is no such client"),
        ({"version": "v\0"}, "There is no such model version of ulb"),
        ({"from": "yesterday"}, "from takes a time in UTC"),
        ({"from": "2026-03-02T00:00", "to": "2026-03-01T00:00"}, "From must be before to"),
        ({"from": "2001-01-01", "to": "2026-01-01"}, "at most ten years"),
        ({"to": "2026-03-01T00:00"}, "From must be before to"),
    ],
)
def test_what_makes_no_sense_is_told_and_its_default_taken(refresh, champion, acme, asked, told):
    predict(champion, acme, [ago(minutes=1)])
    update_rollups()
    answer = refresh(**{"window": "1h"} | asked)
    assert told in " ".join(words(answer["notice"]["children"]))
    assert tiles(answer)["Transactions"][0] == "1"


def test_the_page_hands_to_its_frame_what_it_does_not_understand_as_it_came(analyst, champion):
    page = analyst.get(PAGE, {"window": "a century", "schema": "moon", "version": '"><script>'}).content.decode()
    [frame_query] = re.findall(r'<iframe[^>]* src="[^"?]*\?([^"]*)"', page)
    told = " ".join(words(answer_of(analyst, unescape(frame_query))["notice"]["children"]))
    assert "The window is one of" in told
    assert "There is no such schema" in told
    assert "There is no such model version of ulb" in told


@pytest.mark.parametrize("query", [None, 15, "", "%%%", "window=1h&window=7d", "a" * 5_000])
def test_any_address_gets_an_answer(analyst, champion, query):
    assert "Updated" in answer_of(analyst, query)["updated"]["children"]


def test_from_and_to_are_shown_whatever_the_window_and_stand_still(refresh, champion, acme):
    predict(champion, acme, [ago(hours=30)] * 3)
    predict(champion, acme, [ago(hours=1)])
    update_rollups()
    answer = refresh(**{"from": f"{ago(hours=31):%Y-%m-%dT%H:%M}", "to": f"{ago(hours=29):%Y-%m-%dT%H:%M}"})
    assert tiles(answer)["Transactions"][0] == "3"
    assert answer["tick"]["interval"] > 3_600_000


def test_a_client_and_a_version_can_be_chosen(refresh, champion, acme):
    globex = Client.objects.create(name="Globex")
    other = type(champion).objects.create(version="other", schema="ulb", review_threshold=0.5)
    predict(champion, acme, [ago(minutes=1)] * 3)
    predict(champion, globex, [ago(minutes=1)] * 2)
    predict(other, globex, [ago(minutes=1)])
    update_rollups()
    for asked, number in (
        ({}, "6"),
        ({"client": acme.pk}, "3"),
        ({"version": "other"}, "1"),
        ({"client": globex.pk, "version": champion.pk}, "2"),
    ):
        assert tiles(refresh(**asked))["Transactions"][0] == number


def test_the_page_keeps_what_was_chosen_in_every_address(analyst, champion, acme):
    Client.objects.create(name="Globex")
    query = f"window=7d&schema=ulb&client={acme.pk}&version={champion.pk}&refresh=paused"
    page = analyst.get(f"{PAGE}?{query}").content.decode()
    assert f"{FRAME}?{query.replace('&', '&amp;')}" in page
    assert f'<option value="{acme.pk}" selected>' in page
    assert '<option value="7d" selected>' in page


def test_the_numbers_of_a_plot_can_be_had_as_csv(analyst, refresh, champion, acme):
    predict(champion, acme, [ago(minutes=1)] * 3)
    predict(champion, acme, [ago(minutes=1)], decision=Decision.BLOCK)
    update_rollups()
    address = refresh("1h")["traffic-csv"]["href"]
    response = analyst.get(address)
    assert response["Content-Type"].startswith("text/csv")
    assert "traffic-traffic-" in response["Content-Disposition"]
    head, *lines = csv.reader(io.StringIO(response.content.decode()))
    assert head == ["", "Approve", "Review", "Block"]
    assert len(lines) == 60
    assert [sum(float(line[column]) for line in lines) for column in (1, 2, 3)] == [3, 0, 1]
    for plot in ("scores", "shares", "money", "refused", "latency", "stages", "drift"):
        assert analyst.get(reverse("dashboard_csv", args=[NAME, plot])).status_code == 200
    for nothing in ("alerts", "moon"):
        assert analyst.get(reverse("dashboard_csv", args=[NAME, nothing])).status_code == 404


def test_when_the_database_is_away_the_page_says_so(champion):
    def broken(*_):
        raise OperationalError("gone")

    choice = traffic.PAGE.choice(choices.of_address(""), timezone.now())
    with connection.execute_wrapper(broken):
        shown, notice = frame.read(traffic.PAGE, choice)
    assert notice == ["The database does not answer; this page tries again by itself."]
    assert shown.figures["traffic"].layout.annotations[0].text == "Could not be read"


def test_figures_that_are_not_counted_yet_are_said_to_be_incomplete(refresh, champion, acme):
    predict(champion, acme, [ago(minutes=1)])
    update_rollups()
    RollupProgress.objects.update(counted_until=ago(hours=1))
    assert "Incomplete: counted until" in words(refresh()["notice"]["children"])[0]


def test_it_shows_what_each_worker_holds(redis_server, refresh, champion):
    workers.publish(workers.Status("realtime@one", {"ulb": champion.pk}, {}, {"ulb": 4}))
    workers.publish(workers.Status("realtime@two", {"ulb": "before"}, {"ulb": workers.Refusal("new", "Altered.")}))
    told = words(refresh()["workers"]["children"])
    for process, others in (
        ("realtime@one", [champion.pk, "4", "current"]),
        ("realtime@two", ["before", "thresholds alone", "Altered."]),
    ):
        at = told.index(process)
        assert told[at + 1 : at + 4] == others


def test_it_says_if_only_workers_of_lists_and_jobs_are_left(redis_server, refresh, champion, settings):
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        server.delete(*server.keys(f"{workers.PREFIX}*"), "none")
    workers.publish(workers.Status("bulk@one", {"ulb": champion.pk}, {}, queue=settings.BULK_QUEUE))
    told = words(refresh()["workers"]["children"])
    assert "No realtime worker has this schema's model loaded: calls get no score." in told
    assert "bulk@one" in told


def test_the_schema_can_be_chosen_where_several_are_live(analyst, refresh, champion, handbook_champion, acme):
    predict(champion, acme, [ago(minutes=1)] * 3)
    predict(handbook_champion, acme, [ago(minutes=1)], decision=Decision.BLOCK)
    update_rollups()
    assert [tiles(refresh(schema=name))["Transactions"][0] for name in ("ulb", "handbook")] == ["3", "1"]
    assert tiles(refresh(schema="handbook"))["Model"] == ("Champion", handbook_champion.version)
    page = analyst.get(PAGE).content.decode()
    assert "<option>handbook</option><option selected>ulb</option>" in page


def test_it_says_what_was_answered_without_a_score_and_what_waits(refresh, acme, settings):
    fall_back(acme, [ago(minutes=1)] * 3)
    fall_back(acme, [ago(hours=1)] * 2, attempts=settings.PENDING_ATTEMPTS_LIMIT)
    update_rollups()
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
    update_rollups()
    assert tiles(refresh())["Refused calls"] == (
        "15",
        "of all schemas: 12 × 503 no worker, 3 × 422 unacceptable values",
    )
    assert tiles(refresh(LONG_WINDOW))["Refused calls"][0] == "55"


def test_it_counts_refused_calls_of_a_client(refresh, acme):
    RefusalCount.objects.create(minute=ago(minutes=2), status=429, kind="Too many requests", count=7)
    RefusalOfClientCount.objects.create(
        minute=ago(minutes=2), client=acme.pk, status=429, kind="Too many requests", count=4
    )
    answer = refresh(client=acme.pk)
    assert tiles(answer)["Refused calls"] == ("4", "of all schemas: 4 × 429 too many requests")
    assert "with keys of this client" in answer["refused-note"]["children"]


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
    assert bars["y"] == ["score", *[f"V{i}" for i in range(28, 18, -1)]]
    assert bars["x"] == [0.07, *[i / 100 for i in range(28, 18, -1)]]


@pytest.mark.parametrize(
    ("asked", "seconds"), [({"window": "1h"}, 10), ({"window": "24h"}, 30), ({"window": "90d"}, 300)]
)
def test_a_longer_window_is_asked_for_more_rarely(refresh, asked, seconds):
    assert refresh(**asked)["tick"]["interval"] == seconds * 1000


def test_it_can_be_paused(refresh):
    assert refresh(refresh="paused")["tick"]["interval"] > 3_600_000


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
    read = Window.last(WINDOWS[window][1])
    TrafficRollup.objects.bulk_create(
        TrafficRollup(
            span=read.span,
            start=start,
            client=ALL_CLIENTS,
            schema="ulb",
            decision=decision,
            answer=SCORED,
            transactions=count,
            amount=0.0,
            histograms=packed(counted({"score": np.full(count, 0.01), "total": np.full(count, 3.5)})),
        )
        for start in (read.starts[0] + number * timedelta(minutes=read.span) for number in range(10_000))
        for decision, count in (("approve", 3), ("review", 2), ("block", 1))
        if start < read.end
    )
    answer = refresh(window)
    begun = (read.end - read.start) // timedelta(minutes=read.span)
    counts = [trace["y"] for trace in answer["traffic"]["figure"]["data"]]
    # A step may have ended while the rows were written.
    for series, count in zip(counts, (3, 2, 1), strict=True):
        assert 0 <= count * begun - sum(series) <= count * (read.step // timedelta(minutes=read.span))
    assert max(map(len, counts)) <= 130
    median, p95, _ = (trace["y"] for trace in answer["latency"]["figure"]["data"])
    assert all(3 < value < 4 for value in median[:-1] + p95[:-1])
    assert sum(answer["scores"]["figure"]["data"][0]["y"]) == sum(map(sum, counts))


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
    body = {"output": "..updated.children..", "inputs": []}
    assert client.get(reverse("dashboard_csv", args=[NAME, "traffic"])).status_code in (302, 403)
    assert client.post(UPDATE, json.dumps(body), content_type="application/json").status_code == 403


@pytest.mark.parametrize("person", ["alice", "mel", "ada"])
def test_every_role_sees_it_inside_the_admin(client, request, person):
    client.force_login(request.getfixturevalue(person))
    page = client.get(PAGE)
    assert page.status_code == 200
    assert f'src="{FRAME}?' in page.content.decode()
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
