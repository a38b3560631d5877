"""/metrics: who may read it, its values, and that it works while services are down."""

import importlib
import json
import re
import socket
import subprocess
import sys
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
from psycopg_pool import ConnectionPool, PoolTimeout

from fraudsite.testing import (
    METRICS_TOKEN,
    PROCESS_START_S,
    fraudulent_payload,
    free_port,
    seed_payload,
    soon,
    suspended,
    web_server,
    worker_environment,
)
from monitoring.matured import updating
from monitoring.rollups.updating import update as update_rollups
from monitoring.tests.generated import decisions
from monitoring.tests.support import fall_back, predict
from scoring import tasks
from scoring.clients import keys
from scoring.messages import replies
from scoring.models import Decision, Review
from scoring.policies import versions
from scoring.policies.document import Document
from scoring.retention import tasks as retention
from scoring.reviews import labelling
from scoring.telemetry import pool
from scoring.webhooks import endpoints, events
from scoring.webhooks.types import EventType
from scoring.worker import workers
from training.models import ModelVersion, Stage

pytestmark = pytest.mark.django_db

METRICS = reverse("metrics")
TOKEN = METRICS_TOKEN


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


def told_at(port):
    """What a process other than a web process tells; nothing before it listens."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    except httpx.ConnectError:
        return {}
    assert answer.status_code == 200, answer.text
    return samples_of(answer.text)


def measured_by(process):
    return told_at(process.metrics_port)


def risen(before, after, *key):
    return after.get(key, 0) - before.get(key, 0)


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


def test_it_tells_what_the_workers_have_loaded_and_what_they_refuse(worker, champion, scrape):
    give_up = time.monotonic() + PROCESS_START_S
    held = ("fraudsite_worker_models", "realtime", "ulb", champion.pk)
    while held not in scrape():  # the worker looks every MODEL_REFRESH_S
        assert time.monotonic() < give_up
        time.sleep(0.1)
    refusal = workers.Refusal("its-next", "It has been altered.")
    workers.publish(workers.Status("another", {"ulb": "its-own"}, {"ulb": refusal}, queue="bulk"))
    scraped = scrape()
    # The status of workers of earlier tests may not have expired yet.
    assert scraped[held] >= 1
    assert scraped["fraudsite_worker_models", "bulk", "ulb", "its-own"] == 1
    assert scraped["fraudsite_refused_models", "ulb", "its-next"] == 1


def test_it_tells_of_every_answer_without_a_score(worker, acme_api, scrape, settings):
    settings.FALLBACK_POLICY, settings.PREDICT_DEADLINE_MS = "rules", 300
    before = scrape()
    with suspended(worker.pid):
        acme_api.post("/predict", json.dumps(seed_payload()), content_type="application/json")
    after = scrape()
    assert risen(before, after, "fraudsite_fallbacks_total", "deadline") == 1
    assert after["fraudsite_pending_transactions", "waiting"] == 1


def test_it_tells_how_many_messages_wait_for_a_worker(redis_server, scrape):
    before = scrape()["fraudsite_queue_messages", "training"]
    replies.connection().rpush("training", "a message")
    try:
        assert scrape()["fraudsite_queue_messages", "training"] == before + 1
    finally:
        replies.connection().rpop("training")


def test_a_worker_tells_of_its_batches_its_model_and_its_tasks(worker, champion, acme_api):
    before = measured_by(worker)
    acme_api.post("/predict", json.dumps(seed_payload()), content_type="application/json")
    after = measured_by(worker)
    assert risen(before, after, "fraudsite_worker_batch_transactions_sum", "ulb") == 1
    assert risen(before, after, "fraudsite_model_call_seconds_count", champion.pk) == 1
    assert risen(before, after, "fraudsite_task_seconds_count", "success", "scoring.tasks.score_batch") == 1
    for stage in ("features", "model", "storage"):
        assert risen(before, after, "fraudsite_worker_stage_seconds_count", "ulb", stage) == 1
    assert after["process_resident_memory_bytes",] > 1e6


def test_a_worker_counts_what_it_could_not_score_by_its_cause(worker, champion, acme_api):
    before = measured_by(worker)
    ModelVersion.objects.filter(pk=champion.pk).update(stage=Stage.RETIRED)
    refused, give_up = 0, time.monotonic() + PROCESS_START_S
    while not refused:  # from when the worker has seen that there is no champion
        assert time.monotonic() < give_up
        answer = acme_api.post("/predict", json.dumps(seed_payload()), content_type="application/json")
        refused += answer.status_code == 503
    assert risen(before, measured_by(worker), "fraudsite_scoring_failures_total", "NoChampion") == 1


@pytest.mark.parametrize("shown", [{}, {"Authorization": f"Bearer {TOKEN}x"}])
def test_a_worker_tells_nothing_without_the_token(worker, shown):
    answer = httpx.get(f"http://127.0.0.1:{worker.metrics_port}/metrics", headers=shown)
    assert answer.status_code == 401
    assert "fraudsite_" not in answer.text


def test_the_processes_of_a_worker_are_added_up_those_that_have_ended_among_them(redis_server, transactional_db):
    port = free_port()
    environment = worker_environment() | {"METRICS_PORT": str(port), "METRICS_TOKEN": TOKEN}
    command = [sys.executable, "-m", "celery", "-A", "fraudsite", "worker", "-Q", "training", "--concurrency", "2"]
    process = subprocess.Popen([*command, "--max-tasks-per-child", "1"], env=environment)
    try:
        for _ in range(3):
            retention.delete_old_counts.apply_async(queue="training")
        tasks.run_backtest.apply_async(("no number",), queue="training")
        ran = ("fraudsite_task_seconds_count", "success", "scoring.retention.tasks.delete_old_counts")
        failed = ("fraudsite_task_failures_total", "ValueError", "scoring.tasks.run_backtest")
        give_up = time.monotonic() + PROCESS_START_S
        while (found := told_at(port)).get(ran, 0) < 3 or found.get(failed, 0) < 1:
            assert time.monotonic() < give_up, found
            time.sleep(0.1)
        assert (found[ran], found[failed]) == (3, 1)
    finally:
        process.terminate()
        process.wait(timeout=PROCESS_START_S)


def test_a_worker_whose_port_is_taken_says_so_and_ends(redis_server, transactional_db):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = worker_environment() | {"METRICS_PORT": port, "METRICS_TOKEN": TOKEN}
        command = [sys.executable, "-m", "celery", "-A", "fraudsite", "beat"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROCESS_START_S)
    assert ended.returncode != 0
    assert f"METRICS_PORT: port {port} of 127.0.0.1 cannot be opened" in ended.stderr


def test_the_pool_of_connections_tells_who_waits(scrape):
    if connection.vendor != "postgresql":
        pytest.skip("Only PostgreSQL has a pool.")
    parameters = connection.get_connection_params() | {"dbname": connection.settings_dict["NAME"]}
    parameters.pop("context", None)
    with ConnectionPool(kwargs=parameters, min_size=1, max_size=1, timeout=0.2, open=True) as connections:
        connections.wait()
        taken = connections.getconn()
        with pytest.raises(PoolTimeout):
            connections.getconn()
        before = scrape()
        pool.observe(connections)
        after = scrape()
        connections.putconn(taken)
    assert after["fraudsite_database_pool_connections", "used"] == 1
    for name in ("waits", "timeouts"):
        assert risen(before, after, f"fraudsite_database_pool_{name}_total") == 1
    assert risen(before, after, "fraudsite_database_pool_wait_seconds_total") >= 0.15


def test_a_web_process_tells_of_its_pool_of_connections(redis_server, transactional_db):
    if connection.vendor != "postgresql":
        pytest.skip("Only PostgreSQL has a pool.")
    shown = {"Authorization": f"Bearer {TOKEN}"}
    with web_server(worker_environment() | {"METRICS_TOKEN": TOKEN}) as url:
        told = soon(
            lambda: samples_of(httpx.get(f"{url}/metrics", headers=shown).text),
            lambda told: ("fraudsite_database_pool_connections", "idle") in told,
        )
    assert told["fraudsite_database_pool_connections", "idle"] >= 1


def test_web_processes_that_share_a_directory_tell_of_each_others_calls(worker, acme, tmp_path):
    _, key = keys.create(client=acme)
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "GRANIAN_WORKERS": "2", "METRICS_TOKEN": TOKEN}
    posted = 0
    with web_server(worker_environment() | shared) as url:
        while len(list(tmp_path.glob("histogram_*.db"))) < 2:
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
    for count in (1, 5):
        for _ in range(count):
            endpoints.create(client=acme, url="https://shop.example/", event_types=["batch.finished"])
        events.record(EventType.BATCH_FINISHED, object="batch:1", data={}, client=acme.pk)
        predict(champion, acme, [timezone.now()] * count, decision=Decision.REVIEW)
        fall_back(acme, [timezone.now()] * count)
        update_rollups()
        with django_assert_num_queries(10):  # one for each champion's outcomes
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


def test_the_page_of_metrics_lists_every_metric_and_no_other(client, settings, champion):
    importlib.import_module("fraudsite.beat")  # its metrics, too
    settings.METRICS_TOKEN = TOKEN
    text = client.get(METRICS, headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()
    exposed = set(re.findall(r"^# HELP (fraudsite_\w+) ", text, re.MULTILINE))
    page = (django_settings.BASE_DIR / "docs" / "observability.md").read_text()
    documented = set(re.findall(r"^\| `(fraudsite_\w+)` \|", page, re.MULTILINE))
    assert documented == {name for name in exposed if not name.endswith("_created")}


def test_precision_of_matured_labels_is_exposed_and_recall_only_with_a_judged_sample(scrape, champion, acme):
    decisions(champion, acme, days=20, a_day=30, now=timezone.now() - timedelta(days=46), known_at=timezone.now())
    list(updating.recount())
    of = ("ulb", champion.version)
    found = scrape()
    assert 0 < found["fraudsite_precision_matured", *of] <= 1
    assert 0 < found["fraudsite_recall_matured", *of] <= 1
    assert found["fraudsite_outcomes_final", *of] > 0.9
    Review.objects.update(is_sample=False)
    list(updating.recount())
    found = scrape()
    assert ("fraudsite_precision_matured", *of) in found
    assert ("fraudsite_recall_matured", *of) not in found
