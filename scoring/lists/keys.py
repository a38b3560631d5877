"""From what a client sends to the key of an entry: the token of an entity, or the stored form of a value."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.conf import settings

from scoring import served
from scoring.tenancy import tenants
from training.core.card_numbers import holds_card_number
from training.core.exceptions import FraudsiteError, SchemaNotFound, did_you_mean
from training.core.features.declaration import Entity
from training.core.schema import Schema, load_schema
from training.core.schema.kinds.kind import ValueRefused
from training.core.schema.tokens import OWN, TOKEN_LENGTH, USABLE_IDENTIFIER, concealed, entity_token, is_identifier
from training.core.schema.values import Field

TOKEN = re.compile(rf"[0-9a-f]{{{TOKEN_LENGTH - 1}}}[0-9a-f{OWN}]")
TRUTHS = {"true": True, "false": False}
# Digits of a token that are shown: enough to recognise it in a transaction.
SHOWN_DIGITS = 8


class NoSuchSubject(FraudsiteError):
    """A list is about an entity or a field of its schema."""


class EntryRefused(FraudsiteError):
    """An entry is refused. `part` names the entity or field whose value was refused, or is "key"."""

    def __init__(self, part: str, remedy: str) -> None:
        super().__init__(remedy)
        self.part = part


@dataclass(frozen=True)
class Subject:
    """What a list is about: an entity or a field of a schema."""

    schema: Schema
    of: Entity | Field

    @cached_property
    def is_entity(self) -> bool:
        return isinstance(self.of, Entity)

    @cached_property
    def index(self) -> int:
        """The place among the schema's entities, or its features."""
        names = self.schema.entity_names if self.is_entity else self.schema.feature_names
        return names.index(self.of.name)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The names of the identifiers and values that a client sends of it."""
        return (isinstance(self.of, Entity) and self.of.of) or (self.of.name,)

    @cached_property
    def is_number(self) -> bool:
        return isinstance(self.of, Field) and self.of.is_number

    @cached_property
    def is_own(self) -> bool:
        """Whether each client has its own, so that an entry is about one client's."""
        return isinstance(self.of, Entity) and not self.of.shared

    def keys_of(self, sent: Mapping[str, str], clients: Iterable[int]) -> dict[str, int | None]:
        """The keys of what a client sends, as `key_of`, and whose each is: one for each of these clients if each has
        its own, else one of None. Clients that share tokens have one key, of None, together.

        Raises:
            EntryRefused: as `key_of`, or there is no client.
        """
        key = self.key_of(sent)
        if not self.is_own:
            return {key: None}
        found: dict[str, int | None] = {}
        for client in clients:
            token = tenants.token_at(client, key, shared=False)
            found[token] = None if token in found else client
        if not found:
            raise EntryRefused(self.parts[0], "There is no client yet of which it could be.")
        return found

    def key_of(self, sent: Mapping[str, str]) -> str:
        """The key of what any client sends, by the name of each part, written as text.

        Raises:
            EntryRefused: a part is missing, or the API would refuse it.
        """
        fields = {field.name: field for field in self.schema.features}
        read: list[float | str] = []
        for part in self.parts:
            text = sent.get(part, "")
            if not text:
                raise EntryRefused(part, "Give a value.")
            if holds_card_number(text):
                raise EntryRefused(part, "Never give a card number: give the token that clients send of it.")
            if part in fields:
                read.append(_read(fields[part], text))
            elif is_identifier(text):
                read.append(text)
            else:
                raise EntryRefused(part, USABLE_IDENTIFIER)
        if isinstance(self.of, Entity):
            return entity_token(self.schema, self.of, [str(value) for value in read], settings.ENTITY_HASH_KEY)
        [value] = read
        return _written(concealed(self.schema, self.of, value, key=settings.ENTITY_HASH_KEY))

    def checked(self, key: str) -> str:
        """A key that somebody else has, such as a line of an export.

        Raises:
            EntryRefused: no transaction has such a key.
        """
        try:
            held = self.held(key)
        except ValueError:
            raise EntryRefused("key", "It is not a key of this list, as an export has them.") from None
        if isinstance(self.of, Field) and not self.of.is_number:
            try:
                return _written(self.of.of_kind.read(self.of, held))
            except ValueRefused as error:
                raise EntryRefused("key", error.remedy) from error
        return _written(held)

    def held(self, key: str) -> float | str:
        """The key as transactions have it in a worker.

        Raises:
            ValueError: no transaction has such a key.
        """
        if self.is_number:
            if not math.isfinite(number := float(key)):
                raise ValueError("not finite")
            return number
        if not key or (self.is_entity and not TOKEN.fullmatch(key)):
            raise ValueError("not a key")
        return key

    def key_in(self, fields: Mapping[str, Any], tokens: Mapping[str, str]) -> str:
        """The key of a stored transaction; empty if it has none."""
        value = (tokens if self.is_entity else fields).get(self.of.name)
        return "" if value is None else _written(float(value) if self.is_number else value)

    def shown(self, key: str) -> str:
        """A key for people: the first digits of a token, or the value."""
        if self.is_entity:
            return f"{key[:SHOWN_DIGITS]}…"
        if isinstance(self.of, Field) and self.of.kind == "boolean":
            return "true" if key == "1.0" else "false"
        return key.removesuffix(".0") if self.is_number else key


def declared(schema_name: str) -> Schema:
    """The declaration that transactions are checked against, which is not that of a file that is held.

    Raises:
        SchemaNotFound: there is no such schema.
    """
    return served.now().schemas.get(schema_name) or load_schema(schema_name)


def subject_of(schema_name: str, about: str) -> Subject:
    """What a list of this schema is about.

    Raises:
        NoSuchSubject: the schema has no such entity or field, or there is no such schema.
    """
    try:
        return subject_in(declared(schema_name), about)
    except SchemaNotFound as error:
        raise NoSuchSubject(str(error)) from error


def subject_in(schema: Schema, about: str) -> Subject:
    """What a list is about, under this declaration of its schema. Raises: as `subject_of`."""
    known: dict[str, Entity | Field] = {field.name: field for field in schema.features}
    known |= {entity.name: entity for entity in schema.entities}
    if about not in known:
        raise NoSuchSubject(
            f"The schema {schema.name} has no entity or field {about!r}.{did_you_mean(about, list(known))}"
        )
    return Subject(schema, known[about])


def _read(field: Field, text: str) -> float | str:
    sent: Any = text
    if field.kind == "boolean":
        sent = TRUTHS.get(text.strip().lower(), text)
    elif field.is_number:
        try:
            sent = float(text)
        except ValueError:
            raise EntryRefused(field.name, "Give a number.") from None
    try:
        return field.of_kind.read(field, sent)
    except ValueRefused as error:
        raise EntryRefused(field.name, error.remedy.replace("Send", "Give")) from error


def _written(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value + 0.0)  # adding 0.0 turns -0.0 into 0.0
