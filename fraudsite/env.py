"""Strict reading of the environment: a value that cannot be meant stops the process at start, with its name."""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}


def text(name: str, default: str) -> str:
    """Read words as they stand. Here as everywhere below, an empty variable counts as not set."""
    return env.str(name, default="").strip() or default


def texts(name: str, default: list[str]) -> list[str]:
    """Read words with commas in between."""
    return [word.strip() for word in text(name, "").split(",") if word.strip()] or default


def url(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """Read an address. It may hold a password, so a refusal does not repeat it."""
    value = text(name, default)
    if urlsplit(value).scheme not in schemes:
        raise ImproperlyConfigured(f"{name} must start with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
    return value


def boolean(name: str, default: bool) -> bool:
    """Read a switch. django-environ takes any unknown word for False; a typing error must not switch security off."""
    raw = text(name, "").lower()
    if not raw:
        return default
    if raw in TRUE | FALSE:
        return raw in TRUE
    raise ImproperlyConfigured(f"{name} must be one of {sorted(TRUE | FALSE)}.")


def choice(name: str, default: str, known: tuple[str, ...]) -> str:
    """Read one of a few words."""
    value = text(name, default)
    if value not in known:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(known)}.")
    return value


def number(name: str, default: float, minimum: float, maximum: float) -> float:
    """Read a number of the default's own type and hold it to its bounds (both inclusive)."""
    kind = type(default)
    raw = text(name, "")
    try:
        value = kind(raw) if raw else default
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be {'a whole' if kind is int else 'a'} number.") from None
    if not minimum <= value <= maximum:
        raise ImproperlyConfigured(f"{name} must lie between {minimum} and {maximum}.")
    return value


def integer(name: str, default: int, minimum: int, maximum: int) -> int:
    return int(number(name, default, minimum, maximum))


def day(name: str, default: str) -> datetime:
    """Read a date such as 2000-01-31. Returns its first moment in UTC."""
    try:
        return datetime.strptime(text(name, default), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a date, such as {default}.") from None


def secret(name: str, path: Path | None) -> str:
    """Read a secret from the environment, or keep one of our own making in a file that only its owner reads.

    Machines that share a secret (several web servers) set the variable; a single machine needs no setup. Without a
    path for the file, the secret is empty unless it is set.
    """
    value = text(name, "")
    if value:
        if len(value) < 32:
            raise ImproperlyConfigured(f"{name} must have at least 32 characters.")
        return value
    if path is None:
        return ""
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may start at once: the first to link its file wins, and all read the winner's.
        mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        mine.touch(mode=0o600)
        mine.write_text(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(mine)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
        return path.read_text()
