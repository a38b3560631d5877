"""Files of transactions: sent whole, scored by workers, each row exactly once, with the scores of predict calls."""

import csv
import gzip
import io
import json
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from celery import current_app
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, free_port, seed_payload
from scoring.decisions import Decision
from scoring.files import chunks, intake, reading, results, tasks
from scoring.files.models import BatchFile, FileChunk, FileHistory
from scoring.models import Prediction, Review, Transaction
from scoring.policies.document import Document, Rule
from scoring.policies.document import State as RuleState
from scoring.tests.files import CSV, JSONL, PARQUET, csv_of, jsonl_of, lines, orders, parquet_of, result, zst
from scoring.tests.test_replay_decisions import go_live
from scoring.worker import predictor
from training import store

FORMS = {
    "csv": (csv_of, CSV),
    "jsonl": (jsonl_of, JSONL),
    "parquet": (parquet_of, PARQUET),
}


MODES = ("traffic", "score")


@pytest.mark.parametrize("form", FORMS)
def test_it_scores_each_row_in_order_and_stores_the_traffic(scored, acme_api, settings, form):
    settings.BATCH_FILE_CHUNK, settings.BATCH_CHUNK = 7, 3
    write, content_type = FORMS[form]
    rows = [*orders(20), fraudulent_payload(transaction_id="fraud")]
    file = scored(write(rows), content_type)
    assert (file["state"], file["rows"], file["scored"], file["refused"]) == ("done", 21, 21, 0), file
    found = lines(result(acme_api, file))
    assert [row["transaction_id"] for row in found] == [row["transaction_id"] for row in rows]
    assert [row["line"] for row in found] == list(range(2 if form == "csv" else 1, 23 if form == "csv" else 22))
    stored = {str(row.pk): row.amount for row in Transaction.objects.all()}
    assert [stored[row["id"]] for row in found[:20]] == list(range(20))
    assert found[-1]["alert"]
    assert found[-1]["reasons"][0]["feature"]
    assert Review.objects.count() == 1


@pytest.mark.parametrize("pack", [gzip.compress, zst], ids=["gzip", "zstd"])
@pytest.mark.parametrize("said", [True, False])
def test_it_unpacks_files(scored, pack, said):
    encoding = {gzip.compress: "gzip", zst: "zstd"}[pack]
    file = scored(pack(csv_of(orders(5))), headers={"Content-Encoding": encoding} if said else {})
    assert (file["state"], file["scored"]) == ("done", 5), file


def test_it_gives_the_result_in_each_format(scored, acme_api, settings):
    settings.BATCH_FILE_CHUNK = 4
    file = scored(jsonl_of([*orders(9), {"Amount": -1}]), JSONL)
    as_jsonl = lines(result(acme_api, file, "jsonl"))
    as_csv = list(csv.DictReader(io.StringIO(result(acme_api, file, "csv").decode())))
    as_parquet = pq.read_table(io.BytesIO(result(acme_api, file, "parquet"))).to_pylist()
    assert len(as_jsonl) == len(as_csv) == len(as_parquet) == 10
    scores = [row["fraud_score"] for row in as_jsonl[:9]]
    assert scores == [float(row["fraud_score"]) for row in as_csv[:9]] == [r["fraud_score"] for r in as_parquet[:9]]
    assert as_csv[9]["status"] == as_parquet[9]["status"] == "refused"
    assert json.loads(as_csv[9]["errors"]) == as_jsonl[9]["errors"]


def test_rows_have_the_scores_of_predict_calls_to_the_last_bit(worker, scored, post, acme_api):
    rows = [seed_payload(V1=n / 7, V14=-n / 3, Amount=n / 9) for n in range(40)]
    alone = [post(row).json() for row in rows]
    file = scored(csv_of(rows))
    found = lines(result(acme_api, file))
    for name in ("fraud_score", "decision", "threshold", "basis", "reasons"):
        assert [row[name] or [] for row in found] == [answer[name] or [] for answer in alone], name


@pytest.mark.parametrize("form", FORMS)
def test_what_is_only_scored_has_the_results_of_traffic(scored, acme_api, settings, form):
    settings.BATCH_FILE_CHUNK = 3
    write, content_type = FORMS[form]
    bad = [seed_payload(Amount=-1.0), seed_payload(transaction_id="x" * 70), seed_payload(transaction_id="")]
    mixed = [*orders(8), *bad, fraudulent_payload(transaction_id="fraud"), seed_payload()]
    rows = [row if row.get("transaction_id") else row | {"transaction_id": None} for row in mixed]
    stored, only_scored = (lines(result(acme_api, scored(write(rows), content_type, mode=mode))) for mode in MODES)
    assert [row["status"] for row in stored].count("refused") == 2
    assert stored[11]["alert"]
    assert [row | {"id": None} for row in stored] == only_scored


