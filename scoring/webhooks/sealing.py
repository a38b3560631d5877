"""Encrypts the secrets of webhooks at rest: a copy of the database alone signs nothing.

They have to be read again to sign, so that a hash would not do. The key is derived from SECRET_KEY by HKDF (RFC 5869),
and Fernet (AES-CBC with HMAC) encrypts. After a change of SECRET_KEY no secret can be read: each is rotated then.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from training.core.exceptions import FraudsiteError


class SecretUnreadable(FraudsiteError):
    """The endpoint's secret cannot be read, as SECRET_KEY has changed since it was made. Rotate it."""


def seal(secret: str) -> str:
    return _fernet(settings.SECRET_KEY).encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """The secret that was sealed.

    Raises:
        SecretUnreadable: with another SECRET_KEY.
    """
    try:
        return _fernet(settings.SECRET_KEY).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise SecretUnreadable from None


@lru_cache(maxsize=2)
def _fernet(key: str) -> Fernet:
    derived = HKDF(SHA256(), length=32, salt=None, info=b"fraudsite webhook secrets").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
