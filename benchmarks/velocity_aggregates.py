"""Forty velocity features of every kind, of busy cards and of many cards: `python -m benchmarks.velocity_aggregates`.

Among them are distinct counts, features of the events with the same value, standard deviations, ranks, distances and
speeds. At the end the inputs of `payments`, of rows as `manage.py generate` makes them. Processor seconds are those of
all threads together, so the figures are per core.
"""

import dataclasses
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.ingest_memory import generate, ingest
from benchmarks.stand import table
from training.core.datasets import storage
from training.core.features.declaration import DAY_US, Entity, Point, Velocity
from training.core.features.replay import Events, Labels, arrivals_by_time, event_bytes, replay, warm
from training.core.schema import Field, Schema, load_schema

START_US = 1_522_627_200_000_000  # 2 April 2018
LABEL_DELAY_DAYS = 7.0
# Cards, transactions of each, and the days they take; histories keep 1,000.
TRAFFIC = [(500, 1_000, 365), (500, 1_000, 90), (100_000, 10, 90)]
PAYMENTS = 1_000_000  # rows
# Category fields, and how many values each has.
CATEGORIES = {"category": 14, "merchant": 700, "country": 5, "device": 3}
WINDOWS = (1.0, 7.0, 30.0)
IN_EACH_WINDOW = [
    *(("count", "events", ""), ("sum", "amounts", ""), ("mean", "amounts", ""), ("max", "amounts", "")),
    *(("std", "amounts", ""), ("distinct", "merchant", ""), ("distinct", "country", "")),
    *(("count", "events", "category"), ("mean", "amounts", "category")),
]
IN_90_DAYS = [
    *(("zscore", "amounts", ""), ("rank", "amounts", ""), ("median", "amounts", ""), ("share", "frauds", "")),
    *(("share", "category", ""), ("share", "device", ""), ("distinct", "device", ""), ("since_last", "events", "")),
    *(("zscore", "amounts", "category"), ("since_last", "events", "category"), ("count", "events", "merchant")),
    *(("distance", "place", ""), ("speed", "place", "")),
]


def main() -> None:
    schema = forty_features()
    began = time.process_time()
    warm(schema)
    print(f"Compiling, once per process: {time.process_time() - began:.1f} s of a processor")
    print(f"{len(schema.velocity)} features, {event_bytes(schema, 'card')} bytes per event of a history\n")
    rows = []
    for cards, each, days in TRAFFIC:
        events, labels = arrivals(schema, cards, cards * each, days)
        began = time.process_time()
        replay(schema, events, labels, keep_histories=False)
        seconds = time.process_time() - began
        per_minute = len(events) / seconds * 60 / 1e6
        rows.append([f"{cards:,}", f"{each:,}", str(days), f"{seconds:.1f}", f"{per_minute:.1f}"])
    print(table(["cards", "transactions of each", "days", "processor seconds", "millions a minute"], rows))
    inputs, seconds = of_payments()
    print(
        f"\nThe {inputs} inputs of payments, read from a file and computed: {PAYMENTS:,} rows in {seconds:.1f} s of a ",
        end="",
    )
    print(f"processor, {PAYMENTS / seconds * 60 / 1e6:.1f} million a minute")


def of_payments() -> tuple[int, float]:
    """The number of inputs, and the processor seconds of reading an ingested file as `manage.py train` does."""
    schema = load_schema("payments")
    warm(schema)
    with tempfile.TemporaryDirectory() as directory:
        generate(PAYMENTS, Path(directory))
        ingest(PAYMENTS, Path(directory))
        began = time.process_time()
        dataset = storage.read(Path(directory) / "stored" / "transactions.parquet", schema)
        return dataset.features.shape[1], time.process_time() - began


def forty_features() -> Schema:
    combined = [(*what, window) for window, what in product(WINDOWS, IN_EACH_WINDOW)]
    combined += [(*what, 90.0) for what in IN_90_DAYS]
    velocity = [
        Velocity(f"f{i}", "card", aggregate, of, window, "1", "A feature.", same=same)
        for i, (aggregate, of, same, window) in enumerate(combined)
    ]
    base = load_schema("handbook")
    fields = [Field(name, "A category.", kind="category", optional=True) for name in CATEGORIES]
    fields += [Field(kind, "A coordinate.", kind=kind) for kind in ("latitude", "longitude")]
    return dataclasses.replace(
        base,
        name="forty",
        features=(*base.features, *fields),
        points=(Point("place", "latitude", "longitude"),),
        entities=(Entity("card", "A card.", history_limit=1_000),),
        calendar=(),
        velocity=tuple(velocity),
    )


def arrivals(schema: Schema, cards: int, n: int, days: int) -> tuple[Events, Labels]:
    random = np.random.default_rng(0)
    event_time = START_US + np.sort(random.integers(0, days * DAY_US, n))
    sequence, label_sequence = arrivals_by_time(event_time, LABEL_DELAY_DAYS)
    amount_minor, key = random.integers(1, 20_000, n), np.arange(n)
    codes = [random.integers(0, count, n) * 1_234_567.0 for count in CATEGORIES.values()]
    places = [random.uniform(-bound, bound, n) for bound in (90, 180)]
    tokens = {"card": random.integers(0, cards, n)}
    return (
        Events(key, event_time, amount_minor, sequence, tokens, np.column_stack([amount_minor / 100, *codes, *places])),
        Labels(key, (random.random(n) < 0.01).astype(np.int8), label_sequence, tokens),
    )


if __name__ == "__main__":
    main()
