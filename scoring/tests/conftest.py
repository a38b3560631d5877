"""Stored rows, made without a model call, for the tests of the admin's pages."""

import json

import pytest
from django.utils import timezone

from fraudsite.testing import seed_payload
from scoring.models import Decision, Prediction, Transaction
from scoring.tests.files import scored, send_file, work  # noqa: F401  # fixtures
from scoring.worker.opening import review_of


@pytest.fixture
def post(acme_api):
    """Post a body: bytes or text as they are, anything else as JSON. Keyword arguments are headers."""

    def send(body, path="/predict", content_type="application/json", **headers):
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        return acme_api.generic("POST", path, data, content_type=content_type, headers=headers)

    return send


@pytest.fixture
def transaction(acme):
    def make(**changes):
        values = {"client": acme, "schema": "ulb", "amount": 12.5, "fields": seed_payload(), "body_sha256": "0" * 64}
        return Transaction.objects.create(**values | {"event_time": timezone.now()} | changes)

    return make


@pytest.fixture
def alert(transaction, champion):
    def make(fraud_score, decision=Decision.REVIEW, **changes):
        prediction = Prediction.objects.create(
            transaction=transaction(**changes),
            model_version=champion,
            fraud_score=fraud_score,
            decision=decision,
            threshold=0.5,
            reasons=[{"feature": "V14", "contribution": 3.25}],
            latency_ms=4.0,
        )
        review = review_of(prediction)
        review.save(force_insert=True)
        return review

    return make
