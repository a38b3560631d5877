"""Messages reach their receivers: signed webhooks, chats, e-mails; and a receiver that is slow or dead holds nobody up.
With real HTTP servers."""

import time
from datetime import UTC, datetime, timedelta
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import ClassVar
from uuid import uuid4

import msgspec
import pytest
from django.core import mail
from django.utils import timezone
from standardwebhooks import Webhook

from monitoring.alerts import sending, wording
from monitoring.alerts.models import AlertMessage, AlertRoute
from scoring.tests.receivers import receiving
from scoring.webhooks import sealing

pytestmark = pytest.mark.django_db

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LINE = {
    "event": "fired",
    "said": "Fired",
    "name": "A client is silent",
    "severity": "warning",
    "of": "ulb, <!channel> & co",
    "value": "31 expected transactions",
    "at": NOW.isoformat(),
    "detail": "",
    "by": "",
    "note": "",
    "address": "https://fraud.example.com/admin/monitoring/alert/1/change/",
    "runbook": "https://fraud.example.com/admin/runbooks/#client_silence",
}


@pytest.fixture(autouse=True)
def targets_of_this_machine(settings):
    settings.WEBHOOK_PRIVATE_TARGETS = True
    settings.WEBHOOK_TIMEOUT_S = 1.0


def message(kind, address, **values):
    route = AlertRoute.objects.create(name=f"{kind} {uuid4()}", kind=kind, address=address, **values)
    now = timezone.now()
    return AlertMessage.objects.create(route=route, lines=[LINE], created_at=now, due_at=now)


def test_a_webhook_is_signed_as_those_of_clients_are():
    with receiving() as receiver:
        sent = message("webhook", receiver.url, secret=sealing.seal(SECRET))
        assert sending.send_due() == 1
        [call] = receiver.calls
    content = Webhook(SECRET).verify(call.body, call.headers)
    assert content["type"] == "monitoring.alerts"
    assert content["data"] == {"alerts": [LINE], "left_out": 0}
    assert call.id == f"msg_{sent.pk.hex}"
    sent.refresh_from_db()
    assert (sent.state, sent.attempts, sent.fault) == ("sent", 1, "")


def test_a_chat_gets_text_in_which_no_name_is_a_mention():
    with receiving() as receiver:
        message("chat", receiver.url)
        assert sending.send_due() == 1
        [call] = receiver.calls
    assert call.content == {
        "text": "🟠 *Fired*: <https://fraud.example.com/admin/monitoring/alert/1/change/|A client is silent> · "
        "ulb, &lt;!channel&gt; &amp; co · 31 expected transactions · "
        "<https://fraud.example.com/admin/runbooks/#client_silence|what to do>"
    }


def test_what_fails_is_sent_again_with_the_same_id_until_it_arrives():
    answers = iter([500, 429, 204])
    with receiving(lambda _: (next(answers), {})) as receiver:
        sent = message("webhook", receiver.url, secret=sealing.seal(SECRET))
        now = sent.created_at
        for _ in range(3):
            sending.send_due(now=now)
            now += timedelta(hours=1)
        assert len({call.id for call in receiver.calls}) == 1
        assert len(receiver.calls) == 3
    sent.refresh_from_db()
    assert (sent.state, sent.attempts) == ("sent", 3)


def test_two_senders_send_a_message_once():
    with receiving() as receiver:
        sent = message("chat", receiver.url)
        now = sent.created_at
        claimed = sending._claim(now)
        assert len(claimed) == 1
        assert sending._claim(now) == []
        assert sending.send_due(now=now) == 0
        assert receiver.calls == []
        # What a killed sender had claimed is due again.
        assert sending.send_due(now=now + sending.LEASE) == 1


