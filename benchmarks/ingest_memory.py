"""Memory that ingest takes: `python -m benchmarks.ingest_memory`.

Generates the payments of `manage.py generate` into one Parquet file, then ingests it as `manage.py ingest` does. Each
is a process of its own; its peak is its largest resident memory.
"""

import argparse
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

from benchmarks.replay_memory import DAYS, alone
from benchmarks.stand import table
from training.core import generator
from training.core.datasets import ingestion
from training.core.generator import files
from training.core.schema import load_schema


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=(1_000_000, 3_000_000), help="default: 1000000 3000000")
    found = []
    for rows in parser.parse_args().rows:
        with tempfile.TemporaryDirectory() as directory:
            alone(generate, rows, Path(directory))
            done, seconds, peak_mb = alone(ingest, rows, Path(directory))
        found.append([f"{done:,}", f"{seconds:.0f}", f"{peak_mb:,.0f}"])
    print(table(["rows", "processor seconds", "peak, MB"], found))


def generate(rows: int, directory: Path) -> int:
    what = generator.wanted(rows=rows, card_count=None, days=DAYS, start=date(2025, 1, 1), seed=0, fraud_share=0.005)
    return files.write(generator.generated(what), directory / "raw.parquet", lambda rows: None).total()


def ingest(rows: int, directory: Path) -> int:
    schema, stored = load_schema("payments"), directory / "stored" / "transactions.parquet"
    earliest = datetime(2000, 1, 1, tzinfo=UTC)
    raw = directory / "raw.parquet"
    return ingestion.ingest(raw, schema, stored, source_sha256="", key="a key", earliest=earliest).rows


if __name__ == "__main__":
    main()
