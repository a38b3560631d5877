"""Files in an S3-compatible store: a real server, on this machine."""

import pytest
from django.utils import timezone

from fraudsite.testing import free_port
from scoring.files import intake, reading, tasks
from scoring.files.models import BatchFile, FileChunk
from scoring.tests.files import PARQUET, csv_of, lines, orders, parquet_of, result, zst
from training import store


@pytest.fixture
def stored(bucket):
    """The names of files in the bucket."""
    return lambda: bucket.names("files")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(zst(csv_of(orders(9))), "text/csv"), (csv_of(orders(9)), "text/csv"), (parquet_of(orders(9)), PARQUET)],
    ids=["packed", "plain", "parquet"],
)
def test_a_file_is_scored_from_a_bucket_and_leaves_nothing_there_but_its_result(
    stored, scored, acme_api, settings, content, content_type
):
    settings.BATCH_FILE_CHUNK = 4
    file = scored(content, content_type)
    assert (file["state"], file["scored"]) == ("done", 9), file
    assert stored() == {f"files/{file['id']}/results/{number:08}" for number in range(3)}
    assert [row["transaction_id"] for row in lines(result(acme_api, file))] == [f"order-{n}" for n in range(9)]
    acme_api.delete(f"/api/v1/batches/{file['id']}")
    assert stored() == set()


def test_a_file_of_several_parts_is_taken_whole(stored, send_file, champion, acme_api, work):
    """S3 takes large files in parts of 5 MB or more."""
    rows = csv_of(orders(2)) + b"\n" * (12 << 20)
    file = acme_api.get(send_file(rows)["Location"]).json()
    assert file["size_bytes"] == len(rows)
    work()
    assert acme_api.get(f"/api/v1/batches/{file['id']}").json()["scored"] == 2


def test_a_file_that_is_not_taken_leaves_nothing_in_the_bucket(stored, send_file, champion):
    assert send_file(b"PK\x03\x04 and so on").status_code == 400
    assert stored() == set()
    assert not BatchFile.objects.exists()


def test_results_in_a_bucket_expire(stored, scored):
    scored(csv_of(orders(1)))
    BatchFile.objects.update(expires_at="2020-01-01T00:00:00Z")
    tasks.keep_going()
    assert stored() == set()


def test_a_file_that_cannot_be_stored_is_not_acknowledged(stored, send_file, champion, settings):
    there = settings.STORAGE_OPTIONS
    settings.STORAGE_OPTIONS = there | {"endpoint": f"http://127.0.0.1:{free_port()}"}
    response = send_file(csv_of(orders(2)))
    assert (response.status_code, response.json()["type"]) == (503, "/problems/storage-unavailable")
    assert int(response["Retry-After"]) >= 1
    assert "s3://" not in response.text
    assert "127.0.0.1" not in response.text
    settings.STORAGE_OPTIONS = there
    BatchFile.objects.update(touched_at="2020-01-01T00:00:00Z")
    tasks.keep_going()
    assert not BatchFile.objects.exists()
    assert stored() == set()


def test_a_file_is_not_acknowledged_where_the_bucket_is_missing(bucket, send_file, champion, settings):
    settings.STORAGE_URL = "s3://mistyped/of/fraudsite"
    response = send_file(csv_of(orders(2)))
    assert (response.status_code, response.json()["type"]) == (503, "/problems/storage-unavailable")
    assert not BatchFile.objects.exclude(state="receiving").exists()


def test_a_file_waits_while_the_store_is_away_before_it_is_read_and_while_it_is_scored(
    stored, send_file, work, acme_api, settings
):
    settings.BATCH_FILE_ATTEMPTS_LIMIT = 1
    there, away = settings.STORAGE_OPTIONS, {"endpoint": f"http://127.0.0.1:{free_port()}"}
    address = send_file(csv_of(orders(4)))["Location"]
    for state, begin in (("waiting", work), ("scoring", lambda: reading.read(BatchFile.objects.get()))):
        settings.STORAGE_OPTIONS = there | away if state == "waiting" else there
        begin()
        settings.STORAGE_OPTIONS = there | away
        for _ in range(3):
            work()
            now_free()
        file = acme_api.get(address).json()
        assert (file["state"], file["detail"]) == (state, "The store of files does not answer.")
        settings.STORAGE_OPTIONS = there
    work()
    assert acme_api.get(address).json()["scored"] == 4


def now_free():
    """As if the time of the leases was over."""
    BatchFile.objects.update(leased_until=None)
    FileChunk.objects.update(leased_until=None)


def test_an_upload_whose_web_server_was_killed_is_deleted_after_a_while(stored, acme, champion):
    file = BatchFile.objects.create(client=acme, schema="ulb", mode="traffic", format="csv")
    store.write(file.upload, b"Time,V1")
    tasks.keep_going()
    assert stored() == {file.upload}
    BatchFile.objects.update(touched_at=timezone.now() - intake.UPLOAD_SILENCE)
    tasks.keep_going()
    assert stored() == set()
    assert not BatchFile.objects.exists()


def test_an_upload_that_takes_long_is_not_taken_for_one_that_was_given_up(stored, send_file, champion, monkeypatch):
    monkeypatch.setattr(intake, "PULSE_S", 0.0)
    begun = timezone.now() - 2 * intake.UPLOAD_SILENCE
    written, seen = intake.Upload.write, []

    def write_slowly(upload, piece):
        BatchFile.objects.update(touched_at=begun)
        written(upload, piece)
        tasks.keep_going()
        seen.append(BatchFile.objects.count())

    monkeypatch.setattr(intake.Upload, "write", write_slowly)
    assert send_file(csv_of(orders(2))).status_code == 202
    assert seen == [1]
