"""Writes generated transactions to a file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from training.core.exceptions import DatasetError

ROWS_AT_ONCE = 200_000
# What opens a file of a schema, by the ending of its name.
WRITERS: dict[str, Callable[[Path, pa.Schema], Any]] = {
    ".parquet": lambda path, schema: pq.ParquetWriter(path, schema, compression="zstd"),
    ".csv": lambda path, schema: pyarrow.csv.CSVWriter(path, schema),
}


def write(tables: Iterable[pa.Table], path: Path, on_rows: Callable[[int], object]) -> Counter[str]:
    """Write the whole file or nothing. `on_rows` is called with the number of rows so far. Returns how many
    transactions each scenario has; "" stands for legitimate ones.

    Raises:
        DatasetError: the file cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.part")
    scenarios: Counter[str] = Counter()
    writer = None
    try:
        for table in gathered(tables):
            writer = writer or WRITERS[path.suffix](unfinished, table.schema)
            writer.write_table(table)
            for count in table["fraud_scenario"].value_counts().to_pylist():
                scenarios[count["values"]] += count["counts"]
            on_rows(scenarios.total())
        if writer:
            writer.close()
        unfinished.replace(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return scenarios


def gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables: small ones make large files."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= ROWS_AT_ONCE:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