@pytest.mark.parametrize("when", ["Amount > 5", 'Amount > 5 && event_time > timestamp("2020-01-01T00:00:00Z")'])
def test_what_is_only_scored_meets_the_rules_of_traffic(scored, acme_api, when):
    go_live(Document(rules=[Rule(name="large", when=when, action=Decision.CHALLENGE, state=RuleState.ACTIVE)]))
    predictor.refresh("ulb")
    sent = [row | {"event_time": timezone.now().isoformat()} for row in orders(9)]
    stored, only_scored = (lines(result(acme_api, scored(jsonl_of(sent), JSONL, mode=mode))) for mode in MODES)
    assert [row["rules"] for row in stored] == [["large"] if row["Amount"] > 5 else None for row in sent]
    assert [row | {"id": None} for row in stored] == only_scored


def test_it_reports_refused_rows_by_line_and_scores_the_others(scored, acme_api):
    rows = orders(6)
    rows[1]["V1"] = "x"
    rows[3]["Amount"] = -1
    rows[4]["transaction_id"] = "order-0"
    file = scored(csv_of(rows))
    assert (file["scored"], file["refused"]) == (3, 3)
    report = lines(result(acme_api, file, what="refused"))
    assert [(row["line"], row["field"], row["code"]) for row in report] == [
        (3, "V1", "not_a_number"),
        (5, "Amount", "out_of_range"),
        (6, "", "transaction_id_already_used"),
    ]
    assert all(row["reason"] for row in report)
    assert Prediction.objects.count() == 3


def test_traffic_that_is_known_is_answered_as_before_and_not_doubled(scored, acme_api):
    first = scored(csv_of(orders(4)))
    again = scored(csv_of(orders(5)))
    before, after = lines(result(acme_api, first)), lines(result(acme_api, again))
    assert [row["status"] for row in after] == ["repeated"] * 4 + ["scored"]
    assert [row["id"] for row in after[:4]] == [row["id"] for row in before]
    assert Transaction.objects.count() == 5


def test_what_is_only_scored_is_not_stored(scored, acme_api):
    file = scored(csv_of([*orders(3), fraudulent_payload(transaction_id="fraud")]), mode="score")
    found = lines(result(acme_api, file))
    assert [row["id"] for row in found] == [None] * 4
    assert found[3]["decision"] != "approve"
    assert not Transaction.objects.exists()
    assert not Review.objects.exists()


def test_rows_are_deleted_when_the_file_is_done_and_results_when_it_expires(scored, acme_api):
    file = scored(csv_of(orders(3)))
    row = BatchFile.objects.get()
    for name in (row.upload, row.unpacked):
        with pytest.raises(FileNotFoundError):
            store.read(name)
    BatchFile.objects.update(expires_at=timezone.now())
    tasks.keep_going()
    assert acme_api.get(f"/api/v1/batches/{file['id']}").json()["state"] == "expired"
    assert acme_api.get(f"/api/v1/batches/{file['id']}/result").status_code == 409
    assert not FileChunk.objects.exists()
    assert Transaction.objects.count() == 3


def test_a_cancelled_file_keeps_what_was_scored(send_file, work, acme_api, settings):
    settings.BATCH_FILE_CHUNK = 2
    file = send_file(csv_of(orders(6))).json()
    row = BatchFile.objects.get()
    assert reading.read(row)
    assert chunks.work(row)
    cancelled = acme_api.post(f"/api/v1/batches/{file['id']}/cancel").json()
    assert cancelled["state"] == "cancelled"
    work()
    assert [found["transaction_id"] for found in lines(result(acme_api, file))] == ["order-0", "order-1"]
    assert Transaction.objects.count() == 2


def test_a_deleted_file_is_gone_but_its_traffic_is_not(scored, acme_api):
    file = scored(csv_of(orders(2)))
    assert acme_api.delete(f"/api/v1/batches/{file['id']}").status_code == 204
    assert acme_api.get(f"/api/v1/batches/{file['id']}/result").status_code == 409
    assert Transaction.objects.count() == 2


@pytest.mark.parametrize("end", [intake.cancel, intake.expire])
def test_a_chunk_whose_file_ends_while_its_result_is_written_leaves_nothing_behind(send_file, work, monkeypatch, end):
    def write_too_late(*args):
        end(BatchFile.objects.get())
        write(*args)

    def save(scratch):
        FileHistory.objects.create(file=scratch._file, token="t", events=b"", last_sequence=0)

    send_file(csv_of(orders(3)), mode="score")
    write = results.write
    monkeypatch.setattr(results, "write", write_too_late)
    monkeypatch.setattr(chunks.Scratch, "save", save)
    work()
    row = BatchFile.objects.get()
    assert (row.state in ("cancelled", "expired"), row.done) == (True, 0)
    assert not FileHistory.objects.exists()
    with pytest.raises(FileNotFoundError):
        store.read(f"{row.folder}/results/{0:08}")


