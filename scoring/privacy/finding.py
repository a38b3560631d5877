"""Finds what is held on an entity: by its token at each client, and where it is made of one value by that, too."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from django.conf import settings
from django.db.models import Q, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from scoring.lists.keys import EntryRefused, Subject, declared, subject_in
from scoring.models import Client, ListEntry, Transaction
from training.core.exceptions import FraudsiteError, did_you_mean
from training.core.schema import Schema


class NoSuchEntity(FraudsiteError):
    """A schema has this entity."""


class Held(msgspec.Struct):
    """By what an entity is found: its token at each client; and the key of the value that it is made of, in lists.

    `sequences` are the places in the order of arrival, by token, up to which transactions are erased: null if it has no
    history.
    """

    tokens: list[str] = []
    value_key: str | None = None
    field: str | None = None
    sequences: dict[str, int | None] = {}


def held_on(schema_name: str, entity: str, values: Sequence[str], client: Client | None) -> Held:
    """By what an entity is found. `values` are those that clients send of it, in the order of what it is made of.

    Raises:
        SchemaNotFound: there is no such schema.
        NoSuchEntity: the schema has no such entity.
        EntryRefused: a value is missing, the API would refuse it, or the client shares the entity with others.
    """
    schema = declared(schema_name)
    if entity not in schema.entity_names:
        raise NoSuchEntity(
            f"The schema {schema_name} has no entity {entity!r}.{did_you_mean(entity, schema.entity_names)} "
            f"It has {', '.join(schema.entity_names) or 'none'}."
        )
    subject = subject_in(schema, entity)
    sent = dict(zip(subject.parts, values, strict=False))
    clients = [client.pk] if client else list(Client.objects.values_list("pk", flat=True))
    found = subject.keys_of(sent, clients)
    if client and None in found.values():
        raise EntryRefused(
            subject.parts[0], f"{client} shares this {entity} with other clients: it is found at all of them, or not."
        )
    held = Held(tokens=sorted(found))
    if len(subject.parts) == 1 and (field := subject.parts[0]) in schema.feature_names:
        held.field, held.value_key = field, subject_in(schema, field).key_of(sent)
    return held


def parts_of(schema: Schema, entity: str) -> tuple[str, ...]:
    """The names of the values that a client sends of an entity."""
    return Subject(schema, next(each for each in schema.entities if each.name == entity)).parts


def window(after: UUID | None) -> tuple[UUID | None, int]:
    """The next transactions after a key, `ERASURE_STEP_ROWS` of them: the key of the last, None if there is none, and
    their number."""
    rows = Transaction.objects.order_by("pk")
    keys = list(
        (rows.filter(pk__gt=after) if after else rows).values_list("pk", flat=True)[: settings.ERASURE_STEP_ROWS]
    )
    return (keys[-1] if keys else None), len(keys)


def transactions(schema: str, entity: str, tokens: Iterable[str], after: UUID | None, last: UUID) -> list[Transaction]:
    """The transactions of an entity whose keys are in a window."""
    # Without the cast, Django decodes the value as JSON on SQLite.
    token = Cast(KeyTextTransform(entity, "tokens"), TextField())
    rows = Transaction.objects.filter(pk__lte=last, schema=schema)
    if after:
        rows = rows.filter(pk__gt=after)
    return list(rows.annotate(token=token).filter(token__in=list(tokens)).order_by("pk"))


def entries(schema: str, entity: str, held: Held) -> Q:
    """The condition on entries of lists that name an entity, or the value that it is made of."""
    found = Q(list__about=entity, key__in=held.tokens)
    if held.field:
        found |= Q(list__about=held.field, key=held.value_key)
    return Q(list__schema=schema) & found


def entries_of(schema: str, entity: str, held: Held) -> list[ListEntry]:
    return list(ListEntry.objects.select_related("list").filter(entries(schema, entity, held)).order_by("pk"))
