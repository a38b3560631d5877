"""Small, made-up transactions with the ULB columns, and a real model of them."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.core import configuration, families, places, schema
from training.core.bundle import Bundle
from training.core.configuration.sections import Configuration, NetworkHyperparameters
from training.core.datasets import parquet_path, storage
from training.core.datasets.storage import Dataset, Report, Timeline
from training.core.pipeline import train
from training.core.schema import Schema, load_schema

# Of fraud, these components lie far to one side, as in the real data.
FRAUD_SHIFTS = {"V3": -6.0, "V4": 4.0, "V10": -6.0, "V12": -7.0, "V14": -8.0, "V17": -6.0}


def made_up_rows(rows: int = 4000, frauds: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [rows, 30] float64 in the schema's order and labels [rows] int8."""
    random = np.random.default_rng(seed)
    names = load_schema("ulb").feature_names
    labels = np.zeros(rows, np.int8)
    labels[random.choice(rows, frauds, replace=False)] = 1
    features = random.normal(size=(rows, len(names)))
    features[:, names.index("Time")] = np.sort(random.integers(0, 172_792, rows))
    features[:, names.index("Amount")] = np.round(random.lognormal(3, 1.2, rows), 2)
    for name, shift in FRAUD_SHIFTS.items():
        features[labels == 1, names.index(name)] += shift * random.uniform(0.3, 1.2, frauds)
    return features, labels


def made_up_report(labels: np.ndarray, source_sha256: str = "0" * 64) -> Report:
    return Report(
        "ulb", source_sha256, rows=len(labels), frauds=int(labels.sum()), duplicates=0, nulls=0, out_of_range=0
    )


