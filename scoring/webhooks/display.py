"""Shows endpoints, deliveries and attempts in the admin."""

import json
from collections.abc import Iterable
from datetime import datetime

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from training.core.figures import at


def state_badge(state: str, word: str, fault: str = "") -> SafeString:
    badge = format_html('<span class="badge hook-{}">{}</span>', state, word)
    return format_html('{} <span class="fault">{}</span>', badge, fault) if fault else badge


def time_or_dash(time: datetime | None) -> str:
    return at(time) if time else "-"


def share(rate: float | None, attempts: int) -> SafeString | str:
    """The share of failures among so many of the latest attempts."""
    if rate is None:
        return "-"
    of = f"Of the latest {attempts} attempts."
    return format_html('<span class="{}" title="{}">{}</span>', "late" if rate >= 0.5 else "", of, f"{rate:.0%}")


def _table(titles: Iterable[str], rows: SafeString) -> SafeString:
    heads = format_html_join("", '<th scope="col">{}</th>', ((title,) for title in titles))
    body = '<div class="wide"><table class="hooks"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    return format_html(body, heads, rows)


def secret_table(endpoint: WebhookEndpoint) -> SafeString | str:
    """When each secret was made and until when it signs; never the secret."""
    now = timezone.now()
    rows = format_html_join(
        "",
        "<tr><td>{}</td><td>{}</td></tr>",
        (
            (at(row.created_at), "signs" if row.expires_at is None else f"signs until {at(row.expires_at)}")
            for row in endpoint.secrets.order_by("-pk")
            if row.expires_at is None or row.expires_at > now
        ),
    )
    return _table(["Made", ""], rows) if rows else "It has none: add one."


def delivery_table(deliveries: Iterable[WebhookDelivery], all_of_them: str) -> SafeString | str:
    rows = format_html_join(
        "",
        '<tr><td>{}</td><td><a href="{}">{}</a></td><td>{}</td><td class="number">{}</td><td>{}</td></tr>',
        (
            (
                at(row.created_at),
                reverse("admin:scoring_webhookdelivery_change", args=[row.pk]),
                row.type,
                state_badge(row.state, row.get_state_display()),
                row.attempts,
                row.fault,
            )
            for row in deliveries
        ),
    )
    if not rows:
        return "There are none yet. Send a test event to see whether it arrives."
    table = _table(["Event", "Type", "State", "Attempts", "Last failure"], rows)
    return format_html('{}<p><a href="{}">All deliveries to it</a></p>', table, all_of_them)


def attempt_table(attempts: Iterable[WebhookAttempt]) -> SafeString | str:
    rows = format_html_join(
        "",
        '<tr><td>{}</td><td>{}</td><td class="number">{}</td><td>{}</td><td>{}</td></tr>',
        (
            (
                at(row.at),
                state_badge("delivered" if row.is_success else "dead", str(row.status or "none")),
                f"{row.latency_ms:,.0f}",
                row.fault or "-",
                format_html("<pre>{}</pre>", row.answer) if row.answer else "-",
            )
            for row in attempts
        ),
    )
    return _table(["Time", "Status", "ms", "Failure", "Answer"], rows) if rows else "There was none yet."


def payload_of(delivery: WebhookDelivery) -> SafeString:
    """The body, set out to be read; its bytes have no spaces."""
    return format_html('<pre class="payload">{}</pre>', json.dumps(json.loads(delivery.payload), indent=2))
