"""Actions on many rows: they take the rows that the page showed, and ask for confirmation before they label."""

import re
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from scoring.clients import keys
from scoring.models import ApiKey, Label, Pending, Review
from scoring.reviews import labelling

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")


@pytest.fixture(autouse=True)
def short_pages(monkeypatch):
    """So that a handful of rows fills more than one page, and "Select all" is offered."""
    for site in admin.site._registry.values():
        monkeypatch.setattr(site, "list_per_page", 2)


def fields_of(response):
    """What the form of a page would send, with every box ticked."""
    page = response.content.decode()
    found: dict[str, list[str]] = {}
    for tag in re.findall(r"<input [^>]+>", page):
        given = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if given.get("type") in {"hidden", "checkbox"} and "name" in given:
            found.setdefault(given["name"], []).append(unescape(given.get("value", "")))
    return found


def select_all(client, address, action):
    """A page whose "Select all" was clicked: what pressing Go sends then."""
    response = client.get(address)
    return fields_of(response) | {"action": action, "select_across": "1", "index": "0"}


def confirm(client, address, response):
    return client.post(address, fields_of(response), follow=True)


def test_select_all_takes_exactly_the_alerts_that_the_page_showed(client, alice, alert):
    shown = [alert(score / 10) for score in range(1, 8)]
    client.force_login(alice)
    page = client.get(QUEUE).content.decode()
    assert "Select all 7 reviews" in page
    pressed = select_all(client, QUEUE, "mark_legitimate")
    came = [alert(0.95), alert(0.05), alert(0.5)]
    asked = client.post(QUEUE, pressed)
    assert "7 alerts will be labelled" in asked.content.decode()
    assert "3 more in this list were not among those chosen" in asked.content.decode()
    came.append(alert(0.97))
    done = confirm(client, QUEUE, asked).content.decode()
    assert "7 labelled legitimate" in done
    assert "4 more in this list were not among those chosen" in done
    assert set(Label.objects.values_list("transaction_id", flat=True)) == {review.pk for review in shown}
    assert set(Review.objects.filter(state="open")) == set(came)


def test_what_left_the_list_meanwhile_keeps_its_label_and_is_told_of(client, alice, ada, alert):
    reviews = [alert(score / 10) for score in range(1, 6)]
    client.force_login(alice)
    pressed = select_all(client, QUEUE, "mark_legitimate")
    labelling.close_review(review=reviews[0], is_fraud=True, reviewer=ada)
    asked = client.post(QUEUE, pressed)
    assert "4 alerts will be labelled" in asked.content.decode()
    assert "1 had been closed already and kept their label." in asked.content.decode()
    labelling.close_review(review=reviews[1], is_fraud=True, reviewer=ada)
    done = confirm(client, QUEUE, asked).content.decode()
    assert "3 labelled legitimate" in done
    assert "1 had been closed already and kept their label." in done
    assert Label.objects.filter(author=ada, is_fraud=True).count() == 2
    assert Label.objects.filter(author=alice, is_fraud=False).count() == 3


def test_nothing_is_labelled_before_it_is_confirmed(client, alice, alert):
    alert(0.9, amount=12.5)
    alert(0.8, amount=1_000)
    alert(0.7, amount=1.239, schema="handbook")
    client.force_login(alice)
    asked = client.post(QUEUE, select_all(client, QUEUE, "confirm_fraud"))
    page = asked.content.decode()
    assert "3 alerts will be labelled" in page
    rows = re.findall(r"<tr><td>(\w+)</td><td[^>]*>(\d+)</td><td[^>]*>([^<]+)</td>", page)
    assert [(schema, count) for schema, count, _ in rows] == [("handbook", "1"), ("ulb", "2")]
    assert [amount.split()[0] for _, _, amount in rows] == ["1.24", "1,012.50"]
    assert f'<a href="{QUEUE}" class="back">Back</a>' in page
    assert not Label.objects.exists()
    assert not LogEntry.objects.exists()


