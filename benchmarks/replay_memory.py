"""Memory that computing the features of very many rows takes: `python -m benchmarks.replay_memory`.

Generates card payments as `manage.py generate` does and writes them to Parquet, then computes all features of the
schema `handbook` in partitions that wait on the disk: card and merchant are its customer and terminal. Every step is a
process of its own; its peak is its largest resident memory.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.stand import table
from training.core import generator
from training.core.generator.files import gathered
from training.core.schema import load_schema

ROWS = (2_000_000, 20_000_000)
DAYS, DAY_S = 120, 86_400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="default: 2000000 20000000")
    parser.add_argument("--directory", type=Path, help="for files, which are removed at the end")
    options = parser.parse_args()
    found = []
    for rows in options.rows:
        directory = Path(tempfile.mkdtemp(dir=options.directory))
        try:
            for step in (generate, compute):
                done, seconds, peak_mb = alone(step, rows, directory)
                found.append([f"{rows:,}", step.__name__, f"{done:,}", f"{seconds:.0f}", f"{peak_mb:,.0f}"])
                print(" ".join(found[-1]), flush=True)
        finally:
            shutil.rmtree(directory)
    print(table(["rows", "step", "rows written", "processor seconds", "peak, MB"], found))


def alone(step: Callable[[int, Path], int], *arguments: object) -> tuple[int, float, float]:
    """Run a step in a process of its own. Gives its result, its processor seconds and its largest resident memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        done = pool.submit(step, *arguments).result()  # type: ignore[arg-type]
        return done, *pool.submit(spent).result()


def spent() -> tuple[float, float]:
    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def generate(rows: int, directory: Path) -> int:
    """Write the arrivals of so many payments, as events and as labels. A label comes the delay of the schema later, and
    before the events of that second."""
    schema = load_schema("handbook")
    what = generator.wanted(rows=rows, card_count=None, days=DAYS, start=date(2025, 1, 1), seed=0, fraud_share=0.005)
    written = 0
    for payments in map(pa.Table.to_pandas, gathered(generator.generated(what))):
        event_time = payments["event_time"].dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
        key = np.arange(written, written + len(payments))
        # Times are whole seconds, and there are fewer than 2**29 payments.
        sequence = (event_time // 1_000_000 << 30) + key
        entities = {
            "customer": pd.util.hash_array(payments["card"].to_numpy()).astype(np.int64),
            "terminal": pd.util.hash_array(payments["merchant"].to_numpy()).astype(np.int64),
        }
        minor = np.rint(payments["amount"].to_numpy() * 100).astype(np.int64)
        events = {"key": key, "event_time": event_time, "amount_minor": minor, "sequence": sequence + 2**29}
        labels = {
            "key": key,
            "fraud": payments["is_fraud"].to_numpy(),
            "sequence": sequence + (round(schema.label_delay_days * DAY_S) << 30),
        }
        for name, columns in (("events", events), ("labels", labels)):
            path = directory / name / f"{written:012}.parquet"
            path.parent.mkdir(exist_ok=True)
            pd.DataFrame(columns | entities).to_parquet(path)
        written += len(payments)
    return written


def compute(rows: int, directory: Path) -> int:
    """Write the features of the payments to Parquet, and count their rows."""
    from training.core.features.partitions import features

    events, labels = (sorted((directory / name).iterdir()) for name in ("events", "labels"))
    return features(load_schema("handbook"), events, labels, directory / "features.parquet")


if __name__ == "__main__":
    main()
