"""The Python client with files of transactions and webhook endpoints, against a real web server and worker."""

import asyncio
import gzip
import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from fraudsite_client import AsyncFraudsite, File, Fraudsite, NotFound, NotReached, Patience, Refused
from scoring.clients import keys
from scoring.files.models import BatchFile
from scoring.models import WebhookEndpoint
from scoring.tests.files import csv_of, orders
from scoring.tests.test_python_client import losing_the_first_answer

QUICK = Patience(deadline_s=30, timeout_s=5, first_pause_s=0.01)
HOOK: dict[str, Any] = {"url": "https://shop.example/fraud", "event_types": ["alert.opened"]}


@pytest.fixture
def key(acme):
    return keys.create(client=acme)[1]


@pytest.fixture
def fraudsite(site, key):
    with Fraudsite(site, key) as client:
        yield client


@pytest.fixture
def night(tmp_path):
    """A packed file, one of whose three rows is refused."""
    path = tmp_path / "night.csv.gz"
    path.write_bytes(gzip.compress(csv_of([*orders(2), *orders(1, Amount=-1.0)])))
    return path


def test_it_sends_a_file_watches_it_and_saves_what_became_of_its_rows(fraudsite, night, tmp_path):
    seen: list[File] = []
    sent = fraudsite.send_file(night, mode="score")
    file = fraudsite.await_file(sent.id, every_s=0.1, limit_s=60, on_progress=seen.append)
    assert (file.state, file.rows, file.scored, file.refused) == ("done", 3, 2, 1)
    assert (file.name, seen[-1]) == ("night.csv.gz", file)
    fraudsite.save_result(file.id, tmp_path / "scores.jsonl")
    fraudsite.save_refused(file.id, tmp_path / "refused", format="csv")
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["scored", "scored", "refused"]
    assert (tmp_path / "refused").read_text().splitlines()[1].startswith("4,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night.csv.gz", "refused", "scores.jsonl"]
    assert [each["id"] for each in fraudsite.files()] == [file.id]
    fraudsite.delete_file(file.id)
    assert fraudsite.file(file.id).state == "expired"


def test_a_file_whose_answer_is_lost_is_sent_again_and_taken_once(site, key, night, champion):
    with losing_the_first_answer(site) as address, Fraudsite(address, key) as fraudsite:
        sent = fraudsite.send_file(night, mode="score", patience=QUICK)
    assert [str(row.pk) for row in BatchFile.objects.exclude(state="receiving")] == [sent.id]


def test_a_download_that_fails_leaves_what_was_there(fraudsite, night, tmp_path):
    kept = tmp_path / "scores.csv"
    kept.write_text("of yesterday")
    sent = fraudsite.send_file(night, mode="score", key="night-1")
    assert fraudsite.send_file(night, mode="score", key="night-1").id == sent.id
    fraudsite.cancel_file(sent.id)
    with pytest.raises(NotFound):
        fraudsite.save_result("01a2278e-0000-7000-8000-000000000000", kept)
    assert kept.read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night.csv.gz", "scores.csv"]


def test_a_watch_ends_in_time(fraudsite, acme):
    waiting = BatchFile.objects.create(
        client=acme,
        schema="gone",
        mode="score",
        format="csv",
        state="waiting",
        touched_at=timezone.now() + timedelta(1),
    )
    with pytest.raises(NotReached, match="is still waiting"):
        fraudsite.await_file(str(waiting.pk), every_s=0.05, limit_s=0.1)


@pytest.mark.parametrize("name", ["night", "night.txt", "night.gz", "night.csv.zip"])
def test_a_name_that_does_not_tell_the_format_is_refused_before_anything_is_sent(tmp_path, name):
    with Fraudsite("http://127.0.0.1:9", "fs_key") as fraudsite, pytest.raises(ValueError, match="name it with"):
        fraudsite.send_file(tmp_path / name, mode="score")


def test_it_looks_after_webhooks(fraudsite):
    made = fraudsite.add_webhook(**HOOK, schemas=["ulb"])
    assert made.secret.startswith("whsec_")
    assert fraudsite.change_webhook(made.id, state="paused").state == "paused"
    assert fraudsite.webhook(made.id).schemas == ["ulb"]
    assert fraudsite.rotate_webhook(made.id, keep_s=0) != made.secret
    fraudsite.change_webhook(made.id, state="active")
    sent = fraudsite.test_webhook(made.id)
    assert [each["id"] for each in fraudsite.deliveries(made.id, state="pending")] == [sent]
    assert fraudsite.replay_webhook(made.id, since=timezone.now() - timedelta(hours=1), all=True) == 1
    assert [each["id"] for each in fraudsite.webhooks()] == [made.id]
    fraudsite.remove_webhook(made.id)
    assert list(fraudsite.webhooks()) == []


def test_what_would_be_made_twice_is_not_sent_again(site, key):
    with losing_the_first_answer(site) as address, Fraudsite(address, key, patience=QUICK) as fraudsite:
        with pytest.raises(NotReached):
            fraudsite.add_webhook(**HOOK)
        assert WebhookEndpoint.objects.count() == 1


def test_the_asynchronous_client_does_all_of_that_too(site, key, night, tmp_path, champion):
    async def work():
        async with AsyncFraudsite(site, key) as fraudsite:
            sent = await fraudsite.send_file(night, mode="score", ignore=["Class"])
            file = await fraudsite.await_file(sent.id, every_s=0.1, limit_s=60)
            assert (file.state, file.scored) == ("done", 2)
            await fraudsite.save_result(file.id, tmp_path / "scores.parquet")
            await fraudsite.save_refused(file.id, tmp_path / "refused.csv")
            assert [each["id"] async for each in fraudsite.files()] == [file.id]
            await fraudsite.delete_file(file.id)
            cancelled = await fraudsite.send_file(night, mode="score")
            assert (await fraudsite.cancel_file(cancelled.id)).id == (await fraudsite.file(cancelled.id)).id
            made = await fraudsite.add_webhook(**HOOK)
            assert (await fraudsite.change_webhook(made.id, description="ours")).description == "ours"
            assert await fraudsite.rotate_webhook(made.id) != made.secret
            test = await fraudsite.test_webhook(made.id)
            assert [each["id"] async for each in fraudsite.deliveries(made.id)] == [test]
            assert await fraudsite.replay_webhook(made.id, ids=[test]) == 1
            assert [each["id"] async for each in fraudsite.webhooks()] == [(await fraudsite.webhook(made.id)).id]
            await fraudsite.remove_webhook(made.id)
            with pytest.raises(Refused):
                await fraudsite.webhook(made.id)

    asyncio.run(work())
    assert (tmp_path / "scores.parquet").read_bytes().startswith(b"PAR1")
    assert (tmp_path / "refused.csv").read_text().startswith("line,")


def test_the_example_with_a_file_works(site, key, night, champion, monkeypatch, capsys):
    page = (settings.BASE_DIR / "clients" / "python" / "README.md").read_text()
    example = page.split("## Score a file\n```python\n")[1].split("```")[0]
    monkeypatch.setenv("FRAUDSITE_URL", site)
    monkeypatch.setenv("FRAUDSITE_API_KEY", key)
    monkeypatch.chdir(night.parent)
    exec(example, {})  # noqa: S102
    assert capsys.readouterr().out.endswith("3 of 3\n")
    assert (night.parent / "scores.parquet").exists()
    assert (night.parent / "refused.csv").exists()
