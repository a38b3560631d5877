"""Tokens replace the identifiers of cards, terminals and other entities wherever they are stored or sent on."""

import hmac

TOKEN_LENGTH = 32  # of hexadecimal digits


def token_of(key: str, schema: str, entity: str, value: str) -> str:
    """The token of an entity, a keyed hash of its identifier `value`, which is printable.

    >>> token_of("a key", "handbook", "customer", "596")
    'e007b286ee0204f34c0a7d83f7e0f5ad'
    """
    # Printable texts have no NUL, so different triples give different messages.
    message = "\0".join((schema, entity, value)).encode()
    return hmac.digest(key.encode(), message, "sha256").hex()[:TOKEN_LENGTH]
