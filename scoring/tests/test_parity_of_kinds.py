"""A schema with a value of every kind: what a worker computes of posted rows is what training computes of the file."""

import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from scoring import explanations
from scoring.api import validation
from scoring.messages.explanation import Explanation
from scoring.messages.replies import Kind
from scoring.models import History, Label, Prediction
from scoring.reviews import labelling
from scoring.worker import batches, predictor
from training import registry
from training.core.datasets import parquet_path, storage
from training.core.pipeline import train
from training.tests.support import made_up_shopping, small_config

NOW = datetime(2026, 11, 28, tzinfo=UTC)
TREES = {
    "data.schema": "shop",
    "model.architecture": "xgboost",
    "xgboost.epochs": 5,
    "policy.review_precision": 0.1,
}


@pytest.fixture
def dataset(shop, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path / "datasets"
    made_up_shopping(120).to_parquet(tmp_path / "raw.parquet")
    call_command("ingest", schema="shop", source=str(tmp_path / "raw.parquet"))
    return storage.read(parquet_path(settings.DATASETS_DIR, "shop"), shop)


@pytest.fixture
def champion(db, dataset, settings, tmp_path):
    settings.BUNDLES_DIR = tmp_path / "models"  # a name is of the second, and the next test may come in the same one
    bundle = train(
        config=small_config(**TREES),
        dataset=dataset,
        bundles_dir=settings.BUNDLES_DIR,
        signing_key=settings.BUNDLE_SIGNING_KEY,
        on_epoch=lambda epoch, logs: None,
    )
    return predictor.Predictor(registry.register(bundle, promote=True))


@pytest.fixture
def post(champion, acme):
    """Have a worker score rows of a raw file, in batches of this size. Gives the predictions in their order."""

    def send(rows, batch_size):
        sent = []
        for row in rows.to_dict("records"):
            body = {name: value for name, value in row.items() if not pd.isna(value) and name != "fraud"}
            body |= {"event_time": row["event_time"].isoformat(), "schema": "shop"}
            sent.append(
                validation.validate(
                    body,
                    schema=champion.schema,
                    client_id=acme.pk,
                    received_at=NOW,
                    deadline_ms=1000,
                    clock_skew_s=1,
                )
            )
        for start in range(0, len(sent), batch_size):
            part = sent[start : start + batch_size]
            outcomes, _ = batches.score_batch(submissions=part, predictor=champion, started_at=0.0)
            assert {outcome.kind for outcome in outcomes} == {Kind.SCORED}
        found = Prediction.objects.in_bulk([each.id for each in sent], field_name="transaction_id")
        return [prediction for _, prediction in sorted(found.items(), key=lambda item: str(item[0]))]

    return send


def features_of(schema, predictions):
    names = [feature.name for feature in schema.derived]
    return np.array([[prediction.derived[name] for name in names] for prediction in predictions], np.float64)


@pytest.mark.parametrize("batch_size", [1, 7, 120])
def test_a_worker_computes_what_training_computed_to_the_last_bit(shop, dataset, post, batch_size):
    predictions = post(made_up_shopping(120), batch_size)
    offline = dataset.features[:, -len(shop.derived) :]
    assert np.isnan(offline).any()
    assert features_of(shop, predictions).tobytes() == offline.tobytes()


def test_check_parity_agrees_when_values_entities_and_labels_are_missing_or_late(post, champion, capsys):
    rows = made_up_shopping(120)
    late = post(rows[:80].sample(frac=1.0, random_state=0), 9)
    for prediction in late[::3]:
        labelling.add_label(
            transaction_id=prediction.pk, is_fraud=prediction.pk.int % 2 == 0, source=Label.Source.IMPORT
        )
    post(rows[80:], 9)
    call_command("check_parity", "--schema", "shop", "--sample", "0")
    assert "No feature of shop differs." in capsys.readouterr().out


def test_check_parity_finds_a_feature_of_an_entity_that_the_transaction_does_not_have(post):
    without = next(one for one in post(made_up_shopping(20), 9) if "device" not in one.transaction.tokens)
    without.derived["device_networks"] = 1.0
    without.save()
    with pytest.raises(CommandError, match="1 predictions of shop differ, in 1 features"):
        call_command("check_parity", "--schema", "shop", "--sample", "0")


def test_rebuilt_histories_are_those_that_were_kept(post, champion):
    post(made_up_shopping(120), 9)

    def kept():
        return {row.token: (row.entity, bytes(row.events)) for row in History.objects.all()}

    before = kept()
    assert {entity for entity, _ in before.values()} == set(champion.schema.entity_names)
    History.objects.update(events=b"stale")
    call_command("rebuild_histories", "--schema", "shop")
    assert kept() == before


def test_a_reason_tells_what_is_usual_of_the_part_of_an_address_that_the_model_learned(post):
    prediction = next(one for one in post(made_up_shopping(20), 9) if {"email", "ip"} <= one.transaction.fields.keys())
    explanation = Explanation(base=0.0, residual=0.0, contributions={"email": 1.0, "ip": 0.5})
    told = {reason["feature"]: reason["text"] for reason in explanations.told(prediction, explanation)}
    assert re.fullmatch(r"Where the receipt goes: example\.(com|org), as in \d+ % of transactions", told["email"])
    assert re.search(r": (192\.0\.2\.0/24|2001:db8::/48), as in \d+ % of transactions", told["ip"])
