"""Files in the admin and by command: sent, watched, cancelled, their results taken, and told to webhooks."""

import gzip
import io
import json

import pytest
from django.core.management import CommandError, call_command

from fraudsite.testing import seed_payload
from scoring.files import chunks
from scoring.files.models import BatchFile, State
from scoring.models import Transaction
from scoring.tests.files import csv_of, orders
from scoring.webhooks.models import WebhookDelivery, WebhookEndpoint

PAGES = "/admin/scoring/batchfile"


def sending(acme, content, name="night.csv", **changes):
    file = io.BytesIO(content)
    file.name = name
    return {"client": acme.pk, "schema": "ulb", "mode": "score", "ignore": "", "file": file} | changes


def test_an_ml_engineer_sends_a_file_watches_it_and_takes_the_result(client, mel, acme, work):
    client.force_login(mel)
    assert "Score a file" in client.get(f"{PAGES}/").content.decode()
    rows = csv_of([*orders(3), seed_payload(transaction_id="=1+1"), seed_payload(Amount=-1)])
    response = client.post(f"{PAGES}/send/", sending(acme, gzip.compress(rows), "night.csv.gz"))
    assert response.status_code == 302, response.content.decode()
    file = BatchFile.objects.get()
    assert 'id="progress"' in client.get(response["Location"]).content.decode()
    assert client.get(f"{PAGES}/{file.pk}/progress.json").json()["state"] == "waiting"
    work()
    page = client.get(response["Location"]).content.decode()
    assert "result.csv" in page
    assert "refused.csv" in page
    result = client.get(f"{PAGES}/{file.pk}/result.csv")
    assert result.getvalue().count(b"\n") == 6
    assert client.get(f"{PAGES}/{file.pk}/refused.csv").getvalue().count(b"out_of_range") == 1
    assert b"'=1+1" in client.get(f"{PAGES}/{file.pk}/result.csv").getvalue()
    for address in ("result.xls", "other.csv"):
        assert client.get(f"{PAGES}/{file.pk}/{address}").status_code == 404
    assert client.get(f"{PAGES}/{file.pk}/progress.json").json()["scored"] == 4


def test_each_download_is_in_the_audit_trail(client, mel, scored):
    from fraudsite.audit.models import Entry

    file = scored(csv_of(orders(1)))
    client.force_login(mel)
    client.get(f"{PAGES}/{file['id']}/result.csv").getvalue()
    entry = Entry.objects.filter(action="exported").latest("pk")
    assert (entry.person, entry.kind, entry.object_id) == ("mel", "scoring.batchfile", file["id"])


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"x", "night.xls", "Name the file with .csv"),
        (b"", "night.csv", "empty"),
        (b"PAR1....", "night.csv", "This is not CSV"),
    ],
)
def test_the_page_says_why_a_file_is_not_taken(client, mel, acme, champion, content, name, said):
    client.force_login(mel)
    page = client.post(f"{PAGES}/send/", sending(acme, content, name)).content.decode()
    assert said in page
    assert not BatchFile.objects.exists()


def test_who_may_only_look_neither_sends_nor_cancels(client, alice, acme, send_file, work):
    send_file(csv_of(orders(1)))
    file = BatchFile.objects.get()
    client.force_login(alice)
    assert "Score a file" not in client.get(f"{PAGES}/").content.decode()
    assert client.get(f"{PAGES}/send/").status_code == 403
    assert client.post(f"{PAGES}/{file.pk}/cancel/").status_code == 403
    assert client.get(f"{PAGES}/{file.pk}/change/").status_code == 200


def test_an_operator_cancels_a_file(client, otto, send_file, work):
    send_file(csv_of(orders(1)))
    file = BatchFile.objects.get()
    client.force_login(otto)
    assert client.post(f"{PAGES}/{file.pk}/cancel/").status_code == 302
    file.refresh_from_db()
    assert file.state == State.CANCELLED


