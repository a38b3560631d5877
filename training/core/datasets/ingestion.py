"""Ingests the raw file of a schema: reads, checks and stores it with a part of its rows in memory.

The rows wait beside the stored file, which takes their place when all of them are checked.
"""

import tempfile
from datetime import datetime
from pathlib import Path

from training.core import stages
from training.core.datasets import raw, storage, validation
from training.core.datasets.copies import Repeated
from training.core.datasets.storage import Report
from training.core.datasets.waiting import Order, Waiting
from training.core.exchange.rates import NO_RATES, Rates
from training.core.schema import Schema


def ingest(
    path: Path,
    schema: Schema,
    target: Path,
    *,
    source_sha256: str,
    key: str,
    earliest: datetime,
    rates: Rates = NO_RATES,
    rows: int = raw.ROWS_AT_ONCE,
) -> Report:
    """Write the raw file of a schema to the Parquet file `target`, sorted by event time and with tokens made by `key`.

    Copies of an earlier row, id included, are left out. If the time is a feature, rows have no ids, and keep their
    order. What is stored does not depend on `rows`, the number that is read at a time.

    Raises:
        DatasetError: the file cannot be read, values are refused, missing or out of range, or different rows have the
            same id; names them.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=target.parent) as directory:
        waiting, repeated = Waiting(Path(directory) / "parts"), Repeated(schema, Path(directory) / "repeated")
        order, counts = Order(rows), validation.Counts()
        for part in raw.read_raw(path, schema, earliest=earliest, rates=rates, rows=rows):
            counts.update(validation.counted(part, schema))
            repeated.add(part)
            waiting.add(part)
            if schema.has_ids:
                order.add(part)
            stages.enter(f"Reading and checking rows: {counts[validation.ROWS, '']:,} so far")
        stages.enter("Looking for rows that come again")
        repeated.find(waiting)
        counts.subtract(repeated.counts)
        copies = {"left_out" if schema.has_ids else "duplicates": repeated.count}
        report = validation.report(counts, schema, source_sha256=source_sha256, **copies)
        parts = (repeated.without(part, number) for number, part in enumerate(waiting))
        stored = 0
        with storage.Writer(schema, report, target) as writer:
            for part in order.ordered(parts, Path(directory) / "times"):
                writer.add(raw.with_tokens(part, schema, key))
                stored += len(part)
                stages.enter(f"Making tokens and storing rows: {stored:,} of {report.rows:,}")
    return report
