"""The way over Kaggle, with `kagglehub` itself, and a stand-in on this machine for Kaggle's API and its storage."""

import base64
import hashlib
import io
import json
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.management import CommandError, call_command
from kagglesdk import kaggle_env

from training.core.datasets import parquet_path, storage, ulb
from training.tests.support import made_up_rows
from training.tests.test_ingest import SCHEMA, csv_of

API = "/api/v1/datasets.DatasetApiService"
ARCHIVE = "/storage/archive.zip"
MIB = 1 << 20


class Kaggle(ThreadingHTTPServer):
    """Knows one dataset, version 3, whose archive lies at another host. `status` is what the API answers, `cut` after
    how many bytes the storage breaks off, `md5` the hash that it names."""

    def __init__(self, archive):
        super().__init__(("127.0.0.1", 0), KaggleHandler)
        self.status, self.cut = 200, None
        self.asked = []
        self.serve(archive)

    def serve(self, archive):
        self.archive = archive
        self.md5 = base64.b64encode(hashlib.md5(archive, usedforsecurity=False).digest()).decode()


class KaggleHandler(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, asked, self.headers["Authorization"]))
        if self.server.status != 200:
            return self._answer(self.server.status, {"code": self.server.status, "message": "Not now."})
        if self.path == f"{API}/GetDataset":
            return self._answer(200, {"ownerSlug": "mlg-ulb", "currentVersionNumber": 3})
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.server.server_port}{ARCHIVE}?signature=x")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        wanted = self.headers["Range"]
        self.server.asked.append((self.path.partition("?")[0], wanted, self.headers["Authorization"]))
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        rest = self.server.archive[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("X-Goog-Hash", f"crc32c=AAAAAA==,md5={self.server.md5}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.cut])

    def log_message(self, *args):
        pass


def archive_of(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return packed.getvalue()


@pytest.fixture(scope="module")
def content():
    return csv_of(*made_up_rows(rows=300, frauds=20))


@pytest.fixture
def kaggle(content, monkeypatch, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path / "datasets"
    monkeypatch.setattr(ulb, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(ulb, "SIZE_BYTES", len(content))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    with Kaggle(archive_of(creditcard_csv=content)) as server:
        monkeypatch.setattr(ulb, "KAGGLE_ADDRESS", server.server_address)
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, address)
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def stored(settings):
    return parquet_path(settings.DATASETS_DIR, SCHEMA.name)


def refusal():
    with pytest.raises(CommandError) as refused:
        call_command("ingest", source="kaggle")
    return str(refused.value)


def test_the_dataset_comes_from_kaggle(kaggle, content, settings):
    call_command("ingest", source="kaggle")
    assert storage.read_report(stored(settings)).source_sha256 == hashlib.sha256(content).hexdigest()
    assert [path.name for path in stored(settings).parent.iterdir()] == ["transactions.parquet"]
    (of, dataset, key), (download, version, other_key), (archive, _, no_key) = kaggle.asked
    assert (of, download, archive) == (f"{API}/GetDataset", f"{API}/DownloadDataset", ARCHIVE)
    assert f"{dataset['ownerSlug']}/{dataset['datasetSlug']}" == ulb.KAGGLE_HANDLE
    assert int(version["datasetVersionNumber"]) == 3
    # Kaggle gets the key, and the storage that it leads to does not.
    assert (key, other_key, no_key) == ("Bearer token", "Bearer token", None)


@pytest.mark.parametrize(("status", "message"), [(401, "401"), (403, "403"), (404, "404"), (500, "Not now.")])
def test_what_kaggle_refuses_is_told_in_a_line(kaggle, settings, status, message):
    kaggle.status = status
    failure = refusal().splitlines()[1:]
    assert len(failure) == 1
    assert f"Kaggle: {message}" in failure[0]
    assert not stored(settings).exists()


def test_an_interrupted_download_from_kaggle_goes_on_where_it_stopped(kaggle, content, settings):
    kaggle.serve(archive_of(creditcard_csv=content, other_bin=os.urandom(3 * MIB)))
    kaggle.cut = 2 * MIB + 1  # it is kept by the MiB
    assert "Kaggle: " in refusal()
    kaggle.cut = None
    call_command("ingest", source="kaggle")
    assert kaggle.asked[-1][:2] == (ARCHIVE, f"bytes={2 * MIB}-")
    assert storage.read_report(stored(settings)).rows == 300


def test_an_archive_that_was_altered_on_its_way_is_refused_and_not_taken_again(kaggle, settings):
    right, kaggle.md5 = kaggle.md5, "AAAA"
    assert "MD5" in refusal()
    assert not stored(settings).exists()
    kaggle.md5 = right
    call_command("ingest", source="kaggle")
    assert storage.read_report(stored(settings)).rows == 300


@pytest.mark.parametrize(
    ("files", "message"),
    [({"creditcard_csv": b"wrong"}, "Expected"), ({"other_csv": b"wrong"}, "creditcard.csv cannot be read")],
)
def test_another_file_from_kaggle_is_refused_and_fetched_again(kaggle, settings, content, files, message):
    right = kaggle.archive
    kaggle.serve(archive_of(**files))
    assert message in refusal()
    assert not stored(settings).exists()
    kaggle.serve(right)
    call_command("ingest", source="kaggle")
    assert storage.read_report(stored(settings)).rows == 300
