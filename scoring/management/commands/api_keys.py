from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from scoring.acts import acted
from scoring.clients import keys
from scoring.clients.models import all_scopes
from scoring.models import ApiKey, Client
from training import registry
from training.core.exceptions import FraudsiteError

HEADS = ("key", "client", "name", "state", "expires", "last use", "may")


class Command(BaseCommand):
    help = "Show API keys, make one that replaces another, and revoke them. `create_api_key` makes the first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="act", required=True, metavar="ACTION")
        for name, meaning in {
            "show": "show the active keys, with when they expire and were last used",
            "rotate": "make a key with the rights and limits of another, which goes on working; it is shown once",
            "revoke": "revoke a key: it stops working within a second",
        }.items():
            action = actions.add_parser(name, help=meaning, description=meaning)
            if name == "show":
                action.add_argument("--client", help="of this client; default: of all")
                action.add_argument("--all", action="store_true", dest="ended", help="also expired and revoked ones")
            else:
                action.add_argument("key", help="its beginning, as `show` tells it")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        try:
            getattr(self, f"_{act}")(options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def _show(self, options: dict[str, Any]) -> None:
        shown = ApiKey.objects.select_related("client").order_by("client__name", "created_at")
        if options["client"]:
            if not Client.objects.filter(name=options["client"]).exists():
                raise CommandError(f"There is no client {options['client']}.")
            shown = shown.filter(client__name=options["client"])
        if not options["ended"]:
            shown = shown.filter(ApiKey.live(timezone.now()))
        rows = [HEADS, *(_cells(key) for key in shown)]
        widths = [max(len(row[place]) for row in rows) for place in range(len(HEADS))]
        for row in rows:
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def _rotate(self, options: dict[str, Any]) -> None:
        _, key = keys.rotate(key=_found(options["key"]))
        self.stdout.write(key)

    def _revoke(self, options: dict[str, Any]) -> None:
        key = _found(options["key"])
        if keys.revoke(key=key):
            detail = f"{key} of {key.client}: revoked."
            acted.send(sender=ApiKey, action="changed", key=key.pk, detail=detail, person=registry.account())
        self.stdout.write(f"{key} of {key.client} is revoked. It stops working within a second.")


def _found(beginning: str) -> ApiKey:
    """The one key with this beginning. More of a key than its prefix is not stored, and so not compared."""
    shown = beginning.rstrip("….")
    prefixes = {shown[:9], shown[:12]}  # of an ordinary key, and of one for tests
    found = list(ApiKey.objects.select_related("client").filter(prefix__in=prefixes).order_by("revoked_at")[:2])
    if not found:
        raise CommandError("There is no such key. `manage.py api_keys show --all` tells how they begin.")
    if len(found) > 1:
        raise CommandError("Two keys begin alike: use the admin.")
    return found[0]


def _cells(key: ApiKey) -> tuple[str, ...]:
    state = "revoked" if key.revoked_at else "expired" if key.expired() else "active"
    scopes = "everything" if set(key.scopes) == set(all_scopes()) else ",".join(key.scopes)
    may = " ".join([scopes, *key.schemas, *key.networks])
    expires = _day(key.expires_at) + (" (soon)" if key.expires_soon() else "")
    return str(key), key.client.name, key.name or "-", state, expires, _day(key.last_used_at), may


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"
