"""Tokens replace the identifiers of cards, terminals and other entities wherever they are stored or sent on."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.kind import TEXT_LIMIT

if TYPE_CHECKING:
    from training.core.features.declaration import Entity
    from training.core.schema import Field, Schema

TOKEN_LENGTH = 32
# Tokens have hexadecimal digits. The last character of a client's own token is this one instead, so that it is told
# from the token that all clients share.
OWN = "x"
BETWEEN = "\x1f"  # between the parts of an entity: no text has this character, as it is not printable
BLOCK = 64  # bytes, of SHA-256
USABLE_IDENTIFIER = f"Send a string of 1 to {TEXT_LIMIT} printable characters."


def is_identifier(value: Any) -> bool:
    """Whether a value of a request can be the identifier of an entity."""
    return isinstance(value, str) and 1 <= len(value) <= TEXT_LIMIT and value.isprintable()


def token_of(key: str, schema: str, entity: str, value: str) -> str:
    """The token of an entity, a keyed hash of its identifier `value`, which is printable.

    >>> token_of("a key", "handbook", "customer", "596")
    'e007b286ee0204f34c0a7d83f7e0f5ad'
    """
    return token_maker(key, schema, entity)(value)


@lru_cache(maxsize=1_000)
def token_maker(key: str, schema: str, entity: str) -> Callable[[str], str]:
    """What makes the tokens of an entity: `token_of` with all but the value.

    This is HMAC-SHA-256 (RFC 2104). What it does before it reads the value is done once, so that a token takes two
    fifths of the time of `hmac.digest`.
    """
    secret = key.encode()
    secret = (hashlib.sha256(secret).digest() if len(secret) > BLOCK else secret).ljust(BLOCK, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in secret)) for pad in (0x36, 0x5C))
    # Printable texts have no NUL, so different triples give different messages.
    inner.update(f"{schema}\0{entity}\0".encode())

    def make(value: str) -> str:
        within = inner.copy()
        within.update(value.encode())
        around = outer.copy()
        around.update(within.digest())
        return around.hexdigest()[:TOKEN_LENGTH]

    return make


@lru_cache(maxsize=1_000)
def own_maker(key: str, client: str) -> Callable[[str], str]:
    """What makes the token that an entity has at one client, of the token that all clients would share.

    So the same customer number at two clients has two tokens, and histories, links and lists keep them apart. It is
    made of the token, not of the identifier, as that is stored nowhere: stored tokens can be taken over.

    >>> own_maker("a key", "1")("e007b286ee0204f34c0a7d83f7e0f5ad")
    '57344d2fc7cbe52b24942b0c5715e93x'
    """
    # No message of `token_of` begins with NUL, as a schema has a name.
    secret = hmac.digest(key.encode(), f"\0client\0{client}".encode(), "sha256")
    keyed = hashlib.blake2b(key=secret, digest_size=TOKEN_LENGTH // 2)

    def make(token: str) -> str:
        hashed = keyed.copy()
        hashed.update(token.encode())
        return hashed.hexdigest()[:-1] + OWN

    return make


def is_own(token: str) -> bool:
    """Whether a token is one of a client's own."""
    return token.endswith(OWN)


def entity_token(schema: "Schema", entity: "Entity", values: Sequence[str], key: str) -> str:
    """The token, shared between clients, of an entity: of its identifier, or of the identifiers and values that it is
    made `of`, in their order.

    Values are the texts that were read, before any is concealed.
    """
    if not entity.of:
        return token_of(key, schema.name, entity.name, values[0])
    parts = [
        schema.kind_of[name].entity(value) if name in schema.kind_of else value
        for name, value in zip(entity.of, values, strict=True)
    ]
    return token_of(key, schema.name, entity.name, BETWEEN.join(parts))


def concealed(schema: "Schema", field: "Field", value: float | str, *, key: str) -> float | str:
    """What is stored in place of a value that was read."""
    conceal = field.of_kind.conceal
    if conceal is None or not field.is_concealed:
        return value
    return conceal(value, token_maker(key, schema.name, field.name))
