"""How endpoints and deliveries are doing: for pages and metrics, at a cost that does not grow with the tables."""

from collections.abc import Sequence
from typing import NamedTuple

from django.db.models import Min
from prometheus_client import Histogram

from scoring.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from training import clock

State = WebhookDelivery.State
RECENT_ATTEMPTS = 200
TIMED_ATTEMPTS = 1_000
COUNTED = 100_000
QUANTILES = (0.5, 0.95, 0.99)

ATTEMPTS = Histogram(
    "fraudsite_webhook_attempts_seconds",
    "Attempts of a deliverer to deliver a webhook, by what came of them.",
    ["outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)


class Standing(NamedTuple):
    """Of an endpoint: deliveries in a state, up to `COUNTED`, and the share of failures of its latest attempts."""

    pending: int
    dead: int
    failure_rate: float | None


def standing(endpoint: WebhookEndpoint) -> Standing:
    recent = WebhookAttempt.objects.filter(endpoint=endpoint).order_by("-pk")[:RECENT_ATTEMPTS]
    successes = list(recent.values_list("is_success", flat=True))
    rate = successes.count(False) / len(successes) if successes else None
    of = WebhookDelivery.objects.filter(endpoint=endpoint)
    return Standing(
        of.filter(state=State.PENDING)[:COUNTED].count(), of.filter(state=State.DEAD)[:COUNTED].count(), rate
    )


def deliveries(state: str) -> int:
    """Deliveries in a state to endpoints that are not removed, up to `COUNTED`."""
    kept = WebhookEndpoint.objects.exclude(state=WebhookEndpoint.State.REMOVED).values("pk")
    return WebhookDelivery.objects.filter(endpoint__in=kept, state=state)[:COUNTED].count()


def oldest_pending_s() -> float:
    """For how long the pending delivery that waits longest has waited; 0 if none does. Those of endpoints that are
    paused or disabled do not count."""
    active = WebhookEndpoint.objects.filter(state=WebhookEndpoint.State.ACTIVE).values("pk")
    pending = WebhookDelivery.objects.filter(endpoint__in=active, state=State.PENDING)[:COUNTED]
    since = pending.aggregate(since=Min("since"))["since"]
    return max(0.0, (clock.now() - since).total_seconds()) if since else 0.0


def attempt_seconds() -> Sequence[tuple[float, float]]:
    """Quantiles of how long the latest attempts took; nothing if there were none."""
    latest = WebhookAttempt.objects.order_by("-pk").values_list("latency_ms", flat=True)[:TIMED_ATTEMPTS]
    took = sorted(latest)
    return [(each, took[min(len(took) - 1, int(each * len(took)))] / 1000) for each in QUANTILES] if took else []
