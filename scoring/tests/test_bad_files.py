"""Files that are broken, too large or something else: refused with the remedy, and nothing of them is stored."""

import gzip
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudsite.testing import seed_payload
from scoring.files.models import BatchFile
from scoring.models import Transaction
from scoring.tests.files import CSV, JSONL, PARQUET, csv_of, jsonl_of, lines, orders, parquet_of, result, zst

ROWS = csv_of(orders(3))
HEADER, FIRST, *REST = ROWS.splitlines(keepends=True)


@pytest.fixture
def refused(send_file, work, acme_api):
    """Send a file that is taken, and refused when it is read. Returns why."""

    def refused(*args, **options):
        response = send_file(*args, **options)
        assert response.status_code == 202, response.content
        work()
        file = acme_api.get(response["Location"]).json()
        assert file["state"] == "refused", file
        assert not Transaction.objects.exists()
        return file["detail"]

    return refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ROWS.replace(b"V1,", b"V1x,", 1), "no column 'V1x'. Did you mean V1"),
        (ROWS.replace(b"V1,", b"V2,", 1), "V2 stands more than once"),
        (ROWS.replace(b"V1,", b"", 1), "missing: V1"),
        (FIRST + FIRST, "no column"),
        (HEADER, "no rows"),
        (b"\n\n\n", "no rows"),
        (HEADER + FIRST + b'"order-9,' + REST[0], "quotation mark that is not closed"),
        (HEADER + b"x" * 70_000 + b"\n", "longer than 65,536 bytes"),
        (HEADER.replace(b"V1,", b"\xff,") + FIRST, "UTF-8"),
        (HEADER.replace(b"V1,", b"4111111111111111,", 1) + FIRST, "a card number as its name"),
        (jsonl_of(orders(2)), "no column"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_csv_file_that_makes_no_sense_is_refused_as_a_whole(refused, content, said):
    detail = refused(content)
    assert said in detail
    assert "4111111111111111" not in detail


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[1, 2]\n", "line 1 does not begin with a brace"),
        (ROWS, "line 1 does not begin with a brace"),
        (b'{"a": "' + b"x" * 70_000, "longer than"),
    ],
)
def test_what_is_no_json_lines_is_refused_as_a_whole(refused, content, said):
    assert said in refused(content, JSONL)


@pytest.mark.parametrize("pack", [gzip.compress, zst], ids=["gzip", "zstd"])
@pytest.mark.parametrize("break_", [lambda packed: packed[:-20], lambda packed: packed[:40] + b"\0" * 40 + packed[80:]])
def test_a_packed_file_that_is_cut_off_or_broken_is_refused(refused, pack, break_):
    noise = random.Random(1)  # noqa: S311
    rows = [seed_payload(V1=noise.random(), V2=noise.random()) for _ in range(200)]
    assert "cut off or broken" in refused(break_(pack(csv_of(rows))))


@pytest.mark.parametrize("pack", [gzip.compress, zst], ids=["gzip", "zstd"])
def test_a_bomb_is_refused_before_it_fills_the_disk(refused, settings, pack):
    settings.BATCH_FILE_UNPACKED_LIMIT_BYTES = 1 << 20
    assert "Unpacked, the file has more than" in refused(pack(HEADER + b"\n" * (50 << 20)))


def test_a_parquet_bomb_is_refused(refused, settings):
    settings.BATCH_FILE_UNPACKED_LIMIT_BYTES = 1 << 20
    assert "Unpacked" in refused(parquet_of(orders(1) * 20_000), PARQUET)


def test_a_file_of_too_many_rows_is_refused(refused, settings):
    settings.BATCH_FILE_ROWS_LIMIT = 2
    assert "more than 2 rows" in refused(ROWS)


@pytest.mark.parametrize(
    ("column", "said"),
    [(pa.array([[1.0]] * 2), "V1 has values of the type list"), (pa.array([b"x"] * 2), "of the type binary")],
)
def test_a_parquet_file_with_other_types_is_refused(refused, column, said):
    table = pa.Table.from_pylist(orders(2)).set_column(1, "V1", column)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert said in refused(sink.getvalue(), PARQUET)


