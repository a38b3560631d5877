"""Files of labels: by command and in the admin, with a report of the rows that are refused."""

from decimal import Decimal
from io import BytesIO, StringIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.urls import reverse

from scoring.models import Label

pytestmark = pytest.mark.django_db

IMPORT = reverse("admin:scoring_label_import")
CSV = """transaction_id;kind;event_time;amount;reference
order-1;chargeback_lost;2026-01-31T12:00:00Z;12.5;case-1
order-2;theft;2026-01-31T12:00:00Z;;
order-1;chargeback_won;2026-02-31T12:00:00Z;;case-2

order-9;fraud;2026-01-31T12:00:00Z;;
"""


@pytest.fixture
def row(transaction):
    return transaction(transaction_id="order-1")


@pytest.fixture
def load(acme, tmp_path):
    def run(content, client="acme"):
        path = tmp_path / "labels"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        out, refused = StringIO(), StringIO()
        try:
            call_command(
                "import_labels", str(path), client=acme.name if client == "acme" else client, stdout=out, stderr=refused
            )
        except CommandError as error:
            return out.getvalue(), refused.getvalue().splitlines(), str(error)
        return out.getvalue(), refused.getvalue().splitlines(), ""

    return run


def test_the_command_stores_what_is_right_and_reports_the_rest(load, row):
    told, refused, failure = load(CSV)
    assert told == "1 stored, 1 wait for their transactions, 0 were known, 2 refused.\n"
    assert [line.split(":")[0] for line in refused] == ["Line 3, kind", "Line 4, event_time"]
    assert "not stored twice" in failure
    label = Label.objects.get()
    assert (label.transaction, label.kind, label.amount, label.reference) == (row, "chargeback_lost", 12.5, "case-1")


def test_a_file_that_is_imported_again_stores_nothing_twice(load, row):
    content = "\n".join(CSV.splitlines()[:2])
    load(content)
    assert load(content) == ("0 stored, 0 wait for their transactions, 1 were known, 0 refused.\n", [], "")


def test_parquet_is_read_too(load, row, tmp_path):
    moment = pd.Timestamp("2026-01-31T12:00:00")
    rows = {"id": [str(row.pk), "x"], "kind": ["fraud", "fraud"], "event_time": [moment, moment], "amount": [1.5, None]}
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    told, refused, _ = load((tmp_path / "rows.parquet").read_bytes())
    assert told.startswith("1 stored")
    assert refused[0].startswith("Line 3, id")
    assert Label.objects.get().event_time.isoformat() == "2026-01-31T12:00:00+00:00"


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("kinds,event_time\n", "'kinds'. Did you mean"),
        ("kind\nfraud\n", "kind and event_time among them"),
        (b"kind,event_time,\xff\n", "UTF-8"),
        (b"PAR1 and nothing", "not Parquet"),
        (
            b'kind,event_time\n"fraud,2026-01-31T12:00:00Z\nfraud,2026-01-31T12:00:00Z\n',
            "Line 2 opens a quotation mark",
        ),
    ],
)
def test_what_is_no_file_of_labels_is_refused_with_a_remedy(load, content, remedy):
    assert remedy in load(content)[2]


def test_rows_of_csv_that_cannot_be_read_keep_no_other_from_being_stored(load, row):
    first = b"transaction_id,kind,event_time,amount\r\n"
    fine = b"order-1,fraud,2026-01-31T12:00:00Z,1.5\r\n"
    broken = b'"or"der-1,fraud,2026-01-31T12:00:00Z,1\r\n\xff,fraud,2026-01-31T12:00:00Z,1\r\n'
    odd = b'"order\n-1",fraud,2026-01-31T12:00:00Z,1_0\r\n'
    told, refused, _ = load(b"\xef\xbb\xbf" + first + broken + odd + fine)
    assert told.startswith("1 stored, 0 wait for their transactions, 0 were known, 3 refused")
    places = ["Line 2, the row", "Line 3, the row", "Line 4, transaction_id", "Line 4, amount"]
    assert [line.split(":")[0] for line in refused] == places


# Python has no such times, and no such text.
UNREADABLE = {
    "event_time": pa.array([1 << 60, 0], pa.timestamp("us", "UTC")),
    "transaction_id": pa.StringArray.from_buffers(
        2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\t\0\0\0"), pa.py_buffer(b"\xff\xfeorder-1")
    ),
}


@pytest.mark.parametrize("column", UNREADABLE)
def test_values_of_parquet_of_which_nothing_can_be_made_refuse_their_rows_alone(load, row, tmp_path, column):
    moments = pa.array([0, 0], pa.timestamp("us", "UTC"))
    columns = {
        "transaction_id": ["order-1"] * 2,
        "kind": ["fraud"] * 2,
        "event_time": moments,
        "amount": [Decimal(1)] * 2,
    }
    pq.write_table(pa.table(columns | {column: UNREADABLE[column]}), tmp_path / "rows.parquet")
    told, refused, _ = load((tmp_path / "rows.parquet").read_bytes())
    assert told.startswith("1 stored")
    assert [line.split(":")[0] for line in refused] == [f"Line 2, {column}"]
    assert Label.objects.get().amount == 1.0


@pytest.mark.parametrize("door", ["command", "admin"])
def test_a_parquet_file_that_is_broken_inside_is_refused(client, alice, acme, load, door):
    rows = pa.table({"kind": ["fraud" * 99] * 99, "event_time": ["x"] * 99, "id": ["y"] * 99})
    sink = BytesIO()
    pq.write_table(rows, sink, use_dictionary=False)
    content = bytearray(sink.getvalue())
    content[4:12] = b"\xfe" * 8
    if door == "command":
        assert "not Parquet, or is broken" in load(bytes(content))[2]
        return
    client.force_login(alice)
    page = client.post(IMPORT, {"client": acme.pk, "file": SimpleUploadedFile("rows.parquet", bytes(content))})
    assert "not Parquet, or is broken" in page.content.decode()


def test_an_unknown_client_is_refused_with_those_that_there_are(load, acme):
    assert acme.name in load(CSV, client="nobody")[2]


def test_a_line_with_too_many_cells_is_refused(load, row):
    _, refused, _ = load("kind,event_time,id\nfraud,2026-01-31T12:00:00Z,7,8\n")
    assert any("more cells" in line for line in refused)


def test_an_analyst_imports_a_file_and_sees_the_refused_rows(client, alice, acme, row):
    client.force_login(alice)
    assert "Import labels" in client.get(reverse("admin:scoring_label_changelist")).content.decode()
    assert client.get(IMPORT).status_code == 200
    file = SimpleUploadedFile("bank.csv", CSV.encode())
    page = client.post(IMPORT, {"client": acme.pk, "file": file}).content.decode()
    assert "1 stored, 1 wait" in page
    assert "<td>3</td><td>kind</td><td>Send one of fraud" in page
    assert Label.objects.count() == 1


def test_nobody_else_imports(client, mel, acme, row):
    client.force_login(mel)
    file = SimpleUploadedFile("bank.csv", CSV.encode())
    assert client.post(IMPORT, {"client": acme.pk, "file": file}).status_code == 403
    assert not Label.objects.exists()


def test_a_file_that_is_too_large_is_refused_with_the_way_to_import_it(client, alice, acme, settings):
    settings.LABEL_IMPORT_LIMIT_BYTES = 10
    client.force_login(alice)
    file = SimpleUploadedFile("bank.csv", CSV.encode())
    assert "manage.py import_labels" in client.post(IMPORT, {"client": acme.pk, "file": file}).content.decode()
