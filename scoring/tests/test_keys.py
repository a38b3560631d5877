"""Keys of the API: how they are changed without a gap, and what they are worth while the database is away."""

import json
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection

from fraudsite.testing import PROCESS_START_S, seed_payload
from scoring.api.authentication import KeyRing
from scoring.clients import keys, uses
from scoring.exceptions import DatabaseUnavailable, TooManyKeys
from scoring.models import ApiKey

pytestmark = pytest.mark.django_db

ADDRESS = f"/api/v1/predictions/{'0' * 8}-0000-0000-0000-{'0' * 12}"


@pytest.fixture
def ring(settings):
    """A cache that has read nothing yet, and keeps what it reads."""
    settings.API_KEY_CACHE_S = 3600
    return KeyRing()


@contextmanager
def database_away():
    def fail(*_):
        raise OperationalError("away")

    with connection.execute_wrapper(fail):
        yield


def wait_until(holds):
    give_up = time.monotonic() + PROCESS_START_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def status(client, key):
    return client.get(ADDRESS, headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_key_is_changed_without_a_gap(client, acme, keys_of_the_test):
    old_row, old = keys.create(client=acme)
    _, new = keys.create(client=acme)
    assert (status(client, old), status(client, new)) == (404, 404), "let in: there is only no such prediction"
    with pytest.raises(TooManyKeys):
        keys.create(client=acme)
    assert keys.revoke(key=old_row)
    assert (status(client, old), status(client, new)) == (401, 404)
    keys.create(client=acme)
    assert ApiKey.objects.filter(revoked_at=None).count() == 2


def test_the_limit_of_keys_is_each_clients_own(acme, globex):
    for client in (acme, acme, globex, globex):
        keys.create(client=client)
    assert ApiKey.objects.count() == 4


def test_a_key_is_revoked_once(acme):
    row, _ = keys.create(client=acme)
    assert keys.revoke(key=row)
    revoked_at = ApiKey.objects.get().revoked_at
    assert not keys.revoke(key=row)
    assert ApiKey.objects.get().revoked_at == revoked_at


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_word_before_the_key_may_be_written_small_or_large(client, acme, keys_of_the_test, scheme):
    _, key = keys.create(client=acme)
    assert client.get(ADDRESS, headers={"Authorization": f"{scheme} {key}"}).status_code == 404


def test_a_new_key_works_at_once_and_a_known_one_costs_no_query(acme, ring, django_assert_num_queries):
    first, _ = keys.create(client=acme)
    assert ring.find(first.digest) == first
    second, _ = keys.create(client=acme)
    with django_assert_num_queries(1):
        assert ring.find(second.digest) == second
    with django_assert_num_queries(0):
        assert ring.find(first.digest).client == acme
        assert ring.recall(second.digest) == second


def test_a_known_key_is_good_while_the_database_is_away_and_no_other_is(acme, ring):
    known, _ = keys.create(client=acme)
    ring.find(known.digest)
    unknown, _ = keys.create(client=acme)
    with database_away():
        assert ring.find(known.digest) == known
        with pytest.raises(DatabaseUnavailable):
            ring.find(unknown.digest)
    assert ring.find(unknown.digest) == unknown, "it asks again when the database is back"


def test_a_key_is_not_known_longer_than_the_settings_say(acme, ring, settings):
    row, _ = keys.create(client=acme)
    ring.find(row.digest)
    keys.revoke(key=row)
    assert ring.find(row.digest) == row
    ring._read_at = time.monotonic() - settings.API_KEY_CACHE_S - 1
    assert ring.recall(row.digest) is None
    assert ring.find(row.digest) is None


@pytest.mark.django_db(transaction=True)
def test_the_cache_is_read_again_and_again_before_it_expires_and_no_call_waits_for_that(acme, ring, settings):
    first, _ = keys.create(client=acme)
    ring.find(first.digest)
    keys.revoke(key=first)
    ring._read_at = time.monotonic() - 0.75 * settings.API_KEY_CACHE_S
    assert ring.recall(first.digest) == first, "the call goes on with what is cached"
    wait_until(lambda: ring.recall(first.digest) is None)
    second, _ = keys.create(client=acme)
    ring._read_at = time.monotonic() - 0.75 * settings.API_KEY_CACHE_S
    wait_until(lambda: ring.recall(second.digest) == second)


def test_the_keys_of_a_disabled_client_are_not_known(acme, ring):
    row, _ = keys.create(client=acme)
    acme.is_active = False
    acme.save()
    assert ring.find(row.digest) is None


def test_the_last_use_of_a_key_is_written_once_a_minute_and_not_on_the_way_of_a_call(
    acme, keys_of_the_test, django_assert_num_queries, monkeypatch
):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    row, _ = keys.create(client=acme)

    def last_use():
        uses.note(row)
        uses.flush()
        return ApiKey.objects.get(pk=row.pk).last_used_at.timestamp()

    with django_assert_num_queries(0):
        uses.note(row)
    assert ApiKey.objects.get().last_used_at is None
    first = last_use()
    assert abs(first - now) < 0.001
    now += 59
    assert last_use() == first
    now += 2
    assert abs(last_use() - now) < 0.001
    now += 61
    ApiKey.objects.update(last_used_at=datetime.fromtimestamp(now - 30, UTC))
    assert abs(last_use() - (now - 30)) < 0.001, "another process wrote it half a minute ago"


@pytest.mark.django_db(transaction=True)
def test_a_use_that_the_database_does_not_take_is_written_by_the_next_flush(acme):
    row, _ = keys.create(client=acme)
    uses.note(row)
    with database_away():
        uses.flush()
    uses.flush()
    assert ApiKey.objects.get().last_used_at


def test_a_call_is_told_that_the_database_is_away_and_when_to_come_again(acme_api):
    with database_away():
        response = acme_api.post("/predict", data=json.dumps(seed_payload()), content_type="application/json")
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert response["Content-Type"] == "application/problem+json"
