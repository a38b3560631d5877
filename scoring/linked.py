"""What links alerts with each other: the entities of their transactions, and values that tell a person or a device.

The links of an alert are written together with its review (`scoring.worker.storage`), and `scoring.reviews.case.links`
finds alerts that share one. Only alerts have links, so they cost other traffic nothing.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from scoring.models import Review, ReviewLink, Transaction
from scoring.tenancy import tenants
from training.core.schema import Schema

# Kinds of values that are nobody else's, as far as they are stored. A personal category is a device or an account.
TELLING_KINDS = {"email", "ip"}


@lru_cache
def values_that_link(schema: Schema) -> tuple[str, ...]:
    """The values of a request that link alerts, by name, without those that an entity is made of alone."""
    entities = {entity.of for entity in schema.entities}
    return tuple(
        each.name
        for each in schema.features
        if (each.kind in TELLING_KINDS or (each.kind == "category" and each.personal)) and (each.name,) not in entities
    )


def keys_of(
    schema: Schema, client_id: int, fields: Mapping[str, Any], tokens: Mapping[str, str] | None
) -> dict[str, str]:
    """The keys of what links a transaction's alert, by the name of the entity or value. A missing one has none.

    A value links alerts of one client only, as an entity does that is not shared.
    """
    found = {name: token for name, token in (tokens or {}).items() if name in schema.entity_names}
    for name in values_that_link(schema):
        if value := fields.get(name):
            content = f"{schema.name}\x1f{name}\x1f{value}".encode()
            key = hashlib.blake2b(content, digest_size=16).hexdigest()
            found[name] = tenants.token_at(client_id, key, shared=False)
    return found


def rows_of(schema: Schema, transactions: Iterable[Transaction]) -> Iterator[ReviewLink]:
    """The links of these transactions' reviews, to be inserted with `ignore_conflicts`."""
    for row in transactions:
        for name, key in keys_of(schema, row.client_id, row.fields, row.tokens).items():
            yield ReviewLink(review_id=row.pk, name=name, key=key)


def link_all(schema: Schema, *, at_once: int = 1_000) -> int:
    """Write the links of all reviews of a schema that lack some. Returns of how many reviews they were looked at."""
    done, last = 0, None
    while True:
        reviews = Review.objects.filter(prediction__transaction__schema=schema.name).order_by("pk")
        keys = list((reviews.filter(pk__gt=last) if last else reviews).values_list("pk", flat=True)[:at_once])
        if not keys:
            return done
        rows = Transaction.objects.filter(pk__in=keys).only("client", "fields", "tokens")
        ReviewLink.objects.bulk_create(rows_of(schema, rows.iterator()), ignore_conflicts=True)
        done, last = done + len(keys), keys[-1]
