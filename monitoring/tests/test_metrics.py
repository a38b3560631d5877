"""/metrics: who may read it, its values, and that it works while services are down."""

import json
import re
import time
from datetime import timedelta

import httpx
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.urls import reverse
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from fraudsite.testing import fraudulent_payload, seed_payload, suspended, web_server, worker_environment
from monitoring.rollups import update_rollups
from monitoring.tests.support import fall_back, predict
from scoring.clients import keys
from scoring.models import Decision, Review
from scoring.policies import versions
from scoring.policies.document import Document
from scoring.reviews import labelling
from scoring.worker import workers

pytestmark = pytest.mark.django_db

METRICS = reverse("metrics")
TOKEN = "t0ken-of-the-tests-with-enough-characters"


@pytest.fixture
def scrape(client, settings):
    settings.METRICS_TOKEN = TOKEN
    return lambda: samples(client.get(METRICS, headers={"Authorization": f"Bearer {TOKEN}"}))


def samples(response):
    """Name and labels to value, of everything that was exposed."""
    assert response.status_code == 200, response.content
    assert response["Content-Type"].startswith("text/plain; version=")
    return samples_of(response.content.decode())


def samples_of(text):
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels) if name != "le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def risen(before, after, *key):
    return after[key] - before.get(key, 0)


def test_it_tells_what_waits_for_people_and_workers(scrape, champion, acme, alice, settings):
    now = timezone.now()
    predict(champion, acme, [now] * 3, decision=Decision.REVIEW)
    labelling.close_review(review=Review.objects.all()[0], is_fraud=True, reviewer=alice)
    version = versions.draft(schema="ulb", by="rita", content=Document(capacity=2.0))
    versions.activate(version, by="rita")
    fall_back(acme, [now] * 2)
    fall_back(acme, [now], attempts=settings.PENDING_ATTEMPTS_LIMIT)
    scraped = scrape()
    assert scraped["fraudsite_open_reviews",] == 2
    assert (scraped["fraudsite_reviews_last_day", "ulb"], scraped["fraudsite_review_capacity", "ulb"]) == (3, 2)
    assert scraped["fraudsite_pending_transactions", "waiting"] == 2
    assert scraped["fraudsite_pending_transactions", "set_aside"] == 1
    assert scraped["fraudsite_database_up",] == 1


def test_it_tells_the_decisions_of_the_last_hour(scrape, champion, acme):
    now = timezone.now()
    predict(champion, acme, [now] * 5)
    predict(champion, acme, [now] * 3, decision=Decision.CHALLENGE)
    predict(champion, acme, [now] * 2, decision=Decision.REVIEW)
    predict(champion, acme, [now], decision=Decision.BLOCK)
    predict(champion, acme, [now - timedelta(hours=2)], decision=Decision.BLOCK)
    update_rollups()
    scraped = scrape()
    decisions = {decision: scraped["fraudsite_transactions_last_hour", decision] for decision in Decision.values}
    assert decisions == {"approve": 5, "challenge": 3, "review": 2, "block": 1}


def test_it_names_the_champion(scrape, champion):
    assert scrape()["fraudsite_champion_info", "ulb", champion.version] == 1


def test_an_empty_site_has_metrics_too(scrape):
    scraped = scrape()
    assert scraped["fraudsite_open_reviews",] == scraped["fraudsite_transactions_last_hour", "block"] == 0
    assert not [key for key in scraped if key[0] == "fraudsite_champion_info"]


def test_it_tells_of_every_call_and_every_batch(worker, acme_api, scrape):
    before = scrape()
    for payload in (seed_payload(), fraudulent_payload()):
        acme_api.post("/predict", json.dumps(payload), content_type="application/json")
    after = scrape()
    assert risen(before, after, "fraudsite_request_seconds_count", "200") == 2
    assert risen(before, after, "fraudsite_batch_transactions_sum", "realtime") == 2
    for stage in ("queue", "features", "model", "storage", "reply"):
        assert risen(before, after, "fraudsite_stage_seconds_count", "realtime", stage) == 2


