"""Tokens: what stands for cards, terminals and other entities in whatever is stored or sent on."""

import hmac

TOKEN_LENGTH = 32  # of hexadecimal digits


def token_of(key: str, schema: str, entity: str, value: str) -> str:
    """The token of an entity: nobody without the key can tell whose it is. `value` is printable.

    >>> token_of("a key", "handbook", "customer", "596")
    'e007b286ee0204f34c0a7d83f7e0f5ad'
    """
    # What is printable has no NUL, so no two triples read the same.
    said = "\0".join((schema, entity, value)).encode()
    return hmac.digest(key.encode(), said, "sha256").hex()[:TOKEN_LENGTH]
