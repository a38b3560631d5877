"""The outbox: claiming deliveries, storing what came of them, replays, and what is deleted in the end.

Any number of deliverers may run. A claim moves `due_at` beyond the time that an attempt can take, so the deliveries of
a killed deliverer are due again by themselves; one that it had sent is sent twice then, with the same `webhook-id`.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from scoring.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from scoring.webhooks.sending import GONE, Outcome
from training import clock

State = WebhookDelivery.State
# What an attempt may take beyond its time limit: claiming before it, and storing after it.
LEASE_SLACK_S = 30.0
GROWTH = 3.0
STEP = 1_000


def waiting(now: datetime) -> list[int]:
    """The endpoints to which something is due now."""
    due = WebhookDelivery.objects.filter(endpoint=OuterRef("pk"), state=State.PENDING, due_at__lte=now)
    found = _open(WebhookEndpoint.objects.all(), now).filter(Exists(due))
    return list(found.values_list("pk", flat=True))


def _open(endpoints: QuerySet[WebhookEndpoint], now: datetime) -> QuerySet[WebhookEndpoint]:
    may = Q(wait_until=None) | Q(wait_until__lte=now)
    return endpoints.filter(may, state=WebhookEndpoint.State.ACTIVE)


@transaction.atomic
def turn(endpoint: int, outcomes: Sequence[Outcome], room: int) -> list[WebhookDelivery]:
    """Store what came of attempts, and claim up to `room` further deliveries, in one transaction."""
    if outcomes:
        _settle(endpoint, outcomes)
    return _claim(endpoint, room) if room else []


def _claim(endpoint: int, room: int) -> list[WebhookDelivery]:
    now = clock.now()
    if not _open(WebhookEndpoint.objects.filter(pk=endpoint), now).exists():
        return []
    pending = WebhookDelivery.objects.filter(endpoint=endpoint, state=State.PENDING)
    # Keys grow in the order of commits about one object, as its changes wait for each other. The database looks for the
    # first one of each row's object: written as "none is earlier", PostgreSQL joins all pending rows with all of them
    # when its statistics are of a time when few were pending.
    first = pending.filter(object=OuterRef("object")).order_by("pk").values("pk")[:1]
    due = pending.filter(pk=Subquery(first), due_at__lte=now).order_by("due_at", "pk")
    claimed = list(due.select_for_update(skip_locked=True, of=("self",))[:room])
    lease = now + timedelta(seconds=settings.WEBHOOK_TIMEOUT_S + LEASE_SLACK_S)
    for delivery in claimed:
        delivery.due_at = lease
    WebhookDelivery.objects.filter(pk__in=[delivery.pk for delivery in claimed]).update(due_at=lease)
    return claimed


def _settle(endpoint: int, outcomes: Sequence[Outcome]) -> None:
    now = clock.now()
    arrived = [outcome.delivery.pk for outcome in outcomes if outcome.is_success]
    delivered = {"state": State.DELIVERED, "finished_at": now, "fault": "", "attempts": F("attempts") + 1}
    WebhookDelivery.objects.filter(pk__in=arrived, state=State.PENDING).update(**delivered)
    failed = [outcome for outcome in outcomes if not outcome.is_success]
    for outcome in failed:
        # If its claim has run out meanwhile, another deliverer has it, and tells of its own attempt.
        claim = WebhookDelivery.objects.filter(
            pk=outcome.delivery.pk, state=State.PENDING, due_at=outcome.delivery.due_at
        )
        claim.update(**_after_failure(outcome, now))
    WebhookAttempt.objects.bulk_create(
        WebhookAttempt(
            delivery=outcome.delivery,
            endpoint_id=endpoint,
            at=outcome.at,
            is_success=outcome.is_success,
            status=outcome.status,
            latency_ms=outcome.latency_ms,
            fault=outcome.fault,
            answer=outcome.answer,
        )
        for outcome in outcomes
    )
    _tell_endpoint(endpoint, bool(arrived), failed, now)


def _after_failure(outcome: Outcome, now: datetime) -> dict[str, object]:
    delivery = outcome.delivery
    fault = outcome.fault or f"The receiver answered {outcome.status}."
    common = {"attempts": F("attempts") + 1, "fault": fault}
    until = delivery.since + timedelta(days=settings.WEBHOOK_RETRY_DAYS)
    if outcome.status == GONE or now >= until:
        return common | {"state": State.DEAD, "finished_at": now}
    due_at = now + timedelta(seconds=max(wait_s(delivery.attempts), outcome.retry_after_s or 0.0))
    return common | {"due_at": min(due_at, max(until, now + timedelta(seconds=settings.WEBHOOK_RETRY_S)))}


def wait_s(failures: int) -> float:
    """How long to wait after so many earlier failures: longer and longer, and not the same for all."""
    longest = settings.WEBHOOK_RETRY_LIMIT_S
    wait = min(longest, settings.WEBHOOK_RETRY_S * GROWTH ** min(failures, 50))
    return wait * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


def _tell_endpoint(endpoint: int, any_success: bool, failed: Sequence[Outcome], now: datetime) -> None:
    row = WebhookEndpoint.objects.filter(pk=endpoint)
    if any_success:
        row.update(last_success_at=now, failures=0)
    if not failed:
        return
    row.update(last_failure_at=now, failures=0 if any_success else F("failures") + len(failed))
    if any(outcome.status == GONE for outcome in failed):
        told = "The receiver answered 410: it wants no more. What is pending waits."
        row.exclude(state=WebhookEndpoint.State.REMOVED).update(state=WebhookEndpoint.State.DISABLED, fault=told)
    waits = [outcome.retry_after_s for outcome in failed if outcome.retry_after_s and outcome.status in (429, 503)]
    if waits:
        longest = min(max(waits), settings.WEBHOOK_RETRY_LIMIT_S)
        row.update(wait_until=now + timedelta(seconds=longest))


def of_endpoint(
    endpoint: WebhookEndpoint, *, since: datetime | None = None, only_dead: bool = True
) -> QuerySet[WebhookDelivery]:
    """The deliveries to an endpoint that a replay takes: the dead ones, or all, of events from a time on."""
    found = WebhookDelivery.objects.filter(endpoint=endpoint)
    if only_dead:
        found = found.filter(state=State.DEAD)
    return found.filter(created_at__gte=since) if since else found


def replay(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Send deliveries again as soon as possible, with the same ids, whatever became of them; those that are pending do
    not wait any longer. Returns how many."""
    now = clock.now()
    return deliveries.update(state=State.PENDING, since=now, due_at=now, finished_at=None, attempts=0, fault="")