@pytest.mark.parametrize(("content", "state"), [(csv_of(orders(2)), "done"), (b"V1\n1\n", "refused")])
def test_the_end_of_a_file_is_told_to_the_clients_webhooks(acme, globex, scored, content, state):
    for client in (acme, globex):
        WebhookEndpoint.objects.create(client=client, url="https://shop.example/hook", event_types=["batch.finished"])
    file = scored(content)
    [delivery] = WebhookDelivery.objects.all()
    assert delivery.endpoint.client == acme
    told = json.loads(delivery.payload)["data"]
    assert (told["id"], told["state"]) == (file["id"], state)


def test_a_file_whose_name_holds_a_card_number_is_refused_at_each_door(client, mel, acme, work, tmp_path):
    client.force_login(mel)
    page = client.post(f"{PAGES}/send/", sending(acme, csv_of(orders(1)), "4111111111111111.csv")).content.decode()
    path = tmp_path / "4111 1111 1111 1111.csv"
    path.write_bytes(csv_of(orders(1)))
    with pytest.raises(CommandError, match="Give the file another name"):
        call_command("score", str(path), "--client", "Acme")
    assert "Give the file another name" in page
    assert not BatchFile.objects.exists()


@pytest.fixture
def night(tmp_path):
    path = tmp_path / "night.csv.gz"
    path.write_bytes(gzip.compress(csv_of(orders(9))))
    return path


def test_the_command_scores_a_file_and_writes_the_result_beside_it(work, acme, night, capsys):
    call_command("score", str(night), "--client", "Acme")
    assert "9 scored, 0 refused" in capsys.readouterr().out
    assert night.with_name("night.scored.csv").read_bytes().count(b"\n") == 10
    assert not Transaction.objects.exists()


def test_the_command_goes_on_where_it_was_interrupted(work, acme, night, settings, monkeypatch):
    settings.BATCH_FILE_CHUNK = 3
    monkeypatch.setattr(chunks, "RETRY_S", 0.0)
    write, written = chunks.results.write, []

    def interrupted(chunk, *args):
        write(chunk, *args)
        written.append(chunk.number)
        if len(written) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chunks.results, "write", interrupted)
        with pytest.raises(CommandError, match="Run the same command to go on"):
            call_command("score", str(night), "--client", "Acme", "--mode", "traffic")
    call_command("score", str(night), "--client", "Acme", "--mode", "traffic", "--format", "jsonl")
    lines = night.with_name("night.scored.jsonl").read_text().splitlines()
    assert [json.loads(line)["transaction_id"] for line in lines] == [f"order-{n}" for n in range(9)]
    assert {json.loads(line)["status"] for line in lines} == {"scored"}
    assert Transaction.objects.count() == 9
    assert BatchFile.objects.count() == 1


def test_the_command_fails_if_more_rows_are_refused_than_it_may(work, acme, tmp_path, capsys):
    path = tmp_path / "night.csv"
    path.write_bytes(csv_of([*orders(2), seed_payload(transaction_id="bad", V1="x")]))
    with pytest.raises(CommandError, match="1 rows were refused"):
        call_command("score", str(path), "--client", "Acme")
    assert "Line 4, V1" in capsys.readouterr().err
    call_command("score", str(path), "--client", "Acme", "--max-refused", "1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--client", "Nobody"], "there is no client 'Nobody'. Clients: Acme"),
        (["--client", "Acme", "--schema", "ulbb"], "There is no such schema"),
        (["--client", "Acme", "--schema", "handbook"], "no champion"),
        (["--client", "Acme", "--output", "/nowhere/night.csv"], "--output: /nowhere/night.csv cannot be written"),
        (["--client", "Acme", "--output", "/"], "--output: / cannot be written"),
        (["--client", "Acme", "--max-refused", "-1"], "--max-refused: give a whole number from 0"),
    ],
)
def test_the_command_says_what_is_wrong_before_it_takes_the_file(work, acme, night, options, said):
    with pytest.raises(CommandError, match=said):
        call_command("score", str(night), *options)
    assert not BatchFile.objects.exists()


def test_the_command_says_why_a_file_is_refused(work, acme, tmp_path):
    path = tmp_path / "night.csv"
    path.write_bytes(b"V1\n1\n")
    with pytest.raises(CommandError, match=r"Refused. These columns are missing"):
        call_command("score", str(path), "--client", "Acme")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("score", str(tmp_path / "none.csv"), "--client", "Acme")
