"""The page of a card, a merchant or another entity: what it did, its labels, its alerts, and its lists."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from scoring.lists.keys import SHOWN_DIGITS, declared
from scoring.lists.listable import offer
from scoring.models import Review, ReviewLink, Transaction
from scoring.pages.display import amount_of, decision_badge, fraud_badge, link, state_badge
from scoring.pages.explanation import score
from scoring.pages.personal import may_see_personal
from scoring.reviews import second_opinions
from scoring.reviews.case import timeline
from scoring.reviews.case.panels import SECOND_OPINION, bounded
from scoring.reviews.case.past import Past, has_history, is_personal, transactions_of
from scoring.tenancy import restriction
from training.core.exceptions import SchemaNotFound
from training.core.figures import at

ALERTS_SHOWN = 50


def view(
    site: admin.AdminSite, request: HttpRequest, schema_name: str, name: str, token: str, **page: Any
) -> HttpResponse:
    """The page of an entity of a schema, by its token.

    Raises:
        PermissionDenied: its transactions are not for this user, or it tells something personal that is not.
        Http404: there is no such entity, or nothing is known of it.
    """
    try:
        schema = declared(schema_name)
    except SchemaNotFound as error:
        raise Http404(str(error)) from error
    if name not in schema.entity_names:
        raise Http404(f"The schema {schema_name} has no entity {name!r}.")
    personal = may_see_personal(request)
    viewer: Any = request.user
    if not request.user.has_perm("scoring.view_transaction") or (is_personal(schema, name) and not personal):
        raise PermissionDenied
    until = _until(request)
    with bounded():
        line = transactions_of(schema, name, token, viewer=viewer, until=until)
        past = line.rows
        newest = ReviewLink.objects.filter(key=token).order_by("-review").values_list("review", flat=True)
        seen = restriction.visible(Review.objects.select_related("prediction__transaction", "reviewer"), request.user)
        alerts = seen.in_bulk(list(newest[:ALERTS_SHOWN]))
        if not past and not alerts:
            raise Http404(f"Nothing is known of this {name}.")
        latest = past[-1].pk if past else max(alerts)
        may_list = request.user.has_perm("scoring.add_listentry") and personal
        listable = offer(Transaction.objects.get(pk=latest), viewer=viewer, about=name) if may_list else None
    hidden = second_opinions.hidden_among(viewer, alerts)
    rows = sorted(alerts.values(), key=lambda review: review.opened_at, reverse=True)
    open_first = sorted(rows, key=lambda review: review.state != Review.State.OPEN)
    context = site.each_context(request) | {
        "is_nav_sidebar_enabled": False,
        "title": f"{name} {token[:SHOWN_DIGITS]}…",
        "schema": schema,
        "name": name,
        "known": has_history(schema, name),
        "drawing": timeline.draw(schema_name, past),
        "since": at(line.complete_since) if line.complete_since else "",
        "until": until,
        "earlier": past[0].pk if line.more and past else None,
        "rows": [_told(schema_name, row) for row in reversed(past)],
        "alerts": [_alert(schema_name, review, hidden=review.pk in hidden) for review in open_first],
        "open": sum(review.state == Review.State.OPEN for review in rows),
        "frauds": sum(row.verdict is True for row in past),
        "total": amount_of(schema_name, sum(row.amount for row in past)),
        "listable": listable,
        **page,
    }
    return TemplateResponse(request, "admin/scoring/transaction/entity.html", context)


def _until(request: HttpRequest) -> Transaction | None:
    """The transaction at which a page of earlier ones ends; None for the page of the latest.

    Raises:
        Http404: there is no such transaction.
    """
    if not (asked := request.GET.get("until")):
        return None
    try:
        return restriction.visible(Transaction.objects.all(), request.user).get(pk=UUID(asked))
    except (ValueError, Transaction.DoesNotExist) as error:
        raise Http404("There is no such transaction.") from error


def _told(schema: str, row: Past) -> dict[str, Any]:
    return {
        "link": link(Transaction(pk=row.pk), row.name),
        "at": at(row.event_time),
        "amount": amount_of(schema, row.amount),
        "decision": decision_badge(row.decision) if row.decision else "-",
        "score": "-" if row.score is None else score(row.score),
        "label": fraud_badge(row.verdict),
    }


def _alert(schema: str, review: Review, *, hidden: bool) -> dict[str, Any]:
    return {
        "link": link(review, at(review.opened_at)),
        "amount": amount_of(schema, review.prediction.transaction.amount),
        "score": score(review.fraud_score),
        "state": SECOND_OPINION if hidden else state_badge(review),
        "reviewer": "-" if hidden else review.reviewer or "-",
    }
