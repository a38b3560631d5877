"""Guessing passwords, seen from behind the proxy of an installation."""

import pytest
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
