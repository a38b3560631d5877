"""Tokens replace the identifiers of cards, terminals and other entities wherever they are stored or sent on."""

import hmac
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.kind import TEXT_LIMIT

if TYPE_CHECKING:
    from training.core.features.declaration import Entity
    from training.core.schema import Field, Schema

TOKEN_LENGTH = 32  # of hexadecimal digits
USABLE_IDENTIFIER = f"Send a string of 1 to {TEXT_LIMIT} printable characters."


def is_identifier(value: Any) -> bool:
    """Whether a value of a request can be the identifier of an entity."""
    return isinstance(value, str) and 1 <= len(value) <= TEXT_LIMIT and value.isprintable()


def token_of(key: str, schema: str, entity: str, value: str) -> str:
    """The token of an entity, a keyed hash of its identifier `value`, which is printable.

    >>> token_of("a key", "handbook", "customer", "596")
    'e007b286ee0204f34c0a7d83f7e0f5ad'
    """
    # Printable texts have no NUL, so different triples give different messages.
    message = "\0".join((schema, entity, value)).encode()
    return hmac.digest(key.encode(), message, "sha256").hex()[:TOKEN_LENGTH]


def entity_token(schema: "Schema", entity: "Entity", values: Sequence[str], key: str) -> str:
    """The token of an entity: of its identifier, or of the identifiers and values that it is made `of`, in their order.

    Values are the texts that were read, before any is concealed.
    """
    if not entity.of:
        return token_of(key, schema.name, entity.name, values[0])
    parts = [
        schema.kind_of[name].entity(value) if name in schema.kind_of else value
        for name, value in zip(entity.of, values, strict=True)
    ]
    # No text has this character, as it is not printable.
    return token_of(key, schema.name, entity.name, "\x1f".join(parts))


def concealed(schema: "Schema", field: "Field", value: float | str, *, key: str) -> float | str:
    """What is stored in place of a value that was read."""
    conceal = field.of_kind.conceal
    if conceal is None or not field.is_concealed:
        return value
    return conceal(value, partial(token_of, key, schema.name, field.name))