def test_rows_of_a_file_that_is_cancelled_while_it_is_unpacked_are_deleted(send_file, champion, monkeypatch):
    def cut_too_late(*args):
        found = cut(*args)
        content = store.read(row.unpacked)
        intake.cancel(BatchFile.objects.get())
        store.write(row.unpacked, content)  # as in a bucket, which has a file when it is closed
        return found

    send_file(gzip.compress(csv_of(orders(2))))
    row = BatchFile.objects.get()
    cut = reading.cut
    monkeypatch.setattr(reading, "cut", cut_too_late)
    assert not reading.read(row)
    for name in (row.upload, row.unpacked):
        with pytest.raises(FileNotFoundError):
            store.read(name)


def test_a_chunk_that_is_scored_again_after_a_crash_gives_the_same_result_and_no_second_row(
    send_file, work, acme_api, settings, monkeypatch
):
    settings.BATCH_FILE_CHUNK = 4
    anonymous = [seed_payload(Amount=float(n)) for n in range(10)]  # no ids by which the client could tell them
    file = send_file(csv_of(anonymous)).json()
    row = BatchFile.objects.get()
    assert reading.read(row)
    with monkeypatch.context() as crash:
        crash.setattr(chunks, "_finish", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            chunks.work(row)
    stored = set(Transaction.objects.values_list("pk", flat=True))
    assert len(stored) == 4
    FileChunk.objects.filter(number=0).update(leased_until=timezone.now() - timedelta(seconds=1))
    work()
    found = lines(result(acme_api, file))
    assert len({row["id"] for row in found}) == 10
    assert stored < set(Transaction.objects.values_list("pk", flat=True))
    assert Transaction.objects.count() == 10


def test_only_one_worker_has_a_chunk_and_another_takes_it_when_its_lease_is_over(send_file, work, settings):
    send_file(csv_of(orders(2)))
    row = BatchFile.objects.get()
    assert reading.read(row)
    assert chunks._claim(row)
    assert chunks._claim(row) is None
    FileChunk.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    assert chunks._claim(row).attempts == 2


def test_a_chunk_that_kills_its_workers_ends_the_file_after_some_attempts(send_file, work, acme_api, settings):
    settings.BATCH_FILE_ATTEMPTS_LIMIT = 2
    file = send_file(csv_of(orders(2))).json()
    row = BatchFile.objects.get()
    assert reading.read(row)
    FileChunk.objects.update(attempts=2)
    work()
    told = acme_api.get(f"/api/v1/batches/{file['id']}").json()
    assert told["state"] == "failed"
    assert "line 2" in told["detail"]


def test_a_file_waits_while_its_schema_has_no_champion(send_file, work, acme_api, champion, monkeypatch):
    from scoring.worker import predictor
    from training.core.exceptions import NoChampion

    file = send_file(csv_of(orders(2))).json()
    row = BatchFile.objects.get()
    assert reading.read(row)
    with monkeypatch.context() as none:
        none.setattr(predictor, "current", lambda schema: (_ for _ in ()).throw(NoChampion("There is no champion.")))
        assert not chunks.work(row)
    told = acme_api.get(f"/api/v1/batches/{file['id']}").json()
    assert (told["state"], told["detail"]) == ("scoring", "There is no champion.")
    FileChunk.objects.update(leased_until=None)
    work()
    assert acme_api.get(f"/api/v1/batches/{file['id']}").json()["state"] == "done"


def test_the_reconciler_sends_files_whose_messages_were_lost(send_file, work, monkeypatch):
    send_file(csv_of(orders(2)))
    sent = []
    monkeypatch.setattr(tasks, "_send", lambda task, file, **options: sent.append((task, file)))
    BatchFile.objects.update(touched_at=timezone.now() - timedelta(minutes=1))
    tasks.keep_going()
    row = BatchFile.objects.get()
    assert reading.read(row)
    BatchFile.objects.update(touched_at=timezone.now() - timedelta(minutes=1))
    tasks.keep_going()
    assert sent == [(tasks.read_file, row), (tasks.score_chunk, row)]


def test_a_file_is_taken_while_the_broker_is_away(send_file, champion, monkeypatch):
    monkeypatch.setattr(current_app.conf, "broker_write_url", f"redis://127.0.0.1:{free_port()}/0")
    assert send_file(csv_of(orders(2))).status_code == 202
    assert BatchFile.objects.get().state == "waiting"


def test_an_upload_that_is_repeated_with_its_key_is_taken_once(send_file, work, acme_api):
    headers = {"Idempotency-Key": "night-1"}
    first = send_file(csv_of(orders(2)), headers=headers)
    again = send_file(csv_of(orders(2)), headers=headers)
    assert again.status_code == 202
    assert again["Idempotent-Replayed"] == "true"
    assert again["Location"] == first["Location"]
    assert send_file(csv_of(orders(3)), headers=headers).status_code == 409
    assert BatchFile.objects.count() == 1


def test_another_client_finds_nothing(scored, globex_api):
    file = scored(csv_of(orders(2)))
    for method, path in [
        ("get", ""),
        ("delete", ""),
        ("post", "/cancel"),
        ("get", "/result"),
        ("get", "/refused"),
    ]:
        assert getattr(globex_api, method)(f"/api/v1/batches/{file['id']}{path}").status_code == 404
    assert globex_api.get("/api/v1/batches").json()["results"] == []
    assert BatchFile.objects.get().state == "done"


def test_files_are_listed_page_by_page_the_latest_first(send_file, work, acme_api):
    sent = [send_file(csv_of(orders(1)), name=f"night-{n}").json()["id"] for n in range(3)]
    page = acme_api.get("/api/v1/batches?limit=2").json()
    assert [file["id"] for file in page["results"]] == sent[:0:-1]
    rest = acme_api.get(page["next"]).json()
    assert [file["id"] for file in rest["results"]] == sent[:1]
    assert rest["next"] is None


def test_files_are_found_by_state_and_told_by_the_fields_asked_for(scored, send_file, acme_api):
    done = scored(csv_of(orders(1)))
    send_file(csv_of(orders(2)))
    found = acme_api.get("/api/v1/batches?state=done,failed&fields=id,rows").json()["results"]
    assert found == [{"id": done["id"], "rows": 1}]
    refused = acme_api.get("/api/v1/batches?state=receiving")
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "state")