def test_the_filter_stays_through_the_confirmation(client, alice, alert, acme):
    address = f"{QUEUE}?client={acme.pk}"
    for score in (0.9, 0.8, 0.7):
        alert(score)
    client.force_login(alice)
    asked = client.post(address, select_all(client, address, "confirm_fraud"))
    assert confirm(client, address, asked).redirect_chain == [(address, 302)]
    assert Label.objects.count() == 3


def test_of_a_list_beyond_the_limit_the_first_rows_are_offered_and_no_more_are_taken(client, alice, alert, settings):
    settings.MASS_ACTION_LIMIT = 3
    reviews = [alert(score / 10) for score in range(1, 6)]
    client.force_login(alice)
    assert "Select the first 3 of 5 reviews" in client.get(QUEUE).content.decode()
    asked = client.post(QUEUE, select_all(client, QUEUE, "confirm_fraud"))
    confirm(client, QUEUE, asked)
    assert set(Label.objects.values_list("transaction_id", flat=True)) == {review.pk for review in reviews[2:]}


def test_a_page_that_does_not_say_what_it_showed_takes_what_was_ticked(client, alice, alert):
    ticked, _other = alert(0.9), alert(0.8)
    client.force_login(alice)
    sent = {"action": "confirm_fraud", "select_across": "1", "_selected_action": [ticked.pk], "confirmed": "yes"}
    client.post(QUEUE, sent)
    assert Label.objects.get().transaction_id == ticked.pk


def test_keys_that_are_none_change_nothing(client, alice, alert):
    alert(0.9)
    client.force_login(alice)
    sent = {"action": "confirm_fraud", "_selected_action": ["nonsense"], "confirmed": "yes"}
    assert "not understood" in client.post(QUEUE, sent, follow=True).content.decode()
    assert not Label.objects.exists()


def test_select_all_of_what_waits_tries_every_row_that_was_shown_and_no_other(client, mel, transaction):
    def wait():
        return Pending.objects.create(transaction=transaction(), attempts=8, due_at=timezone.now())

    shown = [wait() for _ in range(5)]
    client.force_login(mel)
    address = reverse("admin:scoring_pending_changelist")
    pressed = select_all(client, address, "retry")
    late = wait()
    shown.pop().delete()
    done = client.post(address, pressed, follow=True).content.decode()
    assert "4 will be tried again" in done
    assert "1 had their score already." in done
    assert set(Pending.objects.filter(attempts=0)) == set(shown)
    late.refresh_from_db()
    assert late.attempts == 8


def test_select_all_of_keys_revokes_none_that_came_since(client, ada, acme, globex):
    for client_of in (acme, acme, globex):
        keys.create(client=client_of)
    client.force_login(ada)
    address = reverse("admin:scoring_apikey_changelist")
    pressed = select_all(client, address, "revoke")
    late, _ = keys.create(client=globex)
    client.post(address, pressed)
    assert list(ApiKey.objects.filter(revoked_at=None)) == [late]


def test_select_all_deletes_none_that_came_since(client, admin_user):
    for name in ("a", "b", "c"):
        User.objects.create_user(name)
    client.force_login(admin_user)
    address = reverse("admin:auth_user_changelist") + "?is_staff__exact=0"
    pressed = select_all(client, address, "delete_selected")
    User.objects.create_user("late")
    asked = client.post(address, pressed)
    confirm(client, address, asked)
    assert set(User.objects.values_list("username", flat=True)) == {"late", admin_user.username}


def test_one_version_is_promoted_even_when_all_are_selected(client, mel, champion):
    address = reverse("admin:training_modelversion_changelist")
    client.force_login(mel)
    sent = {"action": "retire", "select_across": "1", "_selected_action": [champion.pk]}
    assert client.post(address, sent, follow=True).status_code == 200
