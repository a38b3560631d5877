"""The page of what-if: sliders over thresholds and costs, and a draft of what was chosen."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from msgspec import Struct

from scoring import served
from scoring.policies import capacity, score_counts, versions, what_if
from scoring.policies.document import Document, PolicyInvalid
from scoring.policies.score_counts import Progress, hour_of
from scoring.policies.what_if import FEWEST_FRAUDS, Counted
from training import registry
from training.core import figures
from training.core.exceptions import BundleRefused, FraudsiteError
from training.models import ModelVersion

PERIODS = (1, 7, 30, 90, 365)
LEFT_OUT = (0, 7, 30, 60, 90)
DEFAULT_PERIOD = 30
LIVE, TEST = "live", "test"


class Wish(Struct, forbid_unknown_fields=True):
    """What the page sends: thresholds that move, by segment, and reviews a day."""

    moves: dict[str, dict[str, float | None]]
    capacity: float | None = None


def respond(request: HttpRequest, site: AdminSite, schema: str, context: dict[str, Any]) -> HttpResponse:
    """The page of a schema; a draft, if one is asked for."""
    if schema not in served.now().schemas:
        raise Http404
    if request.method == "POST":
        return _draft(request, schema)
    champion, version = registry.champion_or_none(schema), versions.live(schema)
    try:
        content = versions.content(version)
    except PolicyInvalid as error:
        messages.error(request, str(error))
        content = Document()
    context = site.each_context(request) | context | {
        "title": f"What if: {schema}",
        "schema": schema,
        "version": version,
        "champion": champion,
        "may_edit": request.user.has_perm("scoring.add_policyversion"),
    }  # fmt: skip
    if champion:
        context |= _counted(request, champion, content)
    return TemplateResponse(request, "admin/scoring/policyversion/what_if.html", context)


def _draft(request: HttpRequest, schema: str) -> HttpResponse:
    if not request.user.has_perm("scoring.add_policyversion"):
        raise PermissionDenied
    try:
        wish = msgspec.json.decode(request.POST.get("wish", ""), type=Wish)
        content = what_if.changed(versions.content(versions.live(schema)), wish.moves, wish.capacity)
        reason = request.POST.get("reason", "").strip()[:1000]
        version = versions.draft(schema=schema, by=request.user.get_username(), reason=reason, content=content)
    except (FraudsiteError, msgspec.DecodeError) as error:
        messages.error(request, f"No draft was made: {error}")
        return HttpResponseRedirect(request.get_full_path())
    messages.success(
        request, f"{version} is a draft with these thresholds. Below is what differs from the live policy."
    )
    return HttpResponseRedirect(reverse("admin:scoring_policyversion_change", args=[version.pk]))


def _counted(request: HttpRequest, champion: ModelVersion, content: Document) -> dict[str, Any]:
    days, left_out = _choice(request, "days", PERIODS, DEFAULT_PERIOD), _choice(request, "left_out", LEFT_OUT, 0)
    now = timezone.now()
    until = hour_of(now - timedelta(days=left_out)) if left_out else now
    since = hour_of(until - timedelta(days=days))
    counting = score_counts.progress(now=now)
    # Without counts, nothing of the period is told: neither its frauds nor its days.
    live = what_if.of_live(champion, content, max(since, counting.since or until), min(until, counting.until or until))
    refusal = ""
    try:
        test = what_if.of_test_rows(champion, content)
        review_cost = registry.load(champion).description.policy.review_cost
    except BundleRefused as error:
        test, review_cost, refusal = None, 0.0, str(error)
    wanted = request.GET.get("source", "")
    use_test = test is not None and (wanted == TEST or (wanted != LIVE and live.frauds < FEWEST_FRAUDS))
    counted = test if use_test and test else live
    schema = registry.declaration_in_force(champion.schema)
    load = capacity.load(champion.schema, content.capacity)
    return {
        "days": days,
        "periods": PERIODS,
        "left_out": left_out,
        "left_outs": LEFT_OUT,
        "source": TEST if use_test else LIVE,
        "asked": wanted == TEST,
        "has_test": test is not None,
        "refusal": refusal,
        "uncounted": _uncounted(counting, since, until),
        "live_frauds": live.frauds,
        "fewest": FEWEST_FRAUDS,
        "counted": counted,
        "rows": f"{counted.rows:,}",
        "frauds": f"{counted.frauds:,}",
        "since": _at(counted.since),
        "until": _at(counted.until),
        "load": load,
        "data": _data(counted, content, load)
        | {"unit": schema.currency, "decimals": schema.amount_decimals, "reviewCost": review_cost},
    }


def _uncounted(counting: Progress, since: datetime, until: datetime) -> str:
    """What of a period is still to be counted, in words; empty if nothing is."""
    if counting.is_whole:
        return ""
    if counting.since is None or counting.until is None:
        return "No scores have been counted yet."
    if counting.since <= since and until <= counting.until:
        return ""
    share = max(timedelta(), min(until, counting.until) - max(since, counting.since)) / (until - since)
    return f"{share:.0%} of the period is counted: {_at(counting.since)} to {_at(min(until, counting.until))}."


def _data(counted: Counted, content: Document, load: capacity.Load) -> dict[str, Any]:
    """What the page's script counts with."""
    return {
        "parts": msgspec.to_builtins(counted.parts),
        "edges": counted.edges,
        "days": counted.days,
        "hasAmounts": counted.has_amounts,
        # Where the policy says nothing, the review threshold pushes the model's block threshold; else it is held by it.
        "blockIsModels": content.block is None,
        "capacity": load.capacity,
        "waiting": load.waiting,
    }


def _choice(request: HttpRequest, name: str, choices: tuple[int, ...], default: int) -> int:
    sent = request.GET.get(name, "")
    return int(sent) if sent in map(str, choices) else default


def _at(moment: datetime | None) -> str:
    return figures.at(moment) if moment else ""
