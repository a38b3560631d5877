"""What is wanted of a key, as commands are told it, checked."""

import re
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from scoring import served
from scoring.clients.models import LIMITS, NUMBER_LIMIT, all_scopes
from scoring.clients.networks import network
from training.core.exceptions import FraudsiteError, did_you_mean

DAYS_LIMIT = 3_650


class WantedInvalid(FraudsiteError):
    """What is wanted of a key is not valid. Nothing was made."""


def add_options(parser: ArgumentParser) -> None:
    """The options of commands that make keys. Their names are those of the key's fields."""
    parser.add_argument("--name", default="", help="what uses it, such as a shop or a job")
    parser.add_argument("--scopes", default="", help=f"with commas, of {', '.join(all_scopes())}; default: all")
    parser.add_argument("--schemas", default="", help="with commas; default: all")
    parser.add_argument("--networks", default="", help="with commas, such as 203.0.113.0/24; default: anywhere")
    parser.add_argument("--expires", default="", help="a day, as 2027-01-31, or in how many days: 90d; default: never")
    parser.add_argument("--test", action="store_true", help="for tests: values choose the outcome, nothing is stored")
    for name in LIMITS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="default: the setting's; 0: no limit")


def fields_of(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a key that these options describe.

    Raises:
        WantedInvalid: names the option and the remedy.
    """
    for name in ("scopes", "schemas", "networks"):
        if options[name] and not _words(options[name]):  # such as a comma between variables that are not set
            raise WantedInvalid(f"--{name} names none. Name some, or leave it out for no restriction.")
    scopes, schemas = _words(options["scopes"]), _words(options["schemas"])
    _check_known("--scopes", scopes, all_scopes())
    _check_known("--schemas", schemas, list(served.now().schemas))
    try:
        networks = [str(network(word)) for word in _words(options["networks"])]
    except ValueError as error:
        raise WantedInvalid(f"--networks: {error}") from None
    limits = {name: options[name] for name in LIMITS if options[name] is not None}
    for name, value in limits.items():
        least = 1 if name.endswith("burst") else 0
        if not least <= value <= NUMBER_LIMIT:
            raise WantedInvalid(f"--{name.replace('_', '-')} takes a whole number from {least} to {NUMBER_LIMIT:,}.")
    if len(options["name"]) > 100:
        raise WantedInvalid("--name has at most 100 characters.")
    fields = {"name": options["name"], "schemas": schemas, "networks": networks, "is_test": options["test"], **limits}
    return fields | {"scopes": scopes or all_scopes(), "expires_at": _moment(options["expires"])}


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(text.replace(",", " ").split()))


def _check_known(option: str, words: list[str], known: list[str]) -> None:
    for word in words:
        if word not in known:
            hint = did_you_mean(word, known) or f" Known: {', '.join(known)}."
            raise WantedInvalid(f"{option}: there is no {word[:50]}.{hint}")


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    if (days := re.fullmatch(r"(\d{1,4})d", text)) and 1 <= int(days[1]) <= DAYS_LIMIT:
        return timezone.now() + timedelta(days=int(days[1]))
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise WantedInvalid(f"--expires takes a day, such as 2027-01-31, or 1d to {DAYS_LIMIT}d.") from None
    if moment <= timezone.now():
        raise WantedInvalid("--expires: this day is over. Choose one to come.")
    return moment
