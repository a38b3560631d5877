"""The time line of an entity: amounts on a logarithmic scale, coloured by decision, frauds with a ring."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from uuid import UUID

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring.pages.display import amount_of
from scoring.reviews.case.past import Past
from training.core.figures import at

# The drawing's edges, in per cent of its size. Positions are in per cent, so that texts keep their size at any width.
LEFT, RIGHT, TOP, BOTTOM = 11.0, 97.0, 8.0, 82.0
SMALLEST = 0.01  # an amount of 0 is drawn here
WORDS = {True: "fraud", False: "legitimate", None: "no label"}


def draw(schema: str, rows: Sequence[Past], this: UUID | None = None) -> SafeString:
    """The drawing of these transactions, the oldest first; `this` one is marked. Each leads to its page."""
    if not rows:
        return SafeString("")
    first, last = rows[0].event_time.timestamp(), rows[-1].event_time.timestamp()
    exponents = [log10(max(row.amount, SMALLEST)) for row in rows]
    low, high = floor(min(exponents)), max(ceil(max(exponents)), floor(min(exponents)) + 1)

    def x_of(moment: float) -> float:
        return LEFT + (RIGHT - LEFT) * ((moment - first) / (last - first) if last > first else 0.5)

    def y_of(exponent: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (exponent - low) / (high - low)

    places = [
        (f"{x_of(row.event_time.timestamp()):.2f}%", f"{y_of(exponent):.2f}%")
        for row, exponent in zip(rows, exponents, strict=True)
    ]
    marks = format_html_join("", "{}", ((_mark(schema, row, x, y, this),) for row, (x, y) in zip(rows, places)))  # noqa: B905
    here = next((x for row, (x, _) in zip(rows, places) if row.pk == this), None)  # noqa: B905
    line = format_html('<line class="here" x1="{0}" x2="{0}" y1="2%" y2="{1}%"/>', here, BOTTOM) if here else ""
    return format_html(
        '<svg class="timeline" role="img" aria-label="{}">{}{}{}{}</svg>',
        _summary(schema, rows),
        _amounts(low, high, y_of),
        _days(rows),
        line,
        marks,
    )


def _summary(schema: str, rows: Sequence[Past]) -> str:
    alerts = sum(row.decision not in ("", "approve") for row in rows)
    frauds = sum(row.verdict is True for row in rows)
    total = amount_of(schema, sum(row.amount for row in rows))
    return f"{len(rows)} transactions, {total} together, {alerts} alerts, {frauds} known frauds"


def _mark(schema: str, row: Past, x: str, y: str, this: UUID | None) -> SafeString:
    told = f"{at(row.event_time)}: {amount_of(schema, row.amount)}, {row.decision or 'no decision'}, "
    told += WORDS[row.verdict]
    ring = format_html('<circle class="ring" cx="{}" cy="{}" r="7"/>', x, y) if row.verdict else ""
    return format_html(
        '<a href="{}" tabindex="-1"><title>{}</title>{}<circle class="{}" cx="{}" cy="{}" r="{}"/></a>',
        reverse("admin:scoring_transaction_change", args=[row.pk]),
        told,
        ring,
        f"{row.decision or 'none'}{' this' if row.pk == this else ''}",
        x,
        y,
        6 if row.pk == this else 4,
    )


def _amounts(low: int, high: int, y_of: Callable[[float], float]) -> SafeString:
    step = max(1, ceil((high - low) / 4))
    return format_html_join(
        "",
        '<line class="grid" x1="{0}%" x2="{1}%" y1="{2}%" y2="{2}%"/>'
        '<text x="{3}%" y="{2}%" dy="4" class="amount">{4}</text>',
        (
            (LEFT, RIGHT, f"{y_of(exponent):.2f}", LEFT - 1.5, f"{10**exponent:,g}")
            for exponent in range(low, high + 1, step)
        ),
    )


def _days(rows: Sequence[Past]) -> SafeString:
    """The days, or times, of the first and the last transaction."""
    first, last = rows[0].event_time, rows[-1].event_time
    shape = "%d %b" if (last - first).days >= 2 else "%d %b %H:%M"
    return format_html(
        '<text x="{}%" y="98%">{}</text><text x="{}%" y="98%" class="end">{}</text>',
        LEFT,
        f"{first:{shape}}",
        RIGHT,
        f"{last:{shape}}" if last > first else "",
    )
