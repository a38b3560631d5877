"""Sends messages to routes: by e-mail, as a signed webhook, or to a chat.

A message is claimed by moving its `due_at`, so that two senders do not both send it; what a killed one had claimed is
due again after `LEASE`. All that is due is sent at the same time, each with a time limit, so that a receiver that is
slow or away holds up nobody else. Webhooks go through `scoring.webhooks`: the same checks of the target, the same
signature, the same retries.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timedelta
from functools import partial
from smtplib import SMTPException
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db.models import Q
from django.utils import timezone
from standardwebhooks import Webhook

from monitoring.alerts import clock, mailing, wording
from monitoring.alerts.models import AlertMessage, AlertRoute
from monitoring.alerts.wording import Lines
from scoring.webhooks import outbox, sealing, targets
from scoring.webhooks import sending as webhooks
from scoring.webhooks.models import WebhookDelivery

logger = logging.getLogger(__name__)

State = AlertMessage.State
LEASE = timedelta(minutes=3)
LONGEST_WAIT_S = 900.0
AT_ONCE = 16
FAULT_LENGTH = 300
SMTP, OURS = "django.core.mail.backends.smtp.EmailBackend", "monitoring.alerts.mailing.EmailBackend"


class Outcome(NamedTuple):
    """What went wrong, if anything, and whether the message arrived; an e-mail may have arrived at some addresses."""

    fault: str
    arrived: bool


def send_due(*, now: datetime | None = None) -> int:
    """Send what is due, and store what came of it. Returns how many messages arrived."""
    _give_up_what_is_off(now or clock.now())
    claimed = _claim(now or clock.now())
    if not claimed:
        return 0
    arrived = 0
    pool = ThreadPoolExecutor(AT_ONCE, "alerts")
    under_way = {
        pool.submit(deliver, message.route, message.lines, message.pk, message.created_at): message
        for message in claimed
    }
    try:
        for done in as_completed(under_way, timeout=_longest_s()):
            arrived += _settle(under_way[done], done.result(), now or clock.now())
    except TimeoutError:
        logger.warning("Some alerts are still being sent; they are sent again if that fails.")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return arrived


def _longest_s() -> float:
    return float(max(settings.WEBHOOK_TIMEOUT_S, 3 * settings.EMAIL_TIMEOUT)) + 5.0


def _give_up_what_is_off(now: datetime) -> None:
    """What waits for a route that was turned off, perhaps as its address is wrong, would be tried for long."""
    waiting = AlertMessage.objects.filter(state=State.PENDING, route__is_on=False)
    waiting.update(state=State.DEAD, finished_at=now, fault="The route was turned off.")


def _claim(now: datetime) -> list[AlertMessage]:
    # Nothing waits for an hour, so a later `due_at` is of a clock that was set back since.
    due = Q(due_at__lte=now) | Q(due_at__gt=now + timedelta(hours=1))
    waiting = AlertMessage.objects.filter(due, state=State.PENDING).select_related("route").order_by("due_at")
    claimed = []
    for message in waiting[:AT_ONCE]:
        lease = now + LEASE
        mine = AlertMessage.objects.filter(pk=message.pk, state=State.PENDING, due_at=message.due_at)
        if mine.update(due_at=lease):
            message.due_at = lease
            claimed.append(message)
    return claimed


def _settle(message: AlertMessage, outcome: Outcome, now: datetime) -> bool:
    fault, arrived = outcome
    mine = AlertMessage.objects.filter(pk=message.pk, state=State.PENDING, due_at=message.due_at)
    changes: dict[str, object] = {"attempts": message.attempts + 1, "fault": fault[:FAULT_LENGTH]}
    if arrived:
        changes |= {"state": State.SENT, "finished_at": now}
    elif now >= message.created_at + timedelta(hours=settings.ALERT_RETRY_H):
        changes |= {"state": State.DEAD, "finished_at": now}
    else:
        wait_s = min(LONGEST_WAIT_S, outbox.wait_s(message.attempts))
        changes |= {"due_at": now + timedelta(seconds=wait_s)}
    if fault:
        logger.warning("Alerts were not told to %s: %s", message.route, fault)
    return bool(mine.update(**changes)) and arrived


def deliver(route: AlertRoute, lines: Lines, key: UUID, at: datetime) -> Outcome:
    """Send one message."""
    if route.kind == AlertRoute.Kind.EMAIL:
        return _mail(route, lines, key)
    payload = wording.chat(lines) if route.kind == AlertRoute.Kind.CHAT else wording.webhook(lines, at.isoformat())
    try:
        secrets = [Webhook(sealing.unseal(route.secret))] if route.secret else []
    except sealing.SecretUnreadable as unreadable:
        return Outcome(str(unreadable), arrived=False)
    fault = asyncio.run(_post(WebhookDelivery(event_id=key, payload=payload), route.address, secrets))
    return Outcome(fault, arrived=not fault)


async def _post(delivery: WebhookDelivery, url: str, secrets: Sequence[Webhook]) -> str:
    through = webhooks.connection(targets.PublicNetwork())
    try:
        outcome = await webhooks.send(delivery, url, list(secrets), through)
    finally:
        await through.aclose()
    if outcome.is_success:
        return ""
    return outcome.fault or f"The receiver answered {outcome.status}: {outcome.answer[:100]}"


def _mail(route: AlertRoute, lines: Lines, key: UUID) -> Outcome:
    if settings.EMAIL_BACKEND == SMTP and not settings.EMAIL_HOST:
        return Outcome("EMAIL_HOST is not set, so no e-mail can be sent.", arrived=False)
    mail = EmailMessage(
        subject=wording.subject(lines),
        body=wording.text(lines),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=addresses_of(route.address),
        # The same in each attempt, so that mail programs show one that was sent twice once.
        headers={"Message-ID": f"<{key}@fraudsite>", "Auto-Submitted": "auto-generated"},
        connection=get_connection(OURS if settings.EMAIL_BACKEND == SMTP else None, timeout=settings.EMAIL_TIMEOUT),
    )
    try:
        arrived = bool(mail.send())
        return Outcome("" if arrived else "No e-mail was sent: the route has no address.", arrived)
    except mailing.PartlyRefused as error:  # not tried again, as the others would be told twice
        return Outcome(f"The mail server did not take it for all. {mailing.words(error)}", arrived=True)
    except (SMTPException, OSError, ValueError) as error:
        return Outcome(f"The mail server did not take it: {mailing.words(error)}", arrived=False)


def addresses_of(text: str) -> list[str]:
    return [address.strip() for address in text.split(",") if address.strip()]


def send_test(route: AlertRoute) -> str:
    """Send a test to a route, at once. Returns what went wrong, and nothing if it arrived everywhere."""
    at = timezone.now()
    test = partial(
        deliver, route, [wording.TEST_LINE | {"at": at.isoformat()}], UUID(int=int(at.timestamp() * 1e6)), at
    )
    with ThreadPoolExecutor(1) as pool:  # an event loop of its own, whatever thread asks
        return pool.submit(test).result().fault
