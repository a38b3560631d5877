"""Reads the settings of single sign-on that are more than a word or a number."""

import re
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

# In the place of a role: everything, also what no role has.
SUPERUSER = "superuser"
ISSUER_LENGTH = 300
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def issuer(written: str) -> str:
    """The address of a provider, as its discovery document has it as `issuer`.

    Raises:
        ImproperlyConfigured: it is no address, or one that everybody on the way could answer for.
    """
    found = written.removesuffix("/.well-known/openid-configuration")
    parts = urlsplit(found)
    if not found:
        return ""
    if len(found) > ISSUER_LENGTH:
        raise ImproperlyConfigured(f"SSO_ISSUER must have at most {ISSUER_LENGTH} characters.")
    if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise ImproperlyConfigured("SSO_ISSUER must be an address such as https://login.example.com/realms/staff.")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ImproperlyConfigured("SSO_ISSUER must start with https://, unless the provider is on the same machine.")
    return found


def roles(written: str) -> dict[str, list[str]]:
    """Which roles a group of the provider gives, from "GROUP=ROLE; GROUP=ROLE". A group may stand there several times.

    Groups may have commas and equals signs in them, as names of directories do: the last equals sign parts the two.

    Raises:
        ImproperlyConfigured: names the pair that is none.
    """
    found: dict[str, list[str]] = {}
    for pair in filter(None, (part.strip() for part in written.split(";"))):
        group, _, role = (part.strip() for part in pair.rpartition("="))
        if not (group and role):
            raise ImproperlyConfigured(f"SSO_ROLES: write GROUP=ROLE; GROUP=ROLE, where it has {pair!r}.")
        found.setdefault(group, []).append(role)
    return found


def check(*, issuer: str, client_id: str, scopes: str, roles: dict[str, list[str]], passwords: str) -> None:
    """Refuse settings with which nobody could sign in.

    Raises:
        ImproperlyConfigured: names the setting that is missing.
    """
    if not issuer:
        if passwords == "emergency":
            raise ImproperlyConfigured("PASSWORD_SIGN_IN=emergency needs SSO_ISSUER: nobody else could sign in.")
        return
    if not client_id:
        raise ImproperlyConfigured("SSO_ISSUER needs SSO_CLIENT_ID, the name by which the provider knows this site.")
    if not roles:
        raise ImproperlyConfigured("SSO_ISSUER needs SSO_ROLES: without a role nobody is let in.")
    if "openid" not in re.split(r"\s+", scopes):
        raise ImproperlyConfigured("SSO_SCOPES must have openid among its words.")
