"""Files of reviews: what is attached, who gets it, and that it is nothing that a browser would run."""

from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from scoring.models import Attachment

pytestmark = pytest.mark.django_db

PDF = b"%PDF-1.7\n...\n%%EOF"


def text(response):
    return unescape(response.content.decode())


def attach(http, review, name, content, **more):
    address = reverse("admin:scoring_review_attach", args=[review.pk])
    file = SimpleUploadedFile(name, content)
    file.name = name  # as a hostile client sends it, which Django would cut
    return http.post(address, {"file": file} | more, follow=True)


def address_of(attachment):
    return reverse("admin:scoring_attachment", args=[attachment.pk])


@pytest.fixture(autouse=True)
def store(settings, tmp_path):
    settings.STORAGES = settings.STORAGES | {
        "attachments": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": tmp_path / "attachments"},
        }
    }
    return tmp_path / "attachments"


@pytest.fixture
def at_work(client, alice):
    client.force_login(alice)
    return client


def test_a_file_is_attached_listed_and_given_back_as_a_download_that_no_browser_runs(at_work, alert, store):
    review = alert(0.9)
    page = text(attach(at_work, review, "Brief des Karteninhabers – März.pdf", PDF))
    assert "Brief des Karteninhabers – März.pdf is attached." in page
    kept = Attachment.objects.get()
    assert address_of(kept) in page
    given = at_work.get(address_of(kept))
    assert b"".join(given.streaming_content) == PDF
    assert given["Content-Disposition"].startswith("attachment; filename*=utf-8''Brief")
    assert given["Content-Type"] == "application/octet-stream"
    assert given["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in given["Content-Security-Policy"]
    [stored] = [path for path in store.rglob("*") if path.is_file()]
    assert "Brief" not in str(stored)
    assert LogEntry.objects.filter(object_id=str(review.pk), change_message__contains="SHA-256").count() == 2


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.pdf", b"", "empty"),
        ("a.pdf", b"<html><script>alert(1)</script>", "not what its name says"),
        ("a.png", PDF, "not what its name says"),
        ("a.webp", b"RIFF0000WAVE", "not what its name says"),
        ("a.html", b"<script>alert(1)</script>", "no file that can be attached"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no file that can be attached"),
        ("a.zip", b"PK\x03\x04" + b"\0" * 40, "no file that can be attached"),
        ("a.pdf.exe", PDF, "no file that can be attached"),
        ("pdf", PDF, "no file that can be attached"),
        ("a.txt", b"\xff\xfe\x00", "no text in UTF-8"),
        ("a.txt", b"PK\x03\x04\0\0", "control characters"),
        ("a.txt", b"She says 4111 1111 1111 1111", "card number"),
        ("4111111111111111.pdf", PDF, "card number"),
    ],
)
def test_what_cannot_be_attached_is_refused_with_the_reason(at_work, alert, store, name, content, told):
    assert told in text(attach(at_work, alert(0.9), name, content))
    assert not Attachment.objects.exists()
    assert not store.exists()


def test_a_file_that_is_too_large_or_one_too_many_is_refused(at_work, alert, settings):
    settings.ATTACHMENT_LIMIT_BYTES, settings.ATTACHMENTS_LIMIT = len(PDF), 1
    review = alert(0.9)
    assert "larger than" in text(attach(at_work, review, "a.pdf", PDF + b"\n"))
    assert "is attached" in text(attach(at_work, review, "a.pdf", PDF))
    assert "at most 1 attachments" in text(attach(at_work, review, "b.pdf", PDF))
    assert Attachment.objects.count() == 1


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\eve\\a.txt", "a.txt"),
        ("a\u202etxt.exe\x07.txt", "atxt.exe.txt"),
        ('<b>"a".txt', "ba.txt"),
        ("n" * 300 + ".txt", "n" * 116 + ".txt"),
        ("Überweisung 口座.TXT", "Überweisung 口座.TXT"),
    ],
    ids=["path", "backslashes", "direction and bell", "markup", "300 characters", "other scripts"],
)
def test_a_name_is_kept_without_its_path_and_what_cannot_be_seen(at_work, alert, sent, shown):
    attach(at_work, alert(0.9), sent, b"Hello")
    assert Attachment.objects.get().name == shown


def test_a_removed_file_is_gone_and_its_removal_is_on_record(
    at_work, alert, store, client, sam, sue, django_capture_on_commit_callbacks
):
    review = alert(0.9)
    attach(at_work, review, "a.pdf", PDF)
    attach(at_work, review, "b.pdf", PDF)
    first, second = Attachment.objects.all()
    remove = [reverse("admin:scoring_attachment_remove", args=[each.pk]) for each in (first, second)]
    assert "Give a reason" in text(client.post(remove[0], {"reason": " "}, follow=True))
    with django_capture_on_commit_callbacks(execute=True):
        client.post(remove[0], {"reason": "Another case"})
    client.force_login(sam)
    assert client.post(remove[1], {"reason": "Not mine"}).status_code == 403
    client.force_login(sue)
    with django_capture_on_commit_callbacks(execute=True):
        page = text(client.post(remove[1], {"reason": "Too much"}, follow=True))
    assert "removed by sue: Too much" in page
    assert client.get(address_of(first)).status_code == 404
    assert [path for path in store.rglob("*") if path.is_file()] == []
    assert LogEntry.objects.filter(change_message__contains="Too much", user=sue).exists()


@pytest.mark.parametrize("person", ["mel", "audrey", "otto"])
def test_those_who_do_not_see_personal_values_get_no_attachment(at_work, alert, client, person, request):
    review = alert(0.9)
    attach(at_work, review, "a.pdf", PDF)
    client.force_login(request.getfixturevalue(person))
    assert client.get(address_of(Attachment.objects.get())).status_code == 403
    assert attach(client, review, "b.pdf", PDF).status_code == 403
    assert "a.pdf" not in text(client.get(reverse("admin:scoring_review_change", args=[review.pk])))


def test_a_file_that_the_store_has_lost_is_told_of(at_work, alert, store):
    attach(at_work, alert(0.9), "a.pdf", PDF)
    for path in store.rglob("*"):
        if path.is_file():
            path.unlink()
    assert "not in the store" in text(at_work.get(address_of(Attachment.objects.get()), follow=True))
