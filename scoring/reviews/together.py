"""All open alerts of a card, or of whatever else they have in common, decided at once."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from scoring import linked
from scoring.lists.changes import Listing, ListRefused
from scoring.lists.keys import SHOWN_DIGITS, declared
from scoring.lists.listable import listing_of, may_add_entries, offer
from scoring.lists.models import NOTE_LIMIT
from scoring.models import Review, Transaction
from scoring.pages.display import amount_of
from scoring.pages.personal import may_see_personal
from scoring.reviews.case.past import is_personal
from scoring.reviews.label_admin import may_decide
from scoring.reviews.list_admin import FILTERS, ReviewListAdmin, reason_form
from training.core.figures import at

# How many of the alerts the page shows, the riskiest first.
SHOWN = 50


def sharing(reviews: QuerySet[Review], row: Transaction, name: str, key: str) -> QuerySet[Review]:
    """Those of these reviews whose transactions have this entity or value in common with `row`, the riskiest first."""
    same = reviews.select_related(*ReviewListAdmin.list_select_related)
    same = same.filter(schema=row.schema).order_by("-fraud_score", "pk")
    if name == declared(row.schema).card:
        return same.filter(card=key)  # which joins no other table
    return same.filter(links__name=name, links__key=key)


def in_common(row: Transaction, *, personal: bool) -> dict[str, str]:
    """What a transaction may have in common with others, by name with its key, the card first: its entities, and values
    that tell a device or a person. Personal ones only if `personal`."""
    schema = declared(row.schema)
    keys = linked.keys_of(schema, row.client_id, row.fields, row.tokens)
    names = [name for name in keys if personal or not is_personal(schema, name)]
    return {name: keys[name] for name in sorted(names, key=lambda name: name != schema.card)}


class TogetherAdmin(ReviewListAdmin):
    """Decisions on reviews: with an entry of a list, and on all alerts of an entity."""

    def get_urls(self) -> list[URLPattern]:
        together = path(
            "<uuid:pk>/together/", self.admin_site.admin_view(self.together_view), name="scoring_review_together"
        )
        return [together, *super().get_urls()]

    def listing(self, request: HttpRequest, row: Transaction) -> Listing | None:
        """The entry of a list that was chosen to be added with the decision. Raises: as `listing_of`."""
        if not (chosen := request.POST.get("also")):
            return None
        if not may_add_entries(request):
            raise PermissionDenied
        note = request.POST.get("note", "").strip() or request.POST.get("code") or request.POST["decide"]
        return listing_of(row, chosen, request.POST.get("days", ""), note[:NOTE_LIMIT], by=request.user)

    def decide(self, request: HttpRequest, reviews: list[Review], row: Transaction) -> bool:
        """Close reviews by the decision that was sent, with the list that was chosen for `row`. Returns False, and
        tells why, if it was refused."""
        try:
            listing = self.listing(request, row)
        except ListRefused as refusal:
            messages.error(request, str(refusal))
            return False
        return self.close(request, reviews, is_fraud=request.POST["decide"] == "fraud", listing=listing)

    def together_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """A page that shows all open alerts of an entity of a review, and decides on those that it showed."""
        if not may_decide(request):
            raise PermissionDenied
        review = self.get_object(request, str(pk))
        if review is None:
            raise Http404
        row, filters = self.transaction_of(review), request.GET.get(FILTERS, "")
        keys = in_common(row, personal=may_see_personal(request))
        if not keys:
            messages.warning(request, "The transaction has no card, or other entity, in common with others.")
            return HttpResponseRedirect(reverse("admin:scoring_review_change", args=[pk]))
        asked = request.GET.get("entity", "")
        entity = asked if asked in keys else next(iter(keys))
        alerts = sharing(self.get_queryset(request), row, entity, keys[entity])
        if request.POST.get("decide") in ("fraud", "legitimate"):
            chosen = list(alerts.filter(pk__in=_keys(request)))
            if not chosen:
                messages.error(request, "Nothing was changed: no alert was chosen.")
            elif self.decide(request, chosen, row):
                return self.go_on(request, filters, [review.pk])
        context = self.admin_site.each_context(request) | {
            **_summary(alerts.filter(state=Review.State.OPEN), row.schema),
            "rows": [self._row(each) for each in alerts.filter(state=Review.State.OPEN)[:SHOWN]],
            **reason_form(request),
            "title": f"All open alerts of this {entity}",
            "opts": self.opts,
            "media": self.media,
            "original": review,
            "entity": entity,
            "shown": row.fields.get(entity) or f"{keys[entity][:SHOWN_DIGITS]}…",
            "entities": list(keys),
            "filters": filters,
            "listable": offer(row, viewer=request.user) if may_add_entries(request) else None,
        }
        return TemplateResponse(request, "admin/scoring/review/together.html", context)

    def _row(self, review: Review) -> dict[str, Any]:
        """What the page shows of an alert."""
        return {
            "review": review,
            "score": self.score(review),
            "amount": self.money(review),
            "at": at(self.transaction_of(review).event_time),
            "decision": self.badge(review),
            "client": review.client,
            "reasons": self.reasons_shown(review),
        }


def _keys(request: HttpRequest) -> list[UUID]:
    """The keys of the alerts that the page showed."""
    found = []
    for sent in request.POST.getlist("alert")[: settings.MASS_ACTION_LIMIT]:
        with suppress(ValueError):
            found.append(UUID(sent))
    return found


def _summary(alerts: QuerySet[Review], schema: str) -> dict[str, Any]:
    keys = list(alerts.values_list("pk", flat=True)[: settings.MASS_ACTION_LIMIT])
    asked = Review.objects.filter(pk__in=keys)
    totals = asked.aggregate(count=Count("pk"), amount=Sum("prediction__transaction__amount"))
    more = alerts.count() - len(keys) if len(keys) == settings.MASS_ACTION_LIMIT else 0
    return {
        "keys": keys,
        "more": more,
        "total": amount_of(schema, totals["amount"] or 0.0),
        "unseen": max(0, len(keys) - SHOWN),
    }
