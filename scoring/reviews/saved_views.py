"""Views of the review list that people keep: its filters, search and order under a name."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, models, transaction
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils import timezone

from training.core.card_numbers import holds_card_number
from training.core.exceptions import FraudsiteError

NAME_LIMIT, QUERY_LIMIT = 40, 1_000
# Parameters that say how a list is walked through, not what it shows.
PASSING = {"p", "all", "e", "_facets", "_changelist_filters", "since", "queues"}


class ViewRefused(FraudsiteError):
    """A view cannot be kept like this."""


class SavedView(models.Model):
    """A view of the review list. `query` are the parameters of its address. One that is shared is offered to everybody
    who sees the list."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=NAME_LIMIT)
    query = models.CharField(max_length=QUERY_LIMIT)
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name", "pk"]
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_view_per_owner_and_name")]

    def __str__(self) -> str:
        return self.name


def offered_to(user: User) -> QuerySet[SavedView]:
    """The views of a user, and those that others share."""
    return SavedView.objects.filter(Q(owner=user) | Q(is_shared=True)).select_related("owner")


def changeable_by(user: User) -> QuerySet[SavedView]:
    """A user's own views; for a supervisor also those that others share."""
    shared = Q(is_shared=True) if user.has_perm("scoring.supervise_review") else Q()
    return SavedView.objects.filter(Q(owner=user) | shared)


def normal(query: str) -> str:
    """The parameters that say what a list shows, in one order."""
    asked = QueryDict(query)
    kept = QueryDict(mutable=True)
    for name in sorted(set(asked) - PASSING):
        kept.setlist(name, asked.getlist(name))
    return kept.urlencode()


def save(*, owner: User, name: str, query: str, is_shared: bool) -> SavedView:
    """Keep a view.

    Raises:
        ViewRefused: the name is taken or none, or there is nothing to keep.
    """
    if not (query := normal(query)):
        raise ViewRefused("There is nothing to keep yet: choose a filter, a search or an order first.")
    if len(query) > QUERY_LIMIT:
        raise ViewRefused(f"A view has at most {QUERY_LIMIT:,} characters in its address. Choose fewer filters.")
    if holds_card_number(QueryDict(query).get("q", "")):
        raise ViewRefused("A card number is never kept. Search by the token instead.")
    if SavedView.objects.filter(owner=owner).count() >= settings.SAVED_VIEWS_LIMIT:
        raise ViewRefused(f"You have {settings.SAVED_VIEWS_LIMIT} views (SAVED_VIEWS_LIMIT). Delete one first.")
    return _written(SavedView(owner=owner, query=query), name=name, is_shared=is_shared)


def change(view: SavedView, *, name: str, is_shared: bool) -> SavedView:
    """Rename a view, and share it or not.

    Raises:
        ViewRefused: the name is taken or none.
    """
    return _written(view, name=name, is_shared=is_shared)


def _written(view: SavedView, *, name: str, is_shared: bool) -> SavedView:
    view.name, view.is_shared = " ".join(name.split()), is_shared
    if not 0 < len(view.name) <= NAME_LIMIT:
        raise ViewRefused(f"Give the view a name of at most {NAME_LIMIT} characters.")
    try:
        with transaction.atomic():
            view.save()
    except IntegrityError:
        raise ViewRefused(f"There is a view of the name {view.name} already. Give this one another name.") from None
    return view


def rows_for(user: User, query: str) -> list[dict[str, Any]]:
    """What the page shows of each view: whether it is the present one, and whether the user may change it."""
    present = normal(query)
    may_change = set(changeable_by(user).values_list("pk", flat=True))
    return [
        {
            "view": view,
            "is_present": view.query == present,
            "may_change": view.pk in may_change,
            "is_own": view.owner_id == user.pk,
        }
        for view in offered_to(user)
    ]
