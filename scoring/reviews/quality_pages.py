"""The page that shows supervisors the agreement of analysts, and how long their decisions take."""

from collections import defaultdict
from datetime import timedelta
from math import log10
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from scoring.models import Review, SecondOpinion
from scoring.reviews.agreement import Kappa, Pace, kappa_of, pace_of
from scoring.reviews.list_admin import ReviewListAdmin
from scoring.tenancy import restriction

DAYS = (7, 30, 90)
# The latest decisions whose times are read, so that the page stays quick.
DECISIONS_LIMIT = 100_000
# The ends of the axis of times, in seconds, and its marks.
SHORTEST, LONGEST = 1.0, 3_600.0
MARKS = ((1.0, "1 s"), (10.0, "10 s"), (60.0, "1 min"), (600.0, "10 min"), (3_600.0, "1 h"))


class QualityAdmin(ReviewListAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.quality_view)
        return [path("quality/", view, name="scoring_review_quality"), *super().get_urls()]

    def quality_view(self, request: HttpRequest) -> HttpResponse:
        if not request.user.has_perm("scoring.view_quality"):
            raise PermissionDenied
        asked = request.GET.get("days", "")
        days = int(asked) if asked in map(str, DAYS) else DAYS[1]
        since = timezone.now() - timedelta(days=days)
        context = self.admin_site.each_context(request) | {
            "title": "Quality of decisions",
            "opts": self.opts,
            "media": self.media,
            "days": days,
            "choices": DAYS,
            "kappa_marks": [(_on_kappa(mark), f"{mark:g}") for mark in (-1.0, -0.5, 0.0, 0.5, 1.0)],
            "pace_marks": [(_on_time(mark), text) for mark, text in MARKS],
            "counts": _counts(since, request.user),
            "kappas": [_kappa_row(name, kappa) for name, kappa in _kappas(since, request.user)],
            "paces": [_pace_row(name, pace) for name, pace in _paces(since, request.user)],
        }
        return TemplateResponse(request, "admin/scoring/review/quality.html", context)


def _counts(since: Any, user: Any) -> dict[str, int]:
    """How many second opinions were given, and how many of them agree, disagree and are settled."""
    seen = restriction.visible(SecondOpinion.objects.all(), user)
    given = list(seen.filter(given_at__gte=since).values_list("state", flat=True))
    return {label: given.count(state) for state, label in SecondOpinion.State.choices if state != "waiting"} | {
        "Waiting": seen.filter(state=SecondOpinion.State.WAITING).count()
    }


def _kappas(since: Any, user: Any) -> list[tuple[str, Kappa]]:
    """The agreement of all, and of each analyst with the others, by name."""
    pairs: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    given = restriction.visible(SecondOpinion.objects.filter(given_at__gte=since), user).values_list(
        "first__username", "second__username", "first_is_fraud", "is_fraud"
    )
    for first, second, first_says, second_says in given:
        for name in ("", first, second):
            pairs[name].append((first_says, bool(second_says)))
    found = [(name or "All", kappa_of(pairs[name])) for name in sorted(pairs)]
    return [(name, kappa) for name, kappa in found if kappa]


def _paces(since: Any, user: Any) -> list[tuple[str, Pace]]:
    """The pace of all, and of each analyst, by name."""
    closed = Review.objects.filter(closed_at__gte=since, decided_in_s__isnull=False, reviewer__isnull=False)
    timed = restriction.visible(closed, user)
    seconds: dict[str, list[float]] = defaultdict(list)
    for name, took in timed.order_by("-closed_at").values_list("reviewer__username", "decided_in_s")[:DECISIONS_LIMIT]:
        for each in ("", name):
            seconds[each].append(took or 0.0)
    return [(name or "All", pace_of(seconds[name])) for name in sorted(seconds)]


def _on_kappa(value: float) -> float:
    """The place of a kappa on an axis from 0 to 100."""
    return round((value + 1) * 50, 2)


def _on_time(seconds: float) -> float:
    """The place of a time on a logarithmic axis from 0 to 100."""
    within = min(max(seconds, SHORTEST), LONGEST)
    return round(100 * log10(within / SHORTEST) / log10(LONGEST / SHORTEST), 2)


def _kappa_row(name: str, kappa: Kappa) -> dict[str, Any]:
    low, high = _on_kappa(kappa.low), _on_kappa(kappa.high)
    value = "not defined: all judgements are the same" if kappa.value is None else f"{kappa.value:.2f}"
    return {
        "name": name,
        "kappa": kappa,
        "told": value,
        "interval": f"{kappa.low:.2f} to {kappa.high:.2f}",
        "low": low,
        "width": round(high - low, 2),
        "at": None if kappa.value is None else _on_kappa(kappa.value),
    }


def _pace_row(name: str, pace: Pace) -> dict[str, Any]:
    tenth, quarter, median, three_quarters, nine_tenths = (_on_time(seconds) for seconds in pace[1:])
    return {
        "name": name,
        "cases": pace.cases,
        "median": _told(pace.median),
        "nine_tenths": _told(pace.nine_tenths),
        "line": (tenth, nine_tenths),
        "box": (quarter, round(three_quarters - quarter, 2)),
        "at": median,
    }


def _told(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
