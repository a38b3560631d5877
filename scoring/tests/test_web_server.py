"""What only a real web server shows: bodies of unannounced length, and traffic from the simulator."""

import json
import re

import httpx
from django.core.management import call_command

from fraudsite.testing import seed_payload
from scoring import services
from scoring.models import Prediction, Review, Transaction


def post(site, acme, content):
    _, key = services.create_api_key(client=acme)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return httpx.post(f"{site}/predict", content=content, headers=headers)


def test_it_takes_a_chunked_body(site, acme):
    assert post(site, acme, iter([json.dumps(seed_payload()).encode()])).status_code == 200


def test_it_refuses_a_chunked_body_over_the_limit(site, acme, settings):
    response = post(site, acme, (b" " * 4096 for _ in range(settings.PREDICT_BODY_LIMIT_BYTES // 4096 + 1)))
    assert response.status_code == 413
    assert response.headers["Content-Type"] == "application/problem+json"


def test_it_refuses_an_empty_body(site, acme):
    assert post(site, acme, b"").status_code == 400


def test_the_simulator_sends_test_rows_and_knows_what_was_caught(site, acme, capsys):
    _, key = services.create_api_key(client=acme)
    call_command("simulate", url=site, api_key=key, rate=200.0, count=60, fraud_rate=0.5, seed=7)
    summary = capsys.readouterr().out.splitlines()[-1]
    assert Transaction.objects.count() == Prediction.objects.count() == 60
    assert summary.startswith("60 answered in ")
    caught, frauds, false_alerts, legitimate = map(
        int, re.search(r"fraud (\d+)/(\d+) caught .* false alerts (\d+)/(\d+)", summary).groups()
    )
    assert frauds + legitimate == 60
    assert 15 < frauds < 45
    assert caught + false_alerts == Review.objects.count()
    assert caught > 0.8 * frauds
    assert summary.endswith("failed: none")
