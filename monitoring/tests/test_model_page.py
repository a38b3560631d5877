"""The page *Model*: what it shows of traffic whose truth is known, and what it makes of strange addresses."""

import csv
from datetime import timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from monitoring.matured import report, selectors, updating
from monitoring.matured.estimates import Costs
from monitoring.matured.selectors import Window
from monitoring.tests.generated import decisions
from monitoring.tests.test_at_work import beside
from monitoring.tests.test_dashboard import answer_of, tiles, words
from scoring.models import Client, Review, ReviewQueue
from training.models import ModelVersion

pytestmark = pytest.mark.django_db


@pytest.fixture
def shown(client, rita):
    client.force_login(rita)
    return lambda **query: answer_of(client, urlencode({"window": "90d"} | query), "model")


@pytest.fixture
def lines(client, rita):
    """The rows of a panel's CSV."""
    client.force_login(rita)

    def get(panel, **query):
        response = client.get(reverse("dashboard_csv", args=["model", panel]), {"window": "90d"} | query)
        assert response["Content-Disposition"].startswith("attachment")
        return list(csv.DictReader(StringIO(response.content.decode())))

    return get


@pytest.fixture
def traffic(champion, acme):
    """Ten weeks of generated traffic, counted."""
    decisions(champion, acme, days=70, a_day=15, now=timezone.now())
    list(updating.recount())


def traces(answer, plot):
    return {trace.get("name"): trace for trace in answer[plot]["figure"]["data"]}


def test_the_truth_lies_within_the_intervals_where_reported_frauds_alone_would_mislead(champion, acme):
    now = timezone.now()
    truth = decisions(champion, acme, days=25, a_day=150, now=now - timedelta(days=60), known_at=now)
    list(updating.recount())
    today = now.date()
    window = Window(champion.schema, today - timedelta(days=90), today, selectors.matured_before(now, 45.0))
    whole = report.of(window, Costs()).all
    assert whole.caught.alerts == truth.alerts
    assert whole.precision.low <= truth.precision <= whole.precision.high
    assert whole.recall.low <= truth.recall <= whole.recall.high
    assert whole.at_most > truth.recall


def test_matured_and_open_periods_are_told_apart_and_say_how_much_is_final(traffic, shown, lines):
    rows = lines("period")
    assert (rows[0]["is_matured"], rows[-1]["is_matured"]) == ("True", "False")
    shares = [int(row["final"]) / int(row["decisions"]) for row in rows]
    assert shares[0] > 0.9 > 0.3 > shares[-1]
    answer = shown()
    for plot in ("precision", "recall", "money"):
        matured, still_open = (traces(answer, plot)[name]["x"] for name in ("matured", "open"))
        assert max(matured) < min(still_open)
    assert traces(answer, "precision")["matured"]["error_y"]["array"]
    assert traces(answer, "precision")["open"]["line"]["dash"] == "dash"
    assert any(text.endswith("still open") for text in words(answer["period"]["children"]))


def test_each_panel_is_there_as_csv_with_the_same_choice(traffic, lines):
    for table in ("version", "policy", "rule", "queue", "period", "delays", "precision", "money"):
        assert lines(table), table
    assert {row["rule"] for row in lines("rule")} == {"night abroad", "many small amounts"}
    median = {row["source"]: float(row["median_hours"]) for row in lines("delays")}
    assert median["Analyst"] < 24 < 10 * 24 < median["Chargeback"] < 40 * 24


def test_a_cell_of_a_csv_is_no_formula(traffic, lines):
    ReviewQueue.objects.filter(name="Rest").update(name="=1+1")
    list(updating.recount())
    assert {row["queue"] for row in lines("queue")} == {"Large", "'=1+1"}


def test_without_a_judged_sample_the_page_says_that_recall_cannot_be_told(traffic, shown):
    Review.objects.filter(is_sample=True).update(is_sample=False)
    list(updating.recount())
    answer = shown()
    assert answer["recall-note"]["children"].startswith("Recall cannot be told")
    assert "at most" in tiles(answer)["Recall"][1]


def test_a_version_that_is_chosen_is_alone_in_figures_and_tables(traffic, champion, acme, shown, lines):
    other = ModelVersion.objects.create(version="other", schema=champion.schema, review_threshold=0.5)
    decisions(other, acme, days=60, a_day=10, now=timezone.now() - timedelta(days=1))
    list(updating.recount())
    assert {row["version"] for row in lines("version")} == {champion.version, "other"}
    assert {row["version"] for row in lines("version", version="other")} == {"other"}
    [points] = shown()["version-precision"]["figure"]["data"]
    assert set(points["y"]) == {champion.version, "other"}


