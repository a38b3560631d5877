"""Guessing passwords, seen from behind the proxy of an installation."""

import pytest
from axes.models import AccessAttempt
from django.urls import reverse

PROXY = "10.0.0.2"


@pytest.fixture
def behind_proxy(settings):
    settings.BEHIND_PROXY = True


def log_in(client, password, forwarded_for):
    form = {"username": "alice", "password": password}
    headers = {"X-Forwarded-For": forwarded_for}
    return client.post(reverse("admin:login"), form, headers=headers, REMOTE_ADDR=PROXY).status_code


def test_it_tells_people_behind_the_proxy_apart(behind_proxy, client, alice):
    for _ in range(6):
        log_in(client, "guess", "203.0.113.9")
    assert log_in(client, "alice-password", "203.0.113.9") == 429
    assert log_in(client, "alice-password", "198.51.100.7") == 302


def test_it_does_not_believe_what_a_client_says_about_its_address(behind_proxy, client, alice):
    statuses = [log_in(client, "guess", f"198.51.100.{n}, 203.0.113.9") for n in range(6)]
    assert statuses[-1] == 429


def test_it_ignores_the_header_where_there_is_no_proxy(client, alice):
    statuses = [log_in(client, "guess", f"198.51.100.{n}") for n in range(6)]
    assert statuses[-1] == 429


@pytest.mark.parametrize(
    ("forms", "address"),
    [
        ([f"203.0.113.9:{port}" for port in range(51_230, 51_236)], "203.0.113.9"),
        (["::ffff:203.0.113.9", "[::ffff:203.0.113.9]:1", '"203.0.113.9:2"', " 203.0.113.9 "] * 2, "203.0.113.9"),
        ([f"10.1.1.1, [2001:DB8::0:1]:{port}" for port in range(6)], "2001:db8::1"),
        (["2001:db8::1", "2001:0db8:0:0::1", "[2001:db8::1]", '"[2001:db8::1]:443"'] * 2, "2001:db8::1"),
        ([f"fe80::1%eth{n}" for n in range(6)], "fe80::1"),
        (["", ",", "203.0.113.9,", "unknown", "_hidden", "for=203.0.113.9", "[", "]:", ":", '"', "%"], PROXY),
        (["203.0.113.999", "203.0.113", "0xCB.0.113.9", "1:2:3", "[1::2::3]:4", "9" * 40], PROXY),
        (["\xe9\xff", "\u0662\u0660\u0663.0.113.9".encode().decode("latin-1"), "9." * 4000, ":" * 8000, "<b>"], PROXY),
    ],
)
def test_it_counts_guesses_by_a_right_address_whatever_form_the_header_has(behind_proxy, client, alice, forms, address):
    statuses = [log_in(client, "guess", form) for form in forms]
    assert set(statuses) <= {200, 429}
    assert {attempt.ip_address for attempt in AccessAttempt.objects.all()} <= {address}
    assert log_in(client, "alice-password", forms[0]) == 429
    assert log_in(client, "alice-password", "198.51.100.7") == 302


@pytest.mark.parametrize("peer", ["", "unix:", "fe80::1%eth0", "10.0.0.2:5000", "somewhere"])
def test_it_lets_people_in_whatever_the_server_says_of_its_peer(client, alice, peer):
    form = {"username": "alice", "password": "guess"}
    assert client.post(reverse("admin:login"), form, REMOTE_ADDR=peer).status_code == 200
    assert (
        client.post(reverse("admin:login"), form | {"password": "alice-password"}, REMOTE_ADDR=peer).status_code == 302
    )
