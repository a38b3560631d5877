"""Gives a client that shared tokens with others tokens of its own, in all that is stored of it."""

from collections.abc import Callable, Iterator

from django.conf import settings
from django.db import transaction

from scoring import linked
from scoring.lists import changes
from scoring.lists.keys import NoSuchSubject, declared, subject_of
from scoring.models import CardSnooze, Client, ListEntry, PolicyList, Review, ReviewLink, Transaction
from training.core.exceptions import SchemaNotFound
from training.core.schema.tokens import is_own, own_maker

ROWS_AT_ONCE = 1_000


def part(client: Client, *, by: str, on_rows: Callable[[int], object] = lambda rows: None) -> int:
    """Give a client tokens of its own: from now on, and in stored transactions, alerts, links and entries of lists.
    Returns of how many transactions they were changed. Histories are to be rebuilt afterwards.

    After an interruption, or if transactions came meanwhile, it can be repeated: what is done is recognised.
    `on_rows` gets the number of transactions so far.
    """
    Client.objects.filter(pk=client.pk).update(own_histories=True)
    own = own_maker(settings.ENTITY_HASH_KEY, str(client.pk))
    _part_lists(client, own, by)
    done = 0
    for rows in _pages(client):
        done += _part_transactions(rows, own)
        on_rows(done)
    return done


def _pages(client: Client) -> Iterator[list[Transaction]]:
    own, last = Transaction.objects.filter(client=client).order_by("pk"), None
    while rows := list((own.filter(pk__gt=last) if last else own)[:ROWS_AT_ONCE]):
        yield [row for row in rows if row.tokens]
        last = rows[-1].pk


@transaction.atomic
def _part_transactions(rows: list[Transaction], own: Callable[[str], str]) -> int:
    changed = []
    for row in rows:
        shared = _shared(row.schema)
        tokens = {
            name: token if name in shared or is_own(token) else own(token) for name, token in (row.tokens or {}).items()
        }
        if tokens != row.tokens:
            row.tokens = tokens
            changed.append(row)
    Transaction.objects.bulk_update(changed, ["tokens"])
    reviews = list(Review.objects.filter(pk__in=[row.pk for row in changed]))
    if reviews:
        _part_reviews(reviews, [row for row in changed if row.pk in {review.pk for review in reviews}])
    return len(changed)


def _part_reviews(reviews: list[Review], rows: list[Transaction]) -> None:
    tokens = {row.pk: row.tokens or {} for row in rows}
    quiet = CardSnooze.objects.in_bulk({review.card for review in reviews if review.card})
    for review in reviews:
        if review.card:
            before, review.card = review.card, tokens[review.pk].get(_card(review.schema), review.card)
            if before in quiet:
                CardSnooze.objects.get_or_create(card=review.card, defaults={"until": quiet[before].until})
    Review.objects.bulk_update(reviews, ["card"])
    ReviewLink.objects.filter(review__in=tokens).delete()
    for row in rows:
        try:
            ReviewLink.objects.bulk_create(linked.rows_of(declared(row.schema), [row]), ignore_conflicts=True)
        except SchemaNotFound:
            continue  # `link_reviews` writes them when it is back


def _part_lists(client: Client, own: Callable[[str], str], by: str) -> None:
    """Add the entries that counted for the client with others once more, for itself."""
    for row in PolicyList.objects.filter(removed_at=None):
        try:
            if not subject_of(row.schema, row.about).is_own:
                continue
        except NoSuchSubject:
            continue
        there = ListEntry.objects.filter(list=row, removed_at=None)
        entries = [each for each in there if not is_own(each.key) and each.client_id in (None, client.pk)]
        known = set(there.filter(client=client).values_list("key", flat=True))
        additions = (
            changes.Addition(own(each.key), each.expires_at, each.note, client=client.pk)
            for each in entries
            if own(each.key) not in known
        )
        changes.add(row, changes.batched(additions), by=by)


def _shared(schema: str) -> frozenset[str]:
    try:
        return frozenset(entity.name for entity in declared(schema).entities if entity.shared)
    except SchemaNotFound:
        return frozenset()


def _card(schema: str) -> str:
    try:
        return declared(schema).card
    except SchemaNotFound:
        return ""
