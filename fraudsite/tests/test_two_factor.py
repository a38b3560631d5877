"""The second factor: setting it up, signing in with it, and losing it."""

import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from fraudsite.audit.models import Entry

pytestmark = pytest.mark.django_db

PAGE, SIGN_IN, INDEX = reverse("two_factor"), reverse("admin:login"), reverse("admin:index")


def code_of(user, later_s=0):
    """What the app shows, now or `later_s` seconds later."""
    device = TOTPDevice.objects.get(user=user)
    shown = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    shown.time = timezone.now().timestamp() + later_s
    return f"{shown.token():06d}"


def forget_waits():
    """Let the waits after wrong codes pass."""
    for model in (TOTPDevice, StaticDevice):
        model.objects.update(throttling_failure_timestamp=timezone.now() - timedelta(hours=9))


@pytest.fixture
def enrolled(client, alice):
    """Alice, who has a second factor and has signed out; and her recovery codes."""
    client.force_login(alice)
    client.get(PAGE)
    page = client.post(PAGE, {"code": code_of(alice)}).content.decode()
    client.post(reverse("admin:logout"))
    alice.recovery_codes = re.findall("<li><code>(.+?)</code>", page)
    return alice


def sign_in(client, code="", **changes):
    return client.post(SIGN_IN, {"username": "alice", "password": "alice-password", "code": code} | changes)


def test_the_page_shows_a_key_as_picture_and_text_and_turns_it_on_with_its_code_alone(client, alice):
    client.force_login(alice)
    page = client.get(PAGE)
    assert "no-store" in page["Cache-Control"]
    assert 'src="data:image/svg+xml' in page.content.decode()
    assert client.post(PAGE, {"code": "000000"}).status_code == 302
    assert not TOTPDevice.objects.get(user=alice).confirmed
    forget_waits()
    shown = client.post(PAGE, {"code": code_of(alice)}).content.decode()
    assert len(re.findall("<li><code>", shown)) == 10
    assert TOTPDevice.objects.get(user=alice).confirmed
    assert "<li><code>" not in client.get(PAGE).content.decode()


def test_who_has_none_signs_in_with_the_password(client, alice):
    assert sign_in(client).status_code == 302


def test_signing_in_takes_password_and_code(client, enrolled):
    assert sign_in(client).status_code == 200
    assert sign_in(client, "000000").status_code == 200
    assert Entry.objects.filter(action="refused", person="alice", detail__contains="Wrong code").exists()
    forget_waits()
    assert sign_in(client, code_of(enrolled, 30), password="guess").status_code == 200
    assert sign_in(client, code_of(enrolled, 30)).status_code == 302


def test_a_code_works_once_and_not_after_its_time(client, enrolled):
    used = code_of(enrolled, 30)
    assert sign_in(client, used).status_code == 302
    client.post(reverse("admin:logout"))
    assert sign_in(client, used).status_code == 200
    forget_waits()
    assert sign_in(client, code_of(enrolled, -300)).status_code == 200


def test_after_a_wrong_code_even_a_right_one_has_to_wait(client, enrolled):
    sign_in(client, "000000")
    assert sign_in(client, code_of(enrolled, 30)).status_code == 200
    forget_waits()
    assert sign_in(client, code_of(enrolled, 30)).status_code == 302


def test_who_lost_the_device_signs_in_with_a_recovery_code_once(client, enrolled):
    first = enrolled.recovery_codes[0]
    assert sign_in(client, first).status_code == 302
    client.post(reverse("admin:logout"))
    forget_waits()
    assert sign_in(client, first).status_code == 200
    forget_waits()
    assert sign_in(client, enrolled.recovery_codes[1]).status_code == 302
    assert StaticToken.objects.count() == 8


def test_who_lost_both_is_helped_by_an_operator(client, enrolled):
    call_command("reset_two_factor", "alice")
    assert sign_in(client).status_code == 302
    with pytest.raises(CommandError, match="no account bob"):
        call_command("reset_two_factor", "bob")


def test_a_stolen_session_removes_or_renews_nothing_without_a_code(client, enrolled):
    client.force_login(enrolled)
    for what in ("remove", "renew"):
        client.post(PAGE, {what: "yes", "code": "000000"})
        forget_waits()
    assert TOTPDevice.objects.filter(user=enrolled, confirmed=True).count() == 1
    assert StaticToken.objects.count() == 10
    client.post(PAGE, {"remove": "yes", "code": code_of(enrolled, 30)})
    assert not TOTPDevice.objects.filter(user=enrolled, confirmed=True).exists()


def test_where_it_is_required_nothing_opens_without_it(client, alice, settings):
    settings.TWO_FACTOR_REQUIRED = True
    client.force_login(alice)
    for address in (INDEX, reverse("dashboard"), reverse("admin:scoring_review_changelist"), reverse("metrics")):
        assert client.get(address)["Location"] == PAGE
    client.get(PAGE)
    client.post(PAGE, {"code": code_of(alice)})
    assert client.get(INDEX).status_code == 200
    client = Client()  # a session of before
    client.force_login(alice)
    assert client.get(INDEX)["Location"] == PAGE
    assert "data:image" not in client.get(PAGE).content.decode()
    assert client.post(PAGE, {"code": code_of(alice, 30)})["Location"] == INDEX
    assert client.get(INDEX).status_code == 200
