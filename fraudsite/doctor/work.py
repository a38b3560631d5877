"""Work that waits, and the processes that do it."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import redis
from django.conf import settings
from django.db.models import Count, Min, Q
from django.utils import timezone

from fraudsite.doctor.findings import Finding, error, ok, warning
from scoring.models import Pending, WaitingLabel, WebhookDelivery
from scoring.webhooks import figures
from scoring.worker import workers
from training import registry

COUNTED = 100_000
# A message that has waited so long waits for a worker that is not there.
LATE = timedelta(minutes=10)
BEAT_SILENCE_S = 360
QUEUE_LENGTH = 1_000


def processes() -> Iterator[Finding]:
    try:
        known, waiting = workers.known(), workers.waiting()
    except redis.RedisError:
        return  # which `services.broker` tells
    live = registry.live_schemas()
    for name in sorted(live):
        scoring = [status for status in known if name in status.versions]
        if any(status.scores_at_once for status in scoring):
            yield ok("workers", f"{len(scoring)} processes score {name}.")
        else:
            words = f"No realtime worker scores {name}: calls are answered without a score or refused."
            yield error("workers", words, "Start workers, and read the log of those that run.")
        versions = {status.versions[name] for status in scoring}
        if len(versions) > 1:
            words = f"Workers score {name} by different models: {', '.join(sorted(versions))}."
            yield warning("workers", words, "Look again in a minute; then restart those that did not follow.")
    for status in known:
        if abs(status.ahead_s) > settings.DOCTOR_CLOCK_SKEW_S:
            where = "ahead of" if status.ahead_s > 0 else "behind"
            words = f"The clock of the worker {status.worker} is {abs(status.ahead_s):,.1f} s {where} that of Redis."
            yield error("clock", words, "Have NTP set it. Deadlines and leases go by the clock of Redis.")
        for name, refusal in status.refused.items():
            words = f"{status.worker} refuses {refusal.version} of {name}: {refusal.fault}"
            yield error("workers", words, "Restore the bundle, or promote another model.")
    for queue, count in waiting.items():
        words = f"{count:,} messages wait in the queue {queue}."
        if count > QUEUE_LENGTH:
            yield warning("queues", words, "Start more workers of this queue, or find what holds them up.")
        else:
            yield ok("queues", words)


def beat() -> Iterator[Finding]:
    alive = Path(settings.VAR_DIR, "beat-alive")
    if not alive.exists():
        yield warning("beat", "It has not run on this machine.", "See that it runs on exactly one.")
        return
    silent_s = time.time() - alive.stat().st_mtime
    words = f"It looked at its clock {silent_s:,.0f} s ago."
    if silent_s > BEAT_SILENCE_S:
        yield error("beat", words, "Start it: without it nothing is sent again, counted or retrained.")
    else:
        yield ok("beat", words)


def transactions() -> Iterator[Finding]:
    fails = Q(attempts__gte=settings.PENDING_ATTEMPTS_LIMIT)
    rows = Pending.objects.all()[:COUNTED]
    waiting = rows.aggregate(all=Count("pk"), set_aside=Count("pk", filter=fails), due=Min("due_at", filter=~fails))
    if waiting["set_aside"]:
        words = f"{waiting['set_aside']:,} stored transactions are set aside after too many attempts."
        yield error("pending", words, "Read their faults in the admin, then run `manage.py retry_pending`.")
    late = waiting["due"] and waiting["due"] < timezone.now() - LATE
    words = f"{waiting['all'] - waiting['set_aside']:,} stored transactions wait for their score."
    if late:
        yield error("pending", words, "See that beat and bulk workers run.")
    else:
        yield ok("pending", words)
    labels = WaitingLabel.objects.all()[:COUNTED].count()
    yield ok("labels", f"{labels:,} labels wait for their transaction.")


def webhooks() -> Iterator[Finding]:
    dead, oldest_s = figures.deliveries(WebhookDelivery.State.DEAD), figures.oldest_pending_s()
    if dead:
        yield warning("webhooks", f"{dead:,} deliveries were given up.", "Send them again: Webhooks in the admin.")
    if oldest_s > LATE.total_seconds():
        words = f"A webhook has waited for {oldest_s / 60:,.0f} minutes."
        yield warning("webhooks", words, "See that `manage.py deliver_webhooks` runs, and that its receiver answers.")
    elif not dead:
        yield ok("webhooks", "None waits for long, none was given up.")
