"""From the values of a request to what is stored of them: tokens of its entities, and concealed personal values.

What does not depend on the request is prepared once for each schema.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings

from scoring.exceptions import FieldError
from scoring.tenancy import tenants
from training.core.schema import Schema
from training.core.schema.tokens import BETWEEN, USABLE_IDENTIFIER, is_identifier, token_maker
from training.core.schema.values import Value


class Part(NamedTuple):
    """What an entity is made of: the value at a `place`, as `read` makes it; or if `place` is -1 the identifier
    `name`."""

    name: str
    place: int
    read: Callable[[str], str]


class Made(NamedTuple):
    """How the token of an entity is made: of its identifier `name`, or of `parts` if it has any."""

    name: str
    parts: tuple[Part, ...]
    token_of: Callable[[str], str]
    shared: bool


class Plan(NamedTuple):
    """`identifiers` are the names that a request has, and whether each is optional. `hidden` are the places of values
    that are stored in another form, what conceals each, and its tokens."""

    identifiers: tuple[tuple[str, bool], ...]
    entities: tuple[Made, ...]
    hidden: tuple[tuple[int, Callable[[Any, Callable[[str], str]], float | str], Callable[[str], str]], ...]


@lru_cache
def _plan(schema: Schema, key: str) -> Plan:
    places = {name: place for place, name in enumerate(schema.feature_names)}
    kinds = schema.kind_of

    def part(name: str) -> Part:
        return Part(name, places.get(name, -1), kinds[name].entity if name in kinds else str)

    return Plan(
        tuple((entity.name, entity.optional) for entity in schema.entities if not entity.of),
        tuple(
            Made(each.name, tuple(map(part, each.of)), token_maker(key, schema.name, each.name), each.shared)
            for each in schema.entities
        ),
        tuple(
            (place, field.of_kind.conceal, token_maker(key, schema.name, field.name))
            for place, field in schema.concealed_features
            if field.of_kind.conceal
        ),
    )


def tokens_of(
    body: dict[str, Any], values: list[Value], schema: Schema, client_id: int, malformed: list[FieldError]
) -> tuple[str, ...]:
    """The token of each entity, empty for a missing one. `values` are those of the body before any is concealed.
    Identifiers that are missing or refused are added to `malformed`."""
    plan = _plan(schema, settings.ENTITY_HASH_KEY)
    identifiers: dict[str, str] = {}
    for name, optional in plan.identifiers:
        value: Any = body.get(name)
        if is_identifier(value):
            identifiers[name] = value
        elif name in body and not (value is None and optional):
            malformed.append(FieldError(f"/{name}", "invalid_entity", USABLE_IDENTIFIER))
        elif not optional:
            malformed.append(FieldError(f"/{name}", "missing", "This field is required."))
    own = tenants.own_of(client_id)
    tokens = []
    for made in plan.entities:
        text = _joined(made.parts, values, identifiers) if made.parts else identifiers.get(made.name)
        if text is None:
            tokens.append("")
        else:
            token = made.token_of(text)
            tokens.append(token if made.shared or own is None else own(token))
    return tuple(tokens)


def _joined(parts: tuple[Part, ...], values: list[Value], identifiers: dict[str, str]) -> str | None:
    """The text that an entity is made of; None if a part of it is missing."""
    texts = []
    for name, place, read in parts:
        part = identifiers.get(name) if place < 0 else values[place]
        if not isinstance(part, str):
            return None
        texts.append(part if place < 0 else read(part))
    return BETWEEN.join(texts)


def concealed(values: list[Value], schema: Schema) -> list[Value]:
    """The values as they are stored."""
    stored = list(values)
    for place, conceal, token_of in _plan(schema, settings.ENTITY_HASH_KEY).hidden:
        if (value := values[place]) is not None:
            stored[place] = conceal(value, token_of)
    return stored
