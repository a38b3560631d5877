"""Alerts that share something with this one: one step away, and two.

What links alerts is in `scoring.linked`. What more than `CASE_LINKS_LIMIT` alerts share, such as a large shop, is named
but not followed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import connection

from scoring.models import Review, ReviewLink
from scoring.reviews.case.past import is_personal, told_apart
from training.core.schema import Schema

SHOWN = 12
KEYS_LIMIT = 60  # that are followed in the second step
# The newest alerts with a key, one more than the limit. Its text has no values.
NEWEST = (
    "SELECT * FROM (SELECT key, review_id FROM scoring_reviewlink WHERE key = %s ORDER BY review_id DESC LIMIT %s) AS n"
)


@dataclass
class Shared:
    """Something that this alert has, and how many other alerts have it: None if it is more than are followed."""

    name: str
    key: str
    others: int | None


@dataclass
class Linked:
    """An alert that is linked with this one. `by` is what they share; with `steps` of 2, what it shares with one that
    does."""

    review: UUID
    steps: int
    by: list[str] = field(default_factory=list)


@dataclass
class Links:
    shared: list[Shared]
    alerts: list[tuple[Linked, Review]]
    more: int
    hidden: bool


def find(schema: Schema, review: Review, *, personal: bool, clients: frozenset[int] | None = None) -> Links:
    """What a review shares with others, and these, the nearest first. Personal values link nobody unless `personal`.
    `clients` are those whose alerts are shown, None for all: an entity may be shared."""
    most = settings.CASE_LINKS_LIMIT
    names = {entity.name for entity in told_apart(schema)} | (set(schema.feature_names) - set(schema.entity_names))
    followed = {name for name in names if personal or not is_personal(schema, name)}
    own = dict(ReviewLink.objects.filter(review=review.pk, name__in=names).values_list("name", "key"))
    hidden = bool(own.keys() - followed)
    own = {name: key for name, key in own.items() if name in followed}
    sharing = _sharing(own.values(), most, clients)
    found: dict[UUID, Linked] = {}
    shared = []
    for name, key in own.items():
        others = [each for each in sharing.get(key, []) if each != review.pk]
        too_many = len(sharing.get(key, [])) > most
        shared.append(Shared(name, key, None if too_many else len(others)))
        for other in () if too_many else others:
            found.setdefault(other, Linked(other, 1)).by.append(name)
    _second_step(review, found, followed, set(own.values()), most, clients)
    nearest = sorted(found.values(), key=lambda each: (each.steps, -len(each.by), -each.review.int))
    chosen = nearest[:SHOWN]
    rows = Review.objects.select_related("prediction__transaction").in_bulk([each.review for each in chosen])
    alerts = [(each, rows[each.review]) for each in chosen if each.review in rows]
    return Links(shared, alerts, len(nearest) - len(chosen), hidden)


def _second_step(
    review: Review,
    found: dict[UUID, Linked],
    followed: Iterable[str],
    known: set[str],
    most: int,
    clients: frozenset[int] | None,
) -> None:
    """Add the alerts that share something with one of those in `found`."""
    near = list(found)
    rows = ReviewLink.objects.filter(review__in=near, name__in=list(followed)).exclude(key__in=known)
    names = dict(rows.order_by("-review").values_list("key", "name")[:KEYS_LIMIT])
    for key, reviews in _sharing(names, most, clients).items():
        if len(reviews) <= most:
            for other in reviews:
                if other != review.pk and (other not in found or found[other].steps == 2):
                    by = found.setdefault(other, Linked(other, 2)).by
                    by.extend([] if names[key] in by else [names[key]])


def _sharing(keys: Iterable[str], most: int, clients: frozenset[int] | None) -> dict[str, list[UUID]]:
    """The newest reviews with each of these keys, one more than `most` at the most. One query for all clients, and one
    more for some."""
    chosen: Sequence[str] = list(keys)
    found: dict[str, list[UUID]] = {}
    if not chosen:
        return found
    with connection.cursor() as cursor:
        values = [value for key in chosen for value in (key, most + 1)]
        cursor.execute(" UNION ALL ".join([NEWEST] * len(chosen)), values)
        for key, review in cursor.fetchall():
            found.setdefault(key, []).append(review if isinstance(review, UUID) else UUID(review))
    if clients is None:
        return found
    every = {review for reviews in found.values() for review in reviews}
    seen = set(Review.objects.filter(pk__in=every, client__in=clients).values_list("pk", flat=True))
    return {key: [review for review in reviews if review in seen] for key, reviews in found.items()}