def store_made_up_dataset(datasets_dir: Path, source_sha256: str = "0" * 64) -> None:
    """Put the rows of `made_up_rows()` where `ingest` would have put real ones."""
    schema = load_schema("ulb")
    features, labels = made_up_rows()
    frame = pd.DataFrame(features, columns=schema.feature_names).assign(**{schema.label: labels})
    path = parquet_path(datasets_dir, schema.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(frame, schema, made_up_report(labels, source_sha256), path)


def made_up_payments(rows: int = 3000, days: int = 40) -> pd.DataFrame:
    """Rows of the schema `handbook` as they are stored: ten customers at twelve terminals, some in the same second."""
    random = np.random.default_rng(0)
    seconds = np.sort(random.integers(0, days * 86_400, rows))
    seconds[1::50] = seconds[::50]
    return pd.DataFrame(
        {
            "transaction_id": np.arange(rows).astype(str),
            "event_time": pd.Timestamp("2018-04-01", tz="UTC") + pd.to_timedelta(seconds, unit="s"),
            "customer": [f"customer {number}" for number in random.integers(0, 10, rows)],
            "terminal": [f"terminal {number}" for number in random.integers(0, 12, rows)],
            "amount": np.round(random.lognormal(3, 1, rows), 2),
            "fraud": (random.random(rows) < 0.1).astype(np.int8),
        }
    )


def store_made_up_payments(datasets_dir: Path) -> None:
    """Put the rows of `made_up_payments()` where `ingest` would have put real ones."""
    schema, frame = load_schema("handbook"), made_up_payments()
    path = parquet_path(datasets_dir, schema.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(frame, schema, made_up_report(frame[schema.label].to_numpy()), path)


@contextmanager
def with_purchases(directory: Path) -> Iterator[Schema]:
    """Gives the schema `purchases` of the tests, which has categories and values that may be missing. It is one of
    `directory` as long as this lasts."""
    shutil.copy(Path(__file__).parent / "fixtures" / "purchases.toml", directory)
    before = places.own
    schema.look_in(directory)
    try:
        yield load_schema("purchases")
    finally:
        schema.look_in(before)


CATEGORIES = ("grocery", "fuel", "travel", "jewels", "books", "toys")


def made_up_purchases(rows: int = 4000, seed: int = 0) -> Dataset:
    """Rows of the schema `purchases`. Fraud are jewels and travels from devices that nobody knows."""
    random = np.random.default_rng(seed)
    category = random.choice(CATEGORIES, rows, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    unknown = random.random(rows) < 0.25
    device_days = np.where(unknown, np.nan, np.where(random.random(rows) < 0.3, 0.0, random.uniform(0, 900, rows)))
    country = random.choice(["DE", "FR", "IT", ""], rows)
    labels = (np.isin(category, ["jewels", "travel"]) & unknown).astype(np.int8)
    values = [
        [amount, None if np.isnan(days) else days, kind, place or None]
        for amount, days, kind, place in zip(
            random.lognormal(3, 1, rows).round(2).tolist(),
            device_days.tolist(),
            category.tolist(),
            country.tolist(),
            strict=True,
        )
    ]
    return purchases(values, labels)


def purchases(values: Sequence[Sequence[float | str | None]], labels: np.ndarray) -> Dataset:
    """A dataset of values of the schema `purchases`."""
    declared = load_schema("purchases")
    columns = zip(declared.features, zip(*values, strict=True), strict=True)
    texts = {
        field.name: {field.of_kind.encode(text): text for text in set(column) if isinstance(text, str)}
        for field, column in columns
        if field.is_category
    }
    return Dataset(declared, declared.encode(values), labels, None, made_up_report(labels), texts)


def bundle_of_purchases(directory: Path, signing_key: str, /, **overrides: Any) -> Bundle:
    """The same for `made_up_purchases()`."""
    return train(
        config=small_config(**{"data.schema": "purchases"} | overrides),
        dataset=made_up_purchases(),
        bundles_dir=directory,
        signing_key=signing_key,
        on_epoch=lambda epoch, logs: None,
    )


def made_up_shopping(rows: int = 40) -> pd.DataFrame:
    """Rows of a raw file for the schema `shop`: values in many forms, some missing."""
    random = np.random.default_rng(0)

    def some(*values: Any) -> list[Any]:
        return [values[index] for index in random.integers(0, len(values), rows)]

    return pd.DataFrame(
        {
            "transaction_id": [f"p-{number}" for number in range(rows)],
            "event_time": pd.date_range("2026-11-01T09:30:00Z", periods=rows, freq="h"),
            "card": some("c-1", "c-2", "c-3"),
            "device": some("d-1", "d-2", None),
            "amount": random.uniform(1, 100, rows).round(2),
            "items": some(1.0, 2.0, None),
            "points": some(100.0, None),
            "is_gift": some(True, False, None),
            "category": some("Food", "FOOD", "toys", " Caf\u00e9", "cafe\u0301", None),
            "country": some("DE", "DEU", "fr", None),
            "currency": some("EUR", "usd", None),
            "lat": some(52.520008, -33.856784, None),
            "long": some(13.404954, 151.215297, None),
            "birth": some("1980-01-31", "2001-12-24", None),
            "expiry": some("2031-01-31", None),
            "email": some("Ann@Example.com", "bob@example.org", None),
            "ip": some("192.0.2.7", "2001:DB8::7", None),
            "note": some("a note", None),
            "phone": some("+49 30 1234", None),
            "home_lat": some(52.520008, None),
            "home_long": some(13.404954, 13.1),
            "opened": some("2019-07-21", None),
            "last_ip": some("192.0.2.77", "2001:db8::99", None),
            "zone": some("Europe/Berlin", "america/new_york", None),
            "fraud": [1, 0] * (rows // 2),
        }
    )


def small_config(**overrides: Any) -> Configuration:
    """The shipped configuration, with less to do."""
    small = {"model.epochs": 12, "model.batch_size": 128, "evaluation.bootstrap_resamples": 20}
    return configuration.read(overrides=small | overrides)


def tiny_bundle(directory: Path, signing_key: str, parent: str | None = None, /, **overrides: Any) -> Bundle:
    """A real bundle of a model trained on made-up rows, written below `directory`."""
    return bundle_of(*made_up_rows(), directory, signing_key, None, "ulb", parent, **overrides)


def tiny_handbook_bundle(directory: Path, signing_key: str, schema: str = "handbook", /, **overrides: Any) -> Bundle:
    """The same for `handbook`, or a schema of its inputs: fraud is of large amounts, and histories tell nothing."""
    random = np.random.default_rng(0)
    labels = np.zeros(3000, np.int8)
    labels[random.choice(len(labels), 150, replace=False)] = 1
    names = load_schema(schema).input_names
    inputs = random.uniform(0, [6e6 if name.endswith("_s") else 2000 for name in names], (len(labels), len(names)))
    inputs[:, 0] = np.where(labels == 1, random.uniform(500, 2000, len(labels)), random.lognormal(3, 0.8, len(labels)))
    return bundle_of(inputs, labels, directory, signing_key, None, schema, **overrides)


def networks_of(bundle: Bundle) -> NetworkHyperparameters:
    """What the networks of a bundle were trained with."""
    found = families.hyperparameters_of(bundle)
    assert isinstance(found, NetworkHyperparameters)
    return found


def bundle_of(
    features: np.ndarray,
    labels: np.ndarray,
    directory: Path,
    signing_key: str,
    timeline: Timeline | None = None,
    schema: str = "ulb",
    parent: str | None = None,
    /,
    **overrides: Any,
) -> Bundle:
    return train(
        config=small_config(**overrides),
        dataset=Dataset(load_schema(schema), features, labels, timeline, made_up_report(labels)),
        bundles_dir=directory,
        signing_key=signing_key,
        on_epoch=lambda epoch, logs: None,
        parent=parent,
    )