def test_it_tells_what_the_workers_have_loaded_and_what_they_refuse(worker, champion, scrape, settings):
    time.sleep(settings.MODEL_REFRESH_S + 0.5)
    refusal = workers.Refusal("its-next", "It has been altered.")
    workers.publish(workers.Status("another", {"ulb": "its-own"}, {"ulb": refusal}))
    scraped = scrape()
    # The status of workers of earlier tests may not have expired yet.
    assert scraped["fraudsite_worker_models", "ulb", champion.pk] >= 1
    assert scraped["fraudsite_worker_models", "ulb", "its-own"] == 1
    assert scraped["fraudsite_refused_models", "ulb", "its-next"] == 1


def test_it_tells_of_every_answer_without_a_score(worker, acme_api, scrape, settings):
    settings.FALLBACK_POLICY, settings.PREDICT_DEADLINE_MS = "rules", 300
    before = scrape()
    with suspended(worker.pid):
        acme_api.post("/predict", json.dumps(seed_payload()), content_type="application/json")
    after = scrape()
    assert risen(before, after, "fraudsite_fallbacks_total", "deadline") == 1
    assert after["fraudsite_pending_transactions", "waiting"] == 1


def test_web_processes_that_share_a_directory_tell_of_each_others_calls(worker, acme, tmp_path):
    _, key = keys.create(client=acme)
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "GRANIAN_WORKERS": "2", "METRICS_TOKEN": TOKEN}
    posted = 0
    with web_server(worker_environment() | shared) as url:
        while len({path.stem.split("_")[1] for path in tmp_path.iterdir()}) < 2:
            assert posted < 200, "one process answered every call"
            response = httpx.post(f"{url}/predict", json=seed_payload(), headers={"Authorization": f"Bearer {key}"})
            assert response.status_code == 200
            posted += 1
        for _ in range(5):
            text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
            assert samples_of(text)["fraudsite_request_seconds_count", "200"] == posted
            assert samples_of(text)["fraudsite_database_up",] == 1


def test_when_the_database_is_down_it_tells_that_and_what_was_measured(scrape):
    def broken(*_):
        raise OperationalError("gone")

    with connection.execute_wrapper(broken):
        scraped = scrape()
    assert scraped["fraudsite_database_up",] == 0
    assert ("fraudsite_open_reviews",) not in scraped
    assert "python_info" in {name for name, *_ in scraped}


def test_a_scrape_asks_as_often_whatever_the_rows(scrape, champion, acme, django_assert_num_queries):
    for count in (1, 50):
        predict(champion, acme, [timezone.now()] * count, decision=Decision.REVIEW)
        fall_back(acme, [timezone.now()] * count)
        update_rollups()
        with django_assert_num_queries(5):
            scrape()


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer \u00e9\u00e9\u00e9"},
    ],
)
def test_without_the_token_it_is_refused(client, settings, shown):
    settings.METRICS_TOKEN = TOKEN
    response = client.get(METRICS, headers=shown)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert b"fraudsite_" not in response.content


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}"}])
def test_where_no_token_is_set_none_opens_it(client, settings, shown):
    settings.METRICS_TOKEN = ""
    assert client.get(METRICS, headers=shown).status_code == 401


def test_no_token_is_set_unless_the_operator_sets_one():
    assert django_settings.METRICS_TOKEN == ""


@pytest.mark.parametrize("token", ["", TOKEN])
def test_staff_may_look_at_it_and_others_not(client, alice, settings, token):
    settings.METRICS_TOKEN = token
    client.force_login(alice)
    assert "fraudsite_open_reviews" in client.get(METRICS).content.decode()
    client.force_login(User.objects.create_user("eve"))
    assert client.get(METRICS).status_code == 401


def test_a_clients_api_key_does_not_open_it(acme_api):
    assert acme_api.get(METRICS).status_code == 401


def test_it_is_read_only_and_never_kept_by_a_cache(client, settings):
    settings.METRICS_TOKEN = TOKEN
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post(METRICS, headers=headers).status_code == 405
    assert "no-store" in client.get(METRICS, headers=headers)["Cache-Control"]


def test_the_operators_page_lists_every_metric_and_no_other(client, settings, champion):
    settings.METRICS_TOKEN = TOKEN
    text = client.get(METRICS, headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()
    exposed = set(re.findall(r"^# HELP (fraudsite_\w+) ", text, re.MULTILINE))
    page = (django_settings.BASE_DIR / "docs" / "operators.md").read_text()
    documented = set(re.findall(r"^\| `(fraudsite_\w+)` \|", page, re.MULTILINE))
    assert documented == {name for name in exposed if not name.endswith("_created")}
