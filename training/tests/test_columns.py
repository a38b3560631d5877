"""Columns of raw files: the same values as a web process stores, and the same codes as a worker computes."""

import math
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from scoring.api import validation
from training.core.datasets import parquet_path, storage
from training.core.features.replay import model_inputs
from training.core.schema.tokens import own_maker
from training.tests.support import made_up_shopping


@pytest.fixture
def ingest(shop, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path / "datasets"

    def run(frame, suffix=".parquet"):
        path = tmp_path / f"raw{suffix}"
        frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
        call_command("ingest", schema="shop", source=str(path))
        return storage.read(parquet_path(settings.DATASETS_DIR, "shop"), shop)

    return run


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_becomes_what_posting_its_rows_would_store(db, ingest, shop, settings, suffix):
    frame = made_up_shopping()
    dataset = ingest(frame, suffix)
    stored = pd.read_parquet(parquet_path(settings.DATASETS_DIR, "shop"))
    posted = []
    for row in frame.to_dict("records"):
        body = {name: value for name, value in row.items() if not pd.isna(value) and name != "fraud"}
        body |= {"event_time": row["event_time"].isoformat(), "schema": "shop"}
        moment = datetime(2026, 11, 28, tzinfo=UTC)
        posted.append(
            validation.validate(body, schema=shop, client_id=1, received_at=moment, deadline_ms=1000, clock_skew_s=1)
        )
    given = shop.encode([submission.features for submission in posted])
    inputs = model_inputs(shop, given, np.empty((len(frame), 0)))
    kept = dataset.features[:, : inputs.shape[1]]
    np.testing.assert_array_equal(kept.astype(np.float32), inputs.astype(np.float32))
    for place, name in enumerate(shop.feature_names):
        values = [None if pd.isna(value) else value for value in stored[name]]
        expected = [submission.features[place] for submission in posted]
        if shop.features[place].is_number:
            expected = [None if value is None else stored[name].dtype.type(value) for value in expected]
        assert values == expected, name
    own = own_maker(settings.ENTITY_HASH_KEY, "1")  # a file is of one client, and does not say of which
    for place, name in enumerate(shop.entity_names):
        tokens = [own(token) if isinstance(token, str) else "" for token in stored[name]]
        assert tokens == [submission.tokens[place] for submission in posted], name


def test_the_texts_of_a_category_are_known_by_their_codes(ingest, shop):
    dataset = ingest(made_up_shopping())
    assert set(dataset.texts) == {"category", "country", "currency", "email", "ip", "last_ip", "zone"}
    assert set(dataset.texts["category"].values()) == {"food", "toys", "caf\u00e9"}
    codes = dataset.features[:, shop.input_names.index("category")]
    assert {dataset.texts["category"][code] for code in codes if not math.isnan(code)} == {"food", "toys", "caf\u00e9"}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("country", "Germany", r"Column country: 1 values are refused \('Germany' in row 4\). Send a country code"),
        ("items", 1.5, r"Column items: 1 values are refused \('1.5' in row 4\). Give whole numbers"),
        ("birth", "2026-12-24", r"Column birth: .* in row 4\). The date lies after the event"),
        ("category", "x" * 65, r"Column category: .* Send at most 64 characters"),
        (
            "note",
            "of 4111-1111-1111-1111",
            r"Column note: 1 values are refused \(what looks like a card number in row 4\)\. Give tokens",
        ),
        ("email", "ann", r"Column email: .*in row 4"),
        ("lat", 91.0, r"lat: 1 out of range"),
        ("amount", None, r"amount: 1 missing"),
        ("card", None, r"card: 1 missing"),
    ],
)
def test_a_file_with_a_value_that_would_be_refused_is_refused_with_the_row(ingest, settings, column, value, message):
    frame = made_up_shopping()
    frame[column] = frame[column].astype(object)
    frame.loc[3, column] = value
    if column == "items":
        frame[column] = frame[column].astype(float)
    with pytest.raises(CommandError, match=message):
        ingest(frame)
    assert not parquet_path(settings.DATASETS_DIR, "shop").exists()
