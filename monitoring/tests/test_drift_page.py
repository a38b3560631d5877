"""The page *Drift*: which inputs moved, what that did to the score, and how values are distributed then and now."""

import csv
from datetime import timedelta
from io import StringIO
from urllib.parse import urlencode

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from monitoring.drift import attribution, measurement
from monitoring.drift.measurement import measure_drift
from monitoring.models import DriftDetail, DriftReport
from monitoring.tests.support import made_up_fields, predict
from monitoring.tests.test_dashboard import answer_of, tiles, words
from monitoring.tests.test_drift import purchases_bundle  # noqa: F401  # a fixture
from scoring.models import Prediction, Transaction
from scoring.worker import predictor
from scoring.worker.scorer import stored_inputs
from training import registry
from training.core.schema import load_schema
from training.tests.support import made_up_purchases

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_read_yet(monkeypatch):
    monkeypatch.setattr(measurement, "_references", {})


@pytest.fixture
def shown(client, otto):
    client.force_login(otto)
    return lambda **query: answer_of(client, urlencode({"schema": "ulb"} | query), "drift")


@pytest.fixture
def lines(client, otto):
    """The rows of a panel's CSV."""
    client.force_login(otto)

    def get(panel, **query):
        response = client.get(reverse("dashboard_csv", args=["drift", panel]), query)
        assert response["Content-Disposition"].startswith("attachment")
        return list(csv.DictReader(StringIO(response.content.decode())))

    return get


@pytest.fixture
def score(acme):
    """Traffic that a version really scored, in a moment before now."""

    def of(version, fields, ago):
        model = predictor.of_version(version)
        scores = model.score(stored_inputs(model.encode, fields, [{}] * len(fields))).tolist()
        times = [timezone.now() - ago] * len(fields)
        return predict(version, acme, times, fields=fields, fraud_scores=scores)

    return of


@pytest.fixture
def moved(champion, score, settings):
    """Traffic of a week ago, and of now, in which V14 is lower and V7 higher."""
    settings.DRIFT_MAX_SAMPLES = 600
    score(champion, made_up_fields(300, seed=1), timedelta(days=9))
    score(champion, made_up_fields(600, seed=2, V14=-2.0, V7=1.0), timedelta(minutes=1))
    measure_drift(schema="ulb")
    return champion


def drawn(answer):
    """The inputs whose distributions are drawn, by the panel."""
    return {
        answer[f"d{number}-title"]["children"].removeprefix("Distribution of "): f"d{number}" for number in range(7)
    }


def bars(answer, plot):
    """The lengths of a plot's bars, by the name of the trace and of the bar."""
    return {
        trace.get("name", "value"): dict(zip(trace["y"], trace["x"], strict=True))
        for trace in answer[plot]["figure"]["data"]
    }


def test_the_contributions_of_the_inputs_add_up_to_what_the_score_moved(moved, shown, lines):
    shift = DriftDetail.objects.get().shift
    added = {name: each["value"] for name, each in shift["inputs"].items()}
    assert sum(added.values()) == pytest.approx(shift["total"]["value"], abs=1e-3)
    assert max(added, key=lambda name: abs(added[name])) == "V14"
    assert shift["total"]["low"] > 0
    told = {row["input"]: row for row in lines("inputs")}
    assert float(told["V14"]["moved_score_by"]) == pytest.approx(added["V14"])
    assert float(told["V14"]["share"]) == pytest.approx(added["V14"] / shift["total"]["value"])
    answer = shown()
    [effects] = answer["effect"]["figure"]["data"]
    assert (effects["y"][0], effects["x"][0]) == ("V14", pytest.approx(added["V14"]))
    assert effects["error_x"]["array"][0] > 0
    assert "of the shift" in tiles(answer)["Moved the score most"][1]
    # V7 moved as well, but the model makes little of it.
    assert float(told["V7"]["psi"]) > 0.1
    assert abs(added["V7"]) < abs(added["V14"]) / 4


def test_what_moved_comes_first_and_its_distribution_is_drawn_beside_the_training_rows(moved, shown, lines):
    answer = shown()
    names = words(answer["inputs"]["children"])
    assert names.index("V14") < names.index("V7") < names.index("V1")
    assert [*bars(answer, "index")["value"]][:3] == ["score", "V14", "V7"]
    assert tiles(answer)["Drift"][0] == "Strong drift"
    assert moved.pk in tiles(answer)["Drift"][1]
    assert {"score", "V14", "V7"} <= {*drawn(answer)}
    assert {*bars(answer, "d0")} == {"validation rows", "now"}
    of_bins = lines(drawn(answer)["V14"])
    for name in ("share_of_training_rows", "share_now"):
        assert sum(float(row[name]) for row in of_bins) == pytest.approx(1, abs=1e-3)
    assert float(of_bins[0]["share_now"]) > 2 * float(of_bins[0]["share_of_training_rows"])


def test_an_input_that_is_asked_for_is_drawn(moved, shown, client):
    assert "V22" not in drawn(shown())
    assert "V22" in drawn(shown(input="V22"))
    page = client.get(reverse("dashboard_drift"), {"input": "V22"}).content.decode()
    assert "<option selected>V22</option>" in page


