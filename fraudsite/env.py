"""Reads settings from the environment strictly: an invalid value stops the process at its start and is named."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from training.core.exceptions import did_you_mean

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}
SECRET_LENGTH = 32
# Variables that single commands or files read.
OF_COMMANDS = (
    *("DEMO_PORT", "DEMO_REDIS_PORT", "DEMO_RATE", "DEMO_FRAUD_RATE", "FRAUDSITE_API_KEY", "TEST_DATABASE_URL"),
    *("SITE_HOST", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "WEB_PROCESSES", "WEB_SERVERS"),
)
# How similar (0 to 1) an unknown variable must be to a known one to count as misspelt: REDIS_URI, PREDICT_DEADLINE.
LIKENESS = 0.85

read: set[str] = set()
read_from_file: set[str] = set()

# A line of a settings file, and its value: quoted or plain. An ambiguous value matches neither.
LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
QUOTED = re.compile(r"""'([^']*)'(?:\s+#.*)?|"([^"\\]*)"(?:\s+#.*)?""")
PLAIN = re.compile(r"(?!['\"])(?:(?!\s#).)*")
# A URL. In its user and password, reserved characters must be percent-encoded; so must ";", at which Celery splits.
HOST = r"(?:\[[^/?#\[\]@\s]*\])?[^/?#\[\]@;,\s]*"
ADDRESS = re.compile(rf"[a-z]+://(?:[^/?#\[\]@;\s]*@)?(?P<hosts>{HOST}(?:,{HOST})*)(?:[/?][^#@\s]*)?")
ADDRESS_REMEDY = "In its user and password, percent-encode all but letters and digits: @ is %40, / is %2F, % is %25"