def test_a_receiver_that_is_slow_or_dead_holds_nobody_up():
    def slow(_):
        time.sleep(3)
        return 204, {}

    with receiving(slow) as stuck, receiving() as receiver:
        late = message("chat", stuck.url)
        dead = message("chat", "http://127.0.0.1:9/hook")
        message("chat", receiver.url)
        message("email", "ops@example.com")
        began = time.monotonic()
        assert sending.send_due() == 2
        assert time.monotonic() - began < 2.5
        assert len(receiver.calls) == len(mail.outbox) == 1
    for failed, fault in ((late, "No whole answer within 1 s."), (dead, "")):
        failed.refresh_from_db()
        assert failed.state == "pending"
        assert failed.due_at > timezone.now()
        assert fault in failed.fault
        assert failed.fault


def test_what_waits_for_a_route_that_is_turned_off_is_not_sent():
    with receiving() as receiver:
        sent = message("chat", receiver.url)
        for is_on in (False, True):
            AlertRoute.objects.update(is_on=is_on)
            assert sending.send_due() == 0
        assert receiver.calls == []
    sent.refresh_from_db()
    assert (sent.state, sent.fault) == ("dead", "The route was turned off.")


def test_a_target_within_the_network_is_refused(settings):
    settings.WEBHOOK_PRIVATE_TARGETS = False
    with receiving() as receiver:
        sent = message("webhook", receiver.url.replace("http://", "https://"), secret=sealing.seal(SECRET))
        assert sending.send_due() == 0
        assert receiver.calls == []
    sent.refresh_from_db()
    assert "not public" in sent.fault


def test_a_test_says_what_went_wrong():
    with receiving(lambda _: (404, {})) as receiver:
        route = AlertRoute.objects.create(name="Chat", kind="chat", address=receiver.url)
        assert sending.send_test(route) == "The receiver answered 404: "
    route.kind, route.address = "email", "ops@example.com"
    assert sending.send_test(route) == ""
    assert mail.outbox[-1].subject == "[Fraudsite] A test: This route works"


class MailServer(StreamRequestHandler):
    """Takes e-mails, but for one address."""

    taken: ClassVar[list[bytes]] = []

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            match line[:4].upper():
                case b"RCPT" if b"nobody@" in line:
                    self.wfile.write(b"550 no such user\r\n")
                case b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    self.taken.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                    self.wfile.write(b"250 taken\r\n")
                case _:
                    self.wfile.write(b"250 fine\r\n")


@pytest.fixture
def mail_server(settings):
    with ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings.EMAIL_BACKEND, settings.EMAIL_USE_TLS = sending.SMTP, False
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address[:2]
        MailServer.taken.clear()
        yield MailServer.taken
        server.shutdown()


def test_an_address_that_a_mail_server_refuses_is_told_and_the_others_are_not_told_twice(mail_server):
    sent = message("email", "ops@example.com, nobody@example.com")
    assert sending.send_due() == 1
    sent.refresh_from_db()
    assert sent.state == "sent"
    assert sent.fault == "The mail server did not take it for all. nobody@example.com: 550 no such user"
    assert sending.send_test(sent.route) == sent.fault
    assert sending.send_due(now=timezone.now() + timedelta(hours=1)) == 0
    assert [b"Fired" in mail for mail in mail_server] == [True, False]


def test_what_a_mail_server_answers_is_told_in_its_words(mail_server):
    sent = message("email", "nobody@example.com")
    assert sending.send_due() == 0
    sent.refresh_from_db()
    assert (sent.state, mail_server) == ("pending", [])
    assert sent.fault == "The mail server did not take it: nobody@example.com: 550 no such user"


def test_an_email_is_plain_text_with_what_to_do():
    assert wording.text([LINE, {"more": 2}]).splitlines() == [
        "Fired: A client is silent, ulb, <!channel> & co [warning]",
        "  at 2026-03-02 12:00 UTC: 31 expected transactions",
        "  https://fraud.example.com/admin/monitoring/alert/1/change/",
        "  what to do: https://fraud.example.com/admin/runbooks/#client_silence",
        "",
        "And 2 more: see the alerts in the admin.",
    ]
    assert msgspec.json.decode(wording.webhook([LINE, {"more": 2}], NOW.isoformat()))["data"]["left_out"] == 2
