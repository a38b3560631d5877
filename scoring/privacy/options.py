"""The options of the commands that are about an entity."""

import sys
from argparse import ArgumentParser

from django.core.management.base import CommandError

from scoring.models import Client

STDIN = "-"


def add_to(parser: ArgumentParser) -> None:
    parser.add_argument("--schema", required=True, help="the schema's name")
    parser.add_argument("--entity", required=True, help="such as card or customer")
    parser.add_argument(
        "--value",
        required=True,
        action="append",
        dest="values",
        help="what clients send of it, once for each part; -: the lines of the standard input, which no list of "
        "processes shows",
    )
    parser.add_argument("--client", help="the name of the client whose entity it is; default: that of every client")
    parser.add_argument("--dry-run", action="store_true", help="only count")


def values_of(values: list[str]) -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin] if values == [STDIN] else values


def client_of(name: str | None) -> Client | None:
    if name is None:
        return None
    try:
        return Client.objects.get(name=name)
    except Client.DoesNotExist:
        names = ", ".join(Client.objects.order_by("name").values_list("name", flat=True))
        raise CommandError(f"--client: there is no client {name!r}. Clients: {names}.") from None