def delete_old(*, now: datetime | None = None) -> int:
    """Delete deliveries that were finished long ago, and those to removed endpoints. At most 200,000 at once; the next
    run goes on. Returns how many."""
    now = now or clock.now()
    old = Q(state=State.DELIVERED, finished_at__lt=now - timedelta(days=settings.WEBHOOK_RETENTION_DAYS))
    old |= Q(state=State.DEAD, finished_at__lt=now - timedelta(days=settings.WEBHOOK_DEAD_RETENTION_DAYS))
    removed = WebhookEndpoint.objects.filter(state=WebhookEndpoint.State.REMOVED)
    deleted = 0
    for condition in (old, Q(endpoint__in=list(removed.values_list("pk", flat=True)))):
        for _ in range(100):
            step = _delete_step(condition)
            deleted += step
            if not step:
                break
    return deleted


@transaction.atomic
def _delete_step(condition: Q) -> int:
    # Locked, as a replay that is committed between the choice and the deletion would have its deliveries deleted. Those
    # that a replay is just about are left to the next run.
    old = WebhookDelivery.objects.filter(condition).select_for_update(skip_locked=True)
    keys = list(old.values_list("pk", flat=True)[:STEP])
    WebhookAttempt.objects.filter(delivery__in=keys).delete()
    return WebhookDelivery.objects.filter(pk__in=keys).delete()[0]