def test_a_client_that_is_chosen_is_alone_in_figures_and_what_is_of_all_says_so(champion, acme, shown, lines):
    globex = Client.objects.create(name="Globex")
    for each, a_day in ((acme, 6), (globex, 3)):
        decisions(champion, each, days=60, a_day=a_day, now=timezone.now())
    list(updating.recount())
    numbers = [
        sum(int(row["decisions"]) for row in lines("period", **of))
        for of in ({}, {"client": acme.pk}, {"client": globex.pk})
    ]
    assert numbers[0] == numbers[1] + numbers[2]
    assert numbers[1] > numbers[2] > 0
    answer = shown(client=globex.pk)
    for panel in ("held-precision-note", "challengers-note"):
        assert "of all clients together" in str(answer[panel]["children"])


def test_costs_lower_the_money_saved(traffic, lines):
    free, dear = (float(lines("version", review_cost=cost)[0]["saved"]) for cost in (0, 1_000))
    assert dear < free


def test_the_cost_of_the_page_does_not_grow_with_the_predictions(champion, acme, shown):
    def cost():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert "Updated" in shown()["updated"]["children"]
        assert not any("scoring_prediction" in query["sql"] for query in queries.captured_queries)
        return len(queries)

    decisions(champion, acme, days=50, a_day=5, now=timezone.now())
    list(updating.recount())
    shown()  # the first of all enters the page into a table of django-plotly-dash
    before = cost()
    decisions(champion, acme, days=50, a_day=15, now=timezone.now(), seed=2)
    list(updating.recount())
    assert cost() == before


def test_before_anything_is_counted_the_page_says_what_to_do(champion, shown):
    told = " ".join(words(shown()["empty"]["children"]))
    assert "No decisions in these days" in told
    assert "recount_outcomes" in told


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"version": "v" * 10_000}, "no such model version"),
        ({"matured": "nan"}, "matured takes a number"),
        ({"matured": "-1"}, "matured takes a number"),
        ({"review_cost": "inf"}, "review_cost takes a number"),
        ({"blocked_cost": "9" * 10_000}, "blocked_cost takes a number"),
        ({"blocked_cost": "\0"}, "blocked_cost takes a number"),
    ],
)
def test_what_makes_no_sense_in_an_address_is_told_and_the_default_taken(champion, shown, query, told):
    assert told in " ".join(words(shown(**query)["notice"]["children"]))


def test_challengers_are_compared_in_pairs_with_the_decisions(champion, acme, shown):
    shadow = ModelVersion.objects.create(version="challenger", schema="ulb", stage="shadow", review_threshold=0.4)
    scores = [(0.9, 0.9), (0.9, 0.1), (0.1, 0.8), (0.1, 0.1)] * 20
    beside(champion, shadow, acme, scores, labels=[True, False, True, False] * 20)
    list(updating.recount())
    answer = shown()
    [differences] = answer["challengers"]["figure"]["data"]
    found = dict(zip(differences["y"], differences["x"], strict=True))
    # It finds all frauds and nothing else; the decisions find half, and are half right.
    assert (found["challenger: precision"], found["challenger: recall"]) == (0.5, 0.5)
    assert all(0 < reach < 0.5 for reach in differences["error_x"]["arrayminus"][:2])
    assert "its latest 80 transactions" in " ".join(words(answer["challengers-note"]["children"]))


def test_a_window_of_another_page_that_is_too_short_gives_way_to_the_pages_own(traffic, client, rita):
    client.force_login(rita)
    page = client.get(reverse("dashboard_model"), {"window": "15m", "matured": "30"}).content.decode()
    assert '<option value="26w" selected>' in page
    assert 'name="matured" value="30"' in page
    assert "window=26w&amp;schema=ulb&amp;matured=30" in page


def test_the_address_of_before_leads_to_the_same_days(client, rita):
    client.force_login(rita)
    old = client.get("/admin/outcomes/?schema=ulb&since=2026-03-01&until=2026-03-31&matured=30")
    assert old["Location"].startswith(f"{reverse('dashboard_model')}?")
    page = client.get(old["Location"]).content.decode()
    assert "from=2026-03-01T00%3A00&amp;to=2026-04-01T00%3A00&amp;schema=ulb&amp;matured=30" in page
    assert client.get("/admin/outcomes/?since=x\0")["Location"] == reverse("dashboard_model")
    assert client.get("/admin/outcomes/?until=9999-12-31")["Location"].endswith("?to=9999-12-31T00%3A00")


def test_an_operator_sees_neither_the_page_nor_its_tab(client, otto):
    client.force_login(otto)
    assert client.get(reverse("dashboard_model")).status_code == 403
    assert reverse("dashboard_model") not in client.get(reverse("dashboard")).content.decode()
