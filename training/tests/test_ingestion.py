"""Files that are read by parts: what is stored, and what is refused, is the same for parts of any size."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.core.datasets import ingestion
from training.core.exceptions import DatasetError
from training.tests.support import made_up_shopping

ROWS = 40
# Values that are refused, or read otherwise than those around them.
SPOILT = [
    ("event_time", "01/11/2026"),
    ("event_time", "2026-11-01T09:30:00"),
    ("event_time", "20261101"),
    ("event_time", "2026-13-01T09:30:00Z"),
    ("event_time", "1999-01-01T09:30:00Z"),
    ("event_time", None),
    ("transaction_id", "p-0"),
    ("transaction_id", None),
    ("card", None),
    ("card", "007"),
    ("amount", "many"),
    ("amount", "-1"),
    ("amount", "7"),
    ("items", "1.5"),
    ("items", "some"),
    ("is_gift", "maybe"),
    ("country", "Germany"),
    ("birth", "2026-12-24"),
    ("birth", "yesterday"),
    ("lat", "91"),
    ("fraud", "2"),
    ("fraud", "yes"),
]
SPOILS = st.lists(st.tuples(st.integers(0, ROWS - 1), st.sampled_from(SPOILT)), max_size=3)
ORDERS = st.sampled_from(["as it is", "shuffled", "one time"])


def a_file(directory, suffix, *, copies, order, spoils):
    """Writes made-up shopping to a file."""
    rows = made_up_shopping(ROWS).astype(object)
    rows["event_time"] = [moment.isoformat() for moment in rows["event_time"]]
    if order == "one time":
        rows["event_time"] = rows["event_time"].iloc[0]
    for row, (name, value) in spoils:
        rows.loc[row, name] = value
    rows = pd.concat([rows, rows[:copies]])
    if order == "shuffled":
        rows = rows.sample(frac=1, random_state=0)
    path = directory / f"raw{suffix}"
    if suffix == ".csv":
        rows.to_csv(path, index=False)
    elif suffix == ".jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.astype("str").to_parquet(path, row_group_size=17)
    return path


def ingested(path, schema, rows):
    """The stored bytes, or the words of the refusal."""
    target = path.with_name("datasets") / "stored.parquet"
    earliest = datetime(2000, 1, 1, tzinfo=UTC)
    target.unlink(missing_ok=True)
    try:
        ingestion.ingest(path, schema, target, rows=rows, source_sha256="0" * 64, key="a key", earliest=earliest)
    except DatasetError as error:
        assert list(target.parent.iterdir()) == []
        # Of a column that has texts and numbers in JSON, the words are those of the library that reads it.
        return str(error).partition(": JSON")[0].partition(": Unable to merge")[0]
    assert list(target.parent.iterdir()) == [target]
    return target.read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(7, ROWS), copies=st.integers(0, 3), order=ORDERS, spoils=SPOILS)
def test_parts_of_any_size_make_the_same_dataset_or_the_same_refusal(
    shop, tmp_path, suffix, rows, copies, order, spoils
):
    path = a_file(tmp_path, suffix, copies=copies, order=order, spoils=spoils)
    assert ingested(path, shop, rows) == ingested(path, shop, 1_000)
