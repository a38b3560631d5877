"""`manage.py ingest --schema handbook`, and what training reads of it."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from benchmarks.peers import handbook_recipe
from training.core.datasets import parquet_path, storage
from training.core.schema import load_schema
from training.core.schema.tokens import token_of

SCHEMA = load_schema("handbook")


def raw_rows(rows=3000, seed=0):
    """Rows with the columns of the published file: sixty days of ten customers at twelve terminals."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(0, 60 * 86_400, rows))
    seconds[5] = seconds[4]
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(rows) + 1_000_000,
            "TX_DATETIME": pd.Timestamp("2018-04-01") + pd.to_timedelta(seconds, unit="s"),
            "CUSTOMER_ID": random.integers(0, 10, rows),
            "TERMINAL_ID": random.integers(0, 12, rows),
            "TX_AMOUNT": np.round(random.lognormal(3, 1, rows), 2),
            "TX_FRAUD": (random.random(rows) < 0.1).astype(np.int8),
            "TX_FRAUD_SCENARIO": 3,
        }
    )


@pytest.fixture(autouse=True)
def house(settings, tmp_path):
    settings.DATASETS_DIR = tmp_path / "datasets"


@pytest.fixture
def ingest(tmp_path, settings):
    """Ingests a frame by way of a file. Returns what `storage.read` makes of it."""

    def run(frame, name="raw.parquet"):
        path = tmp_path / name
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        call_command("ingest", schema="handbook", source=str(path))
        dataset = storage.read(parquet_path(settings.DATASETS_DIR, "handbook"), SCHEMA)
        return dataset.features, dataset.labels, dataset.report

    return run


def refusal(**options):
    with pytest.raises(CommandError) as refused:
        call_command("ingest", **options)
    return str(refused.value)


def test_it_computes_the_fifteen_features_of_the_book(ingest):
    raw = raw_rows()
    inputs, labels, _ = ingest(raw)
    book = handbook_recipe.features(raw)
    np.testing.assert_array_equal(labels, raw["TX_FRAUD"])
    for name in SCHEMA.input_names[1:15]:
        np.testing.assert_allclose(inputs[:, SCHEMA.input_names.index(name)], book[name], rtol=1e-9, atol=1e-9)


def test_a_csv_and_a_parquet_file_with_the_same_rows_become_the_same(ingest):
    raw = raw_rows(200)
    parquet, csv = ingest(raw), ingest(raw, "raw.csv")
    np.testing.assert_array_equal(parquet[0], csv[0])
    np.testing.assert_array_equal(parquet[1], csv[1])


def test_it_sorts_rows_by_time(ingest):
    raw = raw_rows(200)
    expected, _, _ = ingest(raw)
    # Of rows of one instant the first stays the first.
    shuffled = raw.sample(frac=1, random_state=0).sort_values("TRANSACTION_ID").sort_values("TX_AMOUNT", kind="stable")
    inputs, _, _ = ingest(shuffled)
    np.testing.assert_array_equal(np.sort(inputs[:, 0]), np.sort(expected[:, 0]))
    different = np.flatnonzero(inputs[:, 0] != expected[:, 0])
    assert set(different) <= {4, 5}, "but for the two of one instant"


def test_how_a_row_was_made_is_not_stored(ingest, settings):
    ingest(raw_rows(50))
    stored = pd.read_parquet(parquet_path(settings.DATASETS_DIR, "handbook"))
    assert list(stored) == ["transaction_id", "event_time", "customer", "terminal", "amount", "fraud"]


def test_it_stores_tokens_in_place_of_customers_and_terminals(ingest, settings):
    ingest(raw_rows(200))
    stored = pd.read_parquet(parquet_path(settings.DATASETS_DIR, "handbook"))
    for name, count in (("customer", 10), ("terminal", 12)):
        # Those that a request with the same identifiers would get.
        key = settings.ENTITY_HASH_KEY
        assert set(stored[name]) == {token_of(key, "handbook", name, str(value)) for value in range(count)}


def test_its_report_names_the_file_by_its_hash_and_counts_frauds(ingest, tmp_path, capsys):
    raw = raw_rows(50)
    _, _, report = ingest(raw)
    assert report.source_sha256 == hashlib.sha256((tmp_path / "raw.parquet").read_bytes()).hexdigest()
    assert (report.rows, report.frauds) == (50, raw["TX_FRAUD"].sum())
    assert "50 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("TX_AMOUNT", -1.0, "amount: 1 out of range"),
        ("TX_AMOUNT", None, "amount: 1 missing"),
        ("TX_FRAUD", 2, "fraud: 1 neither 0 nor 1"),
        ("TX_DATETIME", "yesterday", "Column TX_DATETIME: row 4 has yesterday"),
        ("TX_AMOUNT", "much", "Column amount"),
        ("CUSTOMER_ID", None, "customer: 1 missing"),
    ],
)
def test_it_refuses_what_does_not_fit_the_schema_and_names_the_column(ingest, column, value, message):
    raw = raw_rows(20).astype({column: "object"})
    raw.loc[3, column] = value
    with pytest.raises(CommandError, match=message):
        ingest(raw, "raw.csv")


def test_it_refuses_a_file_without_a_declared_column(ingest):
    with pytest.raises(CommandError, match="TERMINAL_ID"):
        ingest(raw_rows(20).drop(columns="TERMINAL_ID"))


def test_it_refuses_a_file_that_is_not_there():
    assert "absent.csv cannot be read" in refusal(schema="handbook", source="absent.csv")


def test_it_never_unpickles(tmp_path):
    path = tmp_path / "raw.pkl"
    raw_rows(20).to_pickle(path)
    assert "no Parquet, JSON Lines or CSV file" in refusal(schema="handbook", source=str(path))


def test_another_schema_needs_a_source():
    assert "--source FILE" in refusal(schema="handbook")


def test_an_unknown_schema_is_told():
    assert "There is no schema 'moon'" in refusal(schema="moon")


def test_a_misspelt_source_of_ulb_is_told():
    assert "--source is one of file, kaggle" in refusal(source="kagle")
