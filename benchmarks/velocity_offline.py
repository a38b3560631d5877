"""Computed features of a whole dataset, beside the usual recipes: `python -m benchmarks.velocity_offline FILE`.

All start from one frame in memory, end with the features of every row, and run in turn. The book's recipe is pandas,
group by group; the other peer does the same in Polars. The features that the book defines are compared row by row.
Processor seconds are those of all threads together; on a busy machine they are more reliable than the clock.
"""

import dataclasses
import os
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from benchmarks.peers import handbook_recipe, polars_recipe
from benchmarks.stand import handbook_file, table
from training.core.features.replay import Events, Labels, arrivals_by_time, replay, warm
from training.core.features.stored import EVENT_BYTES, VERSION_BYTES
from training.core.schema import Schema, load_schema

BOOK_FEATURES = 14  # the amount, its fifteenth, is given


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="the raw file")
    parser.add_argument("--rows", type=int, help="the first so many only")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    schema = load_schema("handbook")
    book = dataclasses.replace(schema, velocity=schema.velocity[: BOOK_FEATURES - len(schema.calendar)])
    raw = pd.read_parquet(handbook_file(parser, options.source))
    raw = raw.sort_values("TX_DATETIME", kind="stable", ignore_index=True)[: options.rows]
    raw["TRANSACTION_ID"] = np.arange(len(raw))
    lazy = pl.from_pandas(raw)
    began = time.perf_counter()
    warm(schema)
    print(f"Compiling, once per process: {time.perf_counter() - began:.1f} s\n")

    ways: dict[str, Callable[[], object]] = {
        "pandas, the book's recipe: 14 features": lambda: handbook_recipe.features(raw),
        "Polars: 14 features": lambda: polars_recipe.features(lazy),
        "ours: the same 14": lambda: ours(book, raw),
        f"ours: all {len(schema.derived)}": lambda: ours(schema, raw),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, Any] = {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began, began_processor = time.perf_counter(), time.process_time()
            made[name] = way()
            seconds[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - began_processor)
            print(f"{name}: {seconds[name][-1]:.2f} s, {processor[name][-1]:.2f} s of processors", flush=True)
    pandas = next(iter(ways))
    rows = [
        [
            name,
            f"{median(seconds[name]):.2f}",
            f"{median(seconds[pandas]) / median(seconds[name]):.1f}×",
            f"{median(processor[name]):.2f}",
            f"{median(processor[pandas]) / median(processor[name]):.1f}×",
        ]
        for name in ways
    ]
    print(f"\n{len(raw):,} rows, {options.rounds} rounds, {len(os.sched_getaffinity(0))} cores\n")
    print(table(["", "seconds", "as fast as pandas", "processor seconds", "as cheap as pandas"], rows))

    by_book, _, by_us, _ = made.values()
    largest = np.abs(by_book[[feature.name for feature in book.derived]].to_numpy() - by_us).max()
    print(f"\nLargest difference between the book's features and ours: {largest:.1e}")
    everything = replay(schema, *arrivals(schema, raw))
    for entity, histories in everything.histories.items():
        sizes = np.array([len(history) for history in histories.values()])
        print(
            f"History per {entity}: mean {sizes.mean():,.0f} bytes, 99 % below {np.quantile(sizes, 0.99):,.0f}, "
            f"largest {sizes.max():,} ({VERSION_BYTES} + {EVENT_BYTES} per event); {len(sizes):,} of them"
        )


def ours(schema: Schema, raw: pd.DataFrame) -> np.ndarray:
    return replay(schema, *arrivals(schema, raw), keep_histories=False).features


def arrivals(schema: Schema, raw: pd.DataFrame) -> tuple[Events, Labels]:
    event_time = raw["TX_DATETIME"].to_numpy().astype("datetime64[us]").astype(np.int64)
    sequence, label_sequence = arrivals_by_time(event_time, schema.label_delay_days)
    key = raw["TRANSACTION_ID"].to_numpy().astype(np.int64)
    tokens = {"customer": raw["CUSTOMER_ID"].to_numpy(), "terminal": raw["TERMINAL_ID"].to_numpy()}
    amount_minor = schema.amount_minor(raw["TX_AMOUNT"].to_numpy())
    return (
        Events(key, event_time, amount_minor, sequence, tokens),
        Labels(key, raw["TX_FRAUD"].to_numpy(), label_sequence, tokens),
    )


if __name__ == "__main__":
    main()