@pytest.mark.parametrize("content", [b"PAR1" + b"\0" * 100, parquet_of(orders(2))[:-30], parquet_of(orders(2))[:60]])
def test_a_broken_parquet_file_is_refused(refused, content):
    assert "not Parquet, or is broken" in refused(content, PARQUET)


@pytest.mark.parametrize(
    ("content", "content_type", "headers", "status"),
    [
        (b"PK\x03\x04 and so on", CSV, {}, 400),
        (parquet_of(orders(1)), CSV, {}, 400),
        (ROWS, PARQUET, {}, 400),
        (ROWS.decode().encode("utf-16"), CSV, {}, 400),
        (gzip.compress(parquet_of(orders(1))), PARQUET, {}, 400),
        (ROWS, CSV, {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(ROWS), CSV, {"Content-Encoding": "zstd"}, 400),
        (ROWS, CSV, {"Content-Encoding": "br"}, 415),
        (ROWS, CSV, {"Content-Encoding": "gzip, gzip"}, 415),
        (ROWS, "text/csv; charset=latin-1", {}, 415),
        (ROWS, "application/pdf", {}, 415),
        (ROWS, "", {}, 415),
        (ROWS, CSV, {"Idempotency-Key": "x" * 65}, 400),
        (ROWS, CSV, {"Idempotency-Key": "4111 1111 1111 1111"}, 422),
    ],
)
def test_what_is_not_what_it_claims_to_be_is_not_taken(send_file, champion, content, content_type, headers, status):
    response = send_file(content, content_type, headers=headers)
    assert response.status_code == status, response.content
    assert b"1111" not in response.content
    assert not BatchFile.objects.exists()


def test_an_empty_file_is_not_taken(champion, acme_api):
    response = acme_api.generic("POST", "/api/v1/batches?mode=traffic", CONTENT_TYPE=CSV)
    assert response.status_code == 400
    assert response.json()["detail"] == "The file is empty."
    assert not BatchFile.objects.exists()


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"mode": ""}, "/mode"),
        ({"mode": "history"}, "/mode"),
        ({"schema": "ulbb"}, "/schema"),
        ({"schema": "%00"}, "/schema"),
        ({"schema": "x" * 5_000}, "/schema"),
        ({"name": "x" * 121}, "/name"),
        ({"name": "%00"}, "/name"),
        ({"ignore": "," + "a," * 101}, "/ignore"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_it_names_the_parameter_that_is_wrong(send_file, champion, parameters, pointer):
    response = send_file(ROWS, **parameters)
    assert response.status_code == 400, response.content
    assert response.json()["errors"][0]["pointer"] == pointer
    assert not BatchFile.objects.exists()


def test_it_refuses_a_file_over_its_limit_announced_or_not(send_file, champion, acme_api, settings):
    settings.BATCH_FILE_LIMIT_BYTES = 500
    assert send_file(ROWS).status_code == 413
    upload = io.BytesIO(ROWS)
    upload.name = "night.csv"
    assert acme_api.post("/api/v1/batches", {"mode": "traffic", "file": upload}).status_code == 413
    assert not BatchFile.objects.exists()


@pytest.mark.django_db
def test_it_refuses_a_schema_that_nothing_can_score(send_file):
    response = send_file(ROWS, schema="handbook")
    assert response.status_code == 503
    assert "champion" in response.json()["title"]


def test_a_client_may_have_so_many_files_under_way(send_file, champion, work, settings):
    settings.BATCH_FILES_LIMIT = 1
    assert send_file(ROWS).status_code == 202
    assert send_file(ROWS).status_code == 429
    work()
    assert send_file(ROWS).status_code == 202


@pytest.mark.parametrize("form", ["xls", "", "%00", "x" * 3_000])
def test_it_refuses_another_format_of_the_result(scored, acme_api, form):
    file = scored(ROWS)
    assert acme_api.get(f"/api/v1/batches/{file['id']}/result?format={form}").status_code == 400


def test_there_is_no_result_before_it_is_done(send_file, champion, acme_api, work):
    file = send_file(ROWS).json()
    response = acme_api.get(f"/api/v1/batches/{file['id']}/result")
    assert response.status_code == 409
    assert response.json()["title"] == "Result not ready"


@pytest.mark.django_db
@pytest.mark.parametrize("before", ["x", "%00", "1" * 400])
def test_it_refuses_a_place_in_the_list_that_is_none(acme_api, before):
    assert acme_api.get(f"/api/v1/batches?before={before}").status_code == 400


def test_what_spreadsheets_write_is_read(scored, acme_api):
    content = b"\xef\xbb\xbf" + csv_of(orders(3), delimiter=";", lineterminator="\r\n")
    assert scored(content)["scored"] == 3
    assert scored(csv_of(orders(3), quoting=1).replace(b"\n", b"\n\n"))["scored"] == 3


def test_a_row_that_makes_no_sense_is_refused_and_the_others_are_scored(scored, acme_api):
    cells = FIRST.split(b",")
    bad = {
        b",".join(cells[:5]) + b"\r\n": "ragged",
        FIRST.replace(b"order-0", b"order\0"): "nul",
        FIRST.replace(b"order-0", b"order\xff"): "not_utf_8",
        FIRST.replace(b"406.0", b"1_000"): "not_a_number",
        FIRST.replace(b"406.0", b"NaN"): "not_finite",
        FIRST.replace(b"406.0", b"1e999"): "not_finite",
        FIRST.replace(b"order-0", b"4111111111111111"): "card_number",
        REST[-1].rstrip(): "cut_off",
    }
    file = scored(HEADER + FIRST + b"".join(bad))
    assert (file["scored"], file["refused"]) == (1, len(bad)), file
    content = result(acme_api, file, what="refused")
    assert [row["code"] for row in lines(content)] == list(bad.values())
    assert [row["line"] for row in lines(content)] == list(range(3, 3 + len(bad)))
    assert b"4111111111111111" not in content + result(acme_api, file)


def test_a_row_of_json_that_makes_no_sense_is_refused_and_the_others_are_scored(scored, acme_api):
    bad = [
        b'{"V1": 1, "V1": 1}',
        b"[1]",
        b"null",
        b"{" * 10_000,
        b'{"V1": NaN}',
        b'{"schema": "handbook"}',
        b'{"V1": "\\ud800"}',
        b"\xff",
    ]
    content = b"\n".join([jsonl_of(orders(1)).strip(), *bad, b""])
    file = scored(content, JSONL)
    assert (file["scored"], file["refused"]) == (1, len(bad)), file


def test_columns_that_are_to_be_ignored_are_passed_over(scored):
    rows = [row | {"Class": 1, "shop name": "corner"} for row in orders(2)]
    assert scored(csv_of(rows), ignore="Class,shop%20name")["scored"] == 2
    assert scored(jsonl_of(rows), JSONL, ignore="Class,shop%20name")["scored"] == 2
    assert scored(parquet_of(rows), PARQUET, ignore="Class,shop%20name")["scored"] == 2


# Python has no such times, and no such text.
@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("event_time", pa.array([1 << 60, None], pa.timestamp("us", "UTC"))),
        ("event_time", pa.array([10**8, None], pa.date32())),
        (
            "transaction_id",
            pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"\xff\xfea")),
        ),
    ],
    ids=["time", "date", "text"],
)
def test_a_value_of_parquet_of_which_nothing_can_be_made_refuses_its_row_alone(scored, acme_api, name, column):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([seed_payload(), seed_payload()]).append_column(name, column), sink)
    file = scored(sink.getvalue(), PARQUET)
    assert (file["state"], file["scored"], file["refused"]) == ("done", 1, 1), file
    [fault] = lines(result(acme_api, file, what="refused"))
    assert (fault["line"], fault["field"]) == (1, name)


def test_a_form_of_too_many_parts_or_with_a_part_that_is_too_long_is_refused_with_the_reason(acme_api, champion):
    for more in ({f"file{n}": io.BytesIO(ROWS) for n in range(101)}, {"schema": "x" * 3_000_000}):
        response = acme_api.post("/api/v1/batches?mode=score", {"file": io.BytesIO(ROWS)} | more)
        assert response.status_code == 400
        assert "more parameters or parts" in response.json()["detail"]
    assert not BatchFile.objects.exists()
