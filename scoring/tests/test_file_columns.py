"""Rows of files are checked column by column, and by themselves where that leaves a doubt: with the same outcome."""

import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from fraudsite.testing import seed_payload
from scoring.files import columns, reading, rows, sent
from scoring.files.layout import Layout
from scoring.files.models import BatchFile, FileChunk, State
from scoring.messages.submission import Submission
from scoring.tests.files import csv_of, jsonl_of, parquet_of
from training import store
from training.core.schema import load_schema

pytestmark = pytest.mark.django_db
WHEN = datetime(2026, 11, 28, 12, tzinfo=UTC)
CARD = "4111111111111111"
PURCHASE = {
    "transaction_id": "order-1",
    "event_time": "2026-11-28T11:00:00Z",
    "schema": "shop",
    "card": "c-1",
    "amount": 12.5,
    "items": 3.0,
    "points": 7.0,
    "is_gift": True,
    "category": "Grocery",
    "country": "DE",
    "currency": "EUR",
    "lat": 52.5,
    "birth": "1980-01-31",
    "email": "ann@example.com",
    "ip": "192.0.2.7",
    "note": "Grüße",
    "home_lat": 48.123456,
}
ROW = {"shop": PURCHASE, "ulb": seed_payload(transaction_id="order-1")}
# In place of a value, in CSV as it is written.
CELLS = (
    *("", " ", "0", "-0", "7", " 1.5", "1.5 ", "+1.5", "1.", ".5", "1e3", "1_0", "nan", "inf", "-inf", "1e999", "0x1"),
    *(
        "5e-324",
        "0.1000000000000000055",
        "12345678901234567890",
        "1.5e308",
        "\uff11",
        "41111111111",
        CARD,
        f"n. {CARD}",
    ),
    *("true", "FALSE ", "null", "DE", "de", "XX", "EUR", "x" * 70, "x" * 600, "a\u0301", "\ufeffx", "a b", "a\tb"),
    *("1980-02-30", "2100-01-01", "2026-11-28", "2026-11-28T10:00:00+02:00", "1990-11-28T10:00:00Z", "2026-11-28T12"),
    *("ulb", "shop", "=1+1", "192.0.2.256", "::1", "ann@", "a\rb", "a\0b", "a\ud800b", "a,b"),
    *('""', '"7"', '" 7"', '"a,b"', '"a""b"', 'a"b', '"a"b', '"a\nb"'),
)
OBJECTS: tuple[Any, ...] = (
    *(None, True, False, 0, 7, -1, 1.5, -0.0, 1e3, 1e12, 10**30, 2**53 + 1, int(CARD), float(CARD)),
    *("", "7", "DE", CARD, "x" * 70, "a\0b", "1980-01-31", "2026-11-28T10:00:00Z", "1990-11-28T10:00:00Z", "shop"),
    *([], {}, ["a"]),
)
# By the type of a column.
OF_TYPE: dict[type, list[Any]] = {
    float: [None, 0.0, -0.0, 7.0, 1.5, -1.0, float("nan"), float("inf"), 1e12, float(CARD)],
    bool: [None, True, False],
    str: [value for value in OBJECTS if value is None or isinstance(value, str)],
    int: [None, 0, 7, -1, 10**12, 2**53 + 1, int(CARD)],
}
MANY = examples(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def read(acme, shop, monkeypatch):
    """What is found in the rows of a file with this content: by columns, and with each row checked by itself."""

    def read(content, form, schema):
        file = BatchFile.objects.create(
            client=acme, schema=schema, mode="score", format=form, state=State.WAITING, created_at=WHEN
        )
        store.write(file.upload, content)
        assert reading.read(file), BatchFile.objects.get(pk=file.pk).fault
        chunks = FileChunk.objects.filter(file=file).order_by("number")
        by_columns = [row for chunk in chunks for row in rows.Reading(file, chunk, 0.0).rows()]
        with monkeypatch.context() as patched:
            patched.setattr(rows, "vouch", lambda *args: columns.NOTHING)
            alone = [row for chunk in chunks for row in rows.Reading(file, chunk, 0.0).rows()]
        return list(map(told, by_columns)), list(map(told, alone))

    return read


def told(row):
    """A row with what was found, as values that are equal if all of it is: also the sign of a zero."""
    found = row.found
    if isinstance(found, Submission):
        return row.line, row.transaction_id, repr(found)
    return row.line, row.transaction_id, type(found), str(found), found.errors


def changes(names, values):
    """What is put in place of some values of up to twelve rows."""
    one = st.dictionaries(st.sampled_from(names), st.sampled_from(values), max_size=2)
    return st.lists(one, min_size=1, max_size=12)


@MANY
@given(data=st.data(), schema=st.sampled_from(list(ROW)), end=st.sampled_from(["\n", "\r\n"]))
def test_rows_of_csv_are_the_same_by_column_and_alone(read, data, schema, end):
    found = [ROW[schema] | each for each in data.draw(changes(list(ROW[schema]), CELLS))]
    text = end.join([",".join(ROW[schema]), *(",".join(map(str, row.values())) for row in found)])
    text += data.draw(st.sampled_from([end, "", end + end, f"{end}x{end}"]))
    # An open quotation mark would take the rows behind it along.
    if text.count('"') % 2:
        text = text.replace('"', "")
    by_columns, alone = read(text.encode(errors="surrogatepass"), "csv", schema)
    assert by_columns == alone


@MANY
@given(data=st.data(), schema=st.sampled_from(list(ROW)))
def test_rows_of_json_lines_are_the_same_by_column_and_alone(read, data, schema):
    names = [*ROW[schema], "unknown", "deadline_ms", "cvv", CARD]
    found = [json.dumps(ROW[schema] | each) for each in data.draw(changes(names, OBJECTS))]
    further = data.draw(
        st.lists(st.sampled_from(["{}", "[1]", "{", '{"V1": NaN}', '{"a": 1, "a": 1}', ""]), max_size=2)
    )
    content = "\n".join([*found, *further]).encode()
    by_columns, alone = read(content, "jsonl", schema)
    assert by_columns == alone


@MANY
@given(data=st.data(), schema=st.sampled_from(list(ROW)))
def test_rows_of_parquet_are_the_same_by_column_and_alone(read, data, schema):
    count = data.draw(st.integers(1, 6))
    names = list(ROW[schema])
    odd = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(list(OF_TYPE)), max_size=3))
    table = {}
    for name in names:
        usual = ROW[schema][name]
        values = OF_TYPE[odd[name]] if name in odd else [usual]
        table[name] = data.draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))
    whole = pa.table(table)
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from([name for name in names if isinstance(ROW[schema][name], float)]))
        if pa.types.is_floating(whole[name].type):
            kind = data.draw(st.sampled_from([pa.float32(), pa.float16(), pa.decimal128(38, 18)]))
            with suppress(pa.ArrowException):
                whole = whole.set_column(names.index(name), name, whole[name].cast(kind))
    sink = io.BytesIO()
    pq.write_table(whole, sink)
    by_columns, alone = read(sink.getvalue(), "parquet", schema)
    assert by_columns == alone


@pytest.mark.parametrize(("form", "write"), [("csv", csv_of), ("jsonl", jsonl_of), ("parquet", parquet_of)])
@pytest.mark.parametrize("schema", list(ROW))
def test_plain_rows_are_vouched_for_without_a_look_at_each(shop, form, write, schema):
    rows = [ROW[schema] | {"transaction_id": f"order-{n}"} for n in range(5)]
    content = write(rows)
    declared = load_schema(schema)
    layout = Layout(source="", names=list(rows[0]))
    file = BatchFile(format=form, rows=5)
    chunk = FileChunk(first_row=0, first_line=1, rows=5, start=0, size=len(content))
    if form == "csv":
        content = content.partition(b"\n")[2]
    if form == "parquet":
        table = pq.read_table(io.BytesIO(content))
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, table.schema) as written:
            written.write_table(table)
        content = stream.getvalue()
    found = sent.sent_in(file, chunk, layout, declared, content)
    assert list(columns.vouch(found.columns(), declared).places) == list(range(5))