@pytest.mark.parametrize("how", ["query", "form", "both"])
def test_an_option_that_is_sent_twice_is_refused_by_name(acme_api, how):
    upload = io.BytesIO(csv_of(orders(1)))
    upload.name = "night.csv"
    query = {"query": "?mode=traffic&mode=score", "form": "", "both": "?mode=score"}[how]
    form = {"query": {}, "form": {"mode": ["traffic", "score"]}, "both": {"mode": "traffic"}}[how]
    response = acme_api.post(f"/api/v1/batches{query}", {"file": upload} | form)
    assert response.status_code == 400
    assert [(e["pointer"], e["code"]) for e in response.json()["errors"]] == [("/mode", "sent_twice")]
    assert not BatchFile.objects.exists()


def test_a_form_carries_a_file_as_well(acme_api, work):
    upload = io.BytesIO(gzip.compress(csv_of(orders(3))))
    upload.name = "night.csv.gz"
    response = acme_api.post("/api/v1/batches", {"mode": "traffic", "file": upload})
    assert response.status_code == 202, response.content
    work()
    told = acme_api.get(response["Location"]).json()
    assert (told["name"], told["state"], told["scored"]) == ("night.csv.gz", "done", 3)


def test_csv_for_spreadsheets_has_no_formulas(scored, acme_api):
    names = ["=1+1", "+1", "-1", "@a", "'=1", "fine"]
    file = scored(csv_of([seed_payload(transaction_id=name) for name in names]), mode="score")
    table = list(csv.DictReader(io.StringIO(result(acme_api, file, "csv").decode())))
    assert [row["transaction_id"] for row in table] == ["'=1+1", "'+1", "'-1", "'@a", "''=1", "fine"]
    assert [row["transaction_id"] for row in lines(result(acme_api, file))] == names


@pytest.mark.parametrize("what", ["result", "refused"])
@pytest.mark.parametrize(
    ("accepted", "query", "given"),
    [
        (PARQUET, "", PARQUET),
        (JSONL, "", JSONL),
        (f"{CSV}, {JSONL}, {PARQUET}, application/problem+json", "", CSV),
        (CSV, "?format=parquet", PARQUET),
        ("application/json", "", CSV),
        ("text/html, */*;q=0.5", "", CSV),
    ],
)
def test_accept_may_name_a_format_as_clients_made_from_the_document_do(scored, acme_api, what, accepted, query, given):
    file = scored(jsonl_of(orders(1)), JSONL)
    response = acme_api.get(f"/api/v1/batches/{file['id']}/{what}{query}", headers={"Accept": accepted})
    assert (response.status_code, response["Content-Type"].partition(";")[0]) == (200, given)
    assert acme_api.get(f"/api/v1/batches/{file['id']}/{what}", headers={"Accept": "text/html"}).status_code == 406