def test_the_index_is_drawn_over_time_by_the_last_measurement_of_each_step(moved, shown):
    first = DriftReport.objects.get()
    first.pk, first.created_at, first.features = None, timezone.now() - timedelta(hours=5), {"V14": 0.5}
    first.save()
    lines = {trace["name"]: trace["y"] for trace in shown(window="24h")["trend"]["figure"]["data"]}
    assert [value for value in lines["V14"] if value is not None] == [0.5, DriftReport.objects.first().features["V14"]]
    assert len([value for value in lines["score"] if value is not None]) == 2


def test_new_categories_and_missing_values_are_told_by_their_shares(purchases_bundle, acme, shown, lines):  # noqa: F811
    champion = registry.register(purchases_bundle, promote=True)
    dataset = made_up_purchases(600, seed=1)
    texts = {name: {**of, np.nan: None} for name, of in dataset.texts.items()}
    names = dataset.schema.feature_names
    fields = [
        {
            name: None if np.isnan(value) else texts[name][value] if name in texts else value
            for name, value in zip(names, row, strict=True)
        }
        for row in dataset.features.tolist()
    ]
    for each in fields[:300]:
        each |= {"category": "casino", "device_days": None}
    now = timezone.now()
    predict(champion, acme, [now] * 600, fields=fields, fraud_scores=[0.01] * 600)
    measure_drift(schema="purchases")
    told = {row["input"]: row for row in lines("inputs", schema="purchases")}
    assert float(told["category"]["unseen"]) == 0.5
    assert float(told["device_days"]["missing_before"]) == pytest.approx(0.25, abs=0.03)
    assert float(told["device_days"]["missing"]) == pytest.approx(0.5 + 0.5 * 0.25, abs=0.05)
    answer = shown(schema="purchases")
    bins = {row["bin"]: row for row in lines(drawn(answer)["category"], schema="purchases")}
    assert float(bins["unknown to the model"]["share_now"]) == 0.5
    assert float(bins["grocery"]["share_now"]) == pytest.approx(
        float(bins["grocery"]["share_of_training_rows"]) / 2, 0.3
    )
    assert bars(answer, "unusual")["now"]["category: unknown"] == 0.5
    assert "0.0% → 50.0%, such as casino" in words(answer["inputs"]["children"])


def test_contributions_are_computed_once_an_hour(moved, monkeypatch):
    first = DriftDetail.objects.get().shift
    measure_drift(schema="ulb")
    assert DriftDetail.objects.get().shift == first
    monkeypatch.setattr(attribution, "EVERY", timedelta())
    measure_drift(schema="ulb")
    again = DriftDetail.objects.get().shift
    assert again["made_at"] > first["made_at"]
    assert again["total"] == pytest.approx(first["total"])


def test_without_earlier_traffic_the_page_says_so(champion, score, shown):
    score(champion, made_up_fields(500, seed=2), timedelta(minutes=1))
    measure_drift(schema="ulb")
    assert tiles(shown())["Mean score, in log odds"] == ("–", "no traffic from before to compare with")


def test_before_anything_is_measured_the_page_says_what_is_needed(champion, score, shown):
    score(champion, made_up_fields(7, seed=2), timedelta(minutes=1))
    told = " ".join(words(shown()["empty"]["children"]))
    assert "Drift was not measured yet" in told
    assert "there are 7 so far" in told


def test_without_a_champion_the_page_says_what_to_do(db, shown):
    assert "train a model and promote it" in " ".join(words(shown()["empty"]["children"]))


def test_a_version_is_enough_to_lead_to_its_schema_and_the_address_of_before_to_the_page(
    moved, handbook_champion, client, otto
):
    client.force_login(otto)
    old = client.get(f"/admin/drift/?version={handbook_champion.pk}&input=V14")
    assert old["Location"] == f"{reverse('dashboard_drift')}?version={handbook_champion.pk}&input=V14"
    page = client.get(old["Location"]).content.decode()
    assert f"schema=handbook&amp;version={handbook_champion.pk}" in page


def test_the_page_reads_what_is_stored_and_no_predictions(moved, shown):
    with CaptureQueriesContext(connection) as queries:
        shown()
    assert not any("scoring_prediction" in query["sql"] for query in queries.captured_queries)


def test_inputs_of_the_clock_come_last_and_are_told(handbook_champion, acme, shown):
    names = load_schema("handbook").input_names
    predict(handbook_champion, acme, [timezone.now() - timedelta(minutes=n) for n in range(600)])
    Transaction.objects.update(fields={"amount": 12.5})
    Prediction.objects.update(derived=dict.fromkeys(names[1:], 0.0))
    measure_drift(schema="handbook")
    told = shown(schema="handbook")
    assert (
        "Not counted as drift, as the traffic spans less than a week: is_night, is_weekend."
        in words(told["index-note"]["children"])[0]
    )
    table = words(told["inputs"]["children"])
    assert [name for name in table if name in names][-2:] == ["is_night", "is_weekend"]
