"""What the Python client accepts as a webhook."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudsite_client import Event, NotVerified, verify

SECRET, OTHER = ("whsec_" + base64.b64encode(bytes([byte]) * 24).decode() for byte in (1, 2))
NOW = 1_900_000_000
EVENT: dict[str, Any] = {"type": "alert.opened", "timestamp": "2026-01-31T12:00:00Z", "data": {"id": "1"}}
BODY = json.dumps(EVENT).encode()


def signed(body=BODY, *, secret=SECRET, key="msg_1", at=NOW, **changes):
    """The headers of a message, as https://www.standardwebhooks.com has them."""
    mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), f"{key}.{at}.".encode() + body, hashlib.sha256)
    headers = {"webhook-id": key, "webhook-timestamp": str(at)}
    return headers | {"webhook-signature": f"v1,{base64.b64encode(mac.digest()).decode()}"} | changes


def test_a_signed_event_is_read():
    assert verify(BODY, signed(), SECRET, now=NOW) == Event("msg_1", **EVENT)


def test_the_example_of_the_standard_is_accepted():
    # From the reference implementations of Standard Webhooks.
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    with pytest.raises(NotVerified, match="no event"):  # the signature is right, and its body is no event of ours
        verify(b'{"test": 2432232314}', headers, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", now=1614265330)


def test_names_of_headers_may_be_written_in_any_case():
    headers = {name.title(): value for name, value in signed().items()}
    assert verify(BODY, headers, SECRET, now=NOW).id == "msg_1"


def test_either_secret_is_enough_while_they_change():
    both = signed()["webhook-signature"] + " " + signed(secret=OTHER)["webhook-signature"]
    for secrets in (SECRET, OTHER, [OTHER, SECRET]):
        assert verify(BODY, signed(**{"webhook-signature": both}), secrets, now=NOW)
    assert verify(BODY, signed(), [OTHER, SECRET], now=NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(secret=OTHER),
        signed(key="msg_2") | {"webhook-id": "msg_1"},
        signed(at=NOW - 301),
        signed(at=NOW + 301),
        signed(**{"webhook-timestamp": "soon"}),
        signed(**{"webhook-signature": ""}),
        signed(**{"webhook-signature": "v1,"}),
        signed(**{"webhook-signature": signed()["webhook-signature"].replace("v1", "v2")}),
        signed(**{"webhook-signature": "v1,é"}),
    ],
)
def test_anything_else_is_not_verified(headers):
    with pytest.raises(NotVerified):
        verify(BODY, headers, SECRET, now=NOW)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_body_that_was_changed_is_not_verified(place, change):
    changed = bytearray(BODY)
    changed[place] ^= change
    with pytest.raises(NotVerified):
        verify(bytes(changed), signed(), SECRET, now=NOW)


@pytest.mark.parametrize("secrets", [[], "", "whsec_", [SECRET, ""], "whsec_é", "whsec_not base64"])
def test_a_secret_that_is_none_is_told(secrets):
    with pytest.raises(ValueError, match="secret"):
        verify(BODY, signed(), secrets, now=NOW)