def read_file(name: str, default: Path) -> None:
    """Add the settings of a file to the environment, which takes precedence. A file named by the variable must exist.

    Raises:
        ImproperlyConfigured: the file, or one of its lines, cannot be read; names the line's number.
    """
    named = text(name, "")
    path = Path(named or default)
    try:
        # With or without a byte-order mark, with any line endings.
        found = dict(_lines(f"{name}: {path}", path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        if named:
            raise ImproperlyConfigured(f"{name}: there is no file {path}.") from None
        return
    except OSError as error:
        raise ImproperlyConfigured(f"{name}: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{name}: {path} is not written in UTF-8.") from None
    read_from_file.clear()
    read_from_file.update(found)
    for variable, value in found.items():
        os.environ.setdefault(variable, value)


def _lines(file: str, content: str) -> Iterator[tuple[str, str]]:
    """The variables of a file and their values. Errors do not show values, as they may be secret."""
    first: dict[str, int] = {}
    for number, line in enumerate(content.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        entry = LINE.fullmatch(line)
        if not entry or "\0" in line:
            raise ImproperlyConfigured(f"{file}, line {number}: write NAME=value.")
        name, written = entry.groups()
        if name in first:
            raise ImproperlyConfigured(f"{file}, line {number}: {name} is set in line {first[name]} already.")
        first[name] = number
        if quoted := QUOTED.fullmatch(written.strip()):
            yield name, next(value for value in quoted.groups() if value is not None)
        elif PLAIN.fullmatch(written):
            yield name, written.strip()
        else:
            remedy = "put the value in single quotes, or a comment on a line of its own"
            raise ImproperlyConfigured(f"{file}, line {number}: {name} could be read in two ways: {remedy}.")


def misspelt(names: Iterable[str]) -> list[str]:
    """A message for each unknown variable that resembles a known one. Call it when all settings are read."""
    known = read.union(OF_COMMANDS)
    hints = ((name, did_you_mean(name, known, LIKENESS)) for name in sorted(set(names) - known))
    return [f"There is no setting {name}.{hint}" for name, hint in hints if hint]


def refuse_misspelt() -> None:
    """Refuse misspelt names in the settings file. Call it when all settings are read. For the environment, which other
    programs share, a Django check only warns: fraudsite/apps.py.

    Raises:
        ImproperlyConfigured: the file of settings has a name that is misspelt.
    """
    if found := misspelt(read_from_file):
        raise ImproperlyConfigured(f"ENV_FILE: {' '.join(found)}")


def text(name: str, default: str) -> str:
    """Read a text. Here and in all functions below, an empty variable counts as not set."""
    read.add(name)
    value = os.environ.get(name, "").strip()
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ImproperlyConfigured(f"{name} is not written in UTF-8.") from None
    return value or default


def directory(name: str, default: Path) -> Path:
    """Read the path of a directory, and create it if needed."""
    path = Path(text(name, str(default))).resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{name}: {path} cannot be a directory: {error.strerror}.") from None
    return path


def file(name: str) -> str | None:
    """Read the path of a file that exists; None if none is named."""
    named = text(name, "")
    if named and not Path(named).is_file():
        raise ImproperlyConfigured(f"{name}: there is no file {named}.")
    return named or None


def texts(name: str, default: list[str]) -> list[str]:
    """Read words separated by commas."""
    return [word.strip() for word in text(name, "").split(",") if word.strip()] or default


def pairs(name: str) -> dict[str, str]:
    """Read words with a value each, `word=value`, separated by commas."""
    found: dict[str, str] = {}
    for entry in texts(name, []):
        word, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or not word or not value:
            raise ImproperlyConfigured(f"{name}: write word=value, separated by commas.")
        if word in found:
            raise ImproperlyConfigured(f"{name} has {word} twice.")
        found[word] = value
    return found


def url(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """Read a URL. Errors do not show it, as it may hold a password."""
    value = text(name, default)
    if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ImproperlyConfigured(f"{name} must start with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
    if value.startswith("sqlite:"):
        return value
    parts = ADDRESS.fullmatch(value)
    if not parts or re.search("%(?![0-9A-Fa-f]{2})", value):
        raise ImproperlyConfigured(f"{name} is no address of the form {schemes[-1]}://… . {ADDRESS_REMEDY}.")
    for host in parts["hosts"].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ImproperlyConfigured(f"The port in {name} must be a number from 1 to 65535. {ADDRESS_REMEDY}.")
    return value


def web_address(name: str) -> str:
    """Read the address of a web server; empty if it is not set."""
    return url(name, "", ("http", "https")) if text(name, "") else ""


def redis_url(name: str, default: str) -> str:
    """Read the URL of a Redis, or of the Sentinels that watch one."""
    value = url(name, default, ("sentinels", "sentinel", "rediss", "redis"))
    hosts = value.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if "," in hosts and not value.startswith("sentinel"):
        raise ImproperlyConfigured(f"{name} names several servers, which only Sentinels may be: sentinel://…")
    if value.startswith("sentinel") and not all(hosts.split(",")):
        raise ImproperlyConfigured(f"{name} lacks a Sentinel: write sentinel://HOST:PORT,HOST:PORT,HOST:PORT/0.")
    path = re.sub(r"\?.*", "", value).split("/", 3)[3:]
    if path and path[0] and not (path[0].isascii() and path[0].isdigit()):
        raise ImproperlyConfigured(f"{name} must end with the number of a database, such as /0.")
    return value


def broker_url(address: str) -> str:
    """The address of a Redis as Celery wants it, which takes one for each Sentinel, with semicolons."""
    if not address.startswith("sentinel"):
        return address
    before, slash, database = address.partition("://")[2].partition("/")
    who, at, hosts = before.rpartition("@")
    return ";".join(f"sentinel://{who}{at}{host}{slash}{database}" for host in hosts.split(","))


def database_url(name: str, default: Path) -> dict[str, Any]:
    """Read the URL of an SQLite file or a PostgreSQL. Returns Django's settings of a database."""
    value = url(name, "sqlite://", ("sqlite", "postgresql"))
    if value == "sqlite://":
        if text(name, ""):
            raise ImproperlyConfigured(f"{name} names no file: write sqlite:////the/path.")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(default)}
    if value.startswith("sqlite:"):
        path = value.removeprefix("sqlite:///")
        if path in ("", value) or re.search("[?#]|%(?![0-9A-Fa-f]{2})", path):
            remedy = "write sqlite:////the/path, with %3F for ?, %23 for # and %25 for %"
            raise ImproperlyConfigured(f"{name} names no file: {remedy}.")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": unquote(path)}
    try:
        found = conninfo_to_dict(value)  # parsed by PostgreSQL's own library
    except psycopg.Error:
        raise ImproperlyConfigured(f"{name} is no address that PostgreSQL knows; look at what follows the ?.") from None
    if not {"dbname", "service"} & found.keys():
        raise ImproperlyConfigured(f"{name} names no database: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
    keys = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    known = {key: str(found.pop(option, "")) for key, option in keys.items()}
    return {"ENGINE": "django.db.backends.postgresql", **known, "OPTIONS": found}


def boolean(name: str, default: bool) -> bool:
    """Read a switch. Unknown words are refused, as a typing error must not switch security off."""
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
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(known)}.{did_you_mean(value, known)}")
    return value


def number(name: str, default: float, minimum: float, maximum: float) -> float:
    """Read a number of the default's type, and check its bounds (both inclusive)."""
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
    """Read a date such as 2000-01-31. Returns its midnight in UTC."""
    try:
        return datetime.strptime(text(name, default), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a date, such as {default}.") from None


def secret(name: str, path: Path | None) -> str:
    """Read a secret from the environment, or from a file that only its owner can read; the file is made if needed.

    Machines that share a secret (several web servers) set the variable; a single machine needs no setup. Without a
    path, the secret is empty unless it is set. A variable that is set is used unchanged or refused: an empty secret may
    be a mistake, so the file does not replace it.
    """
    read.add(name)
    value = os.environ.get(name)
    if value is None or (not value and path is None):
        return _kept(name, path) if path else ""
    if value != value.strip():
        raise ImproperlyConfigured(f"{name} begins or ends with white space.")
    if len(text(name, "")) < SECRET_LENGTH:
        otherwise = ", or not be set" if path else ""
        raise ImproperlyConfigured(f"{name} must have at least {SECRET_LENGTH} characters{otherwise}.")
    return value


def _kept(name: str, path: Path) -> str:
    """The secret in a file, which is drawn at random if there is none."""
    try:
        if not path.exists():
            _draw(path)
        kept = path.read_text()
    except OSError as error:
        raise ImproperlyConfigured(f"{name} is not set, and is not to be kept in {path}: {error.strerror}.") from None
    if len(kept) < SECRET_LENGTH:
        raise ImproperlyConfigured(f"{path} holds no {name}: put it back, or remove the file to have another drawn.")
    return kept


def _draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may start at once: the first to link its file wins, and all read that file.
    mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    mine.touch(mode=0o600)
    mine.write_text(secrets.token_urlsafe(48))
    try:
        path.hardlink_to(mine)
    except FileExistsError:
        pass
    finally:
        mine.unlink()
