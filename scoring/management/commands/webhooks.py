from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from scoring.models import Client, WebhookEndpoint
from scoring.webhooks import endpoints, outbox
from scoring.webhooks.endpoints import EndpointRefused, EndpointRemoved
from scoring.webhooks.types import EventType
from training import registry

NO_SUCH = "There is no such endpoint; `webhooks list` shows all."


class Command(BaseCommand):
    help = "Look after the endpoints of webhooks. `deliver_webhooks` sends to them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="all endpoints, with their keys")
        add = actions.add_parser("add", help="make one; its secret is shown now and never again")
        add.add_argument("client", help="the client's name")
        add.add_argument("url")
        add.add_argument("--events", nargs="+", default=EventType.values, metavar="TYPE", help="all, unless chosen")
        add.add_argument("--schemas", nargs="+", default=[], metavar="NAME", help="all, unless chosen")
        for action, does in {
            "rotate": "add a secret, shown now and never again; earlier ones sign for a while",
            "pause": "send nothing until it is resumed; its events wait",
            "resume": "send again, also if the receiver had asked for no more",
            "remove": "send nothing any more",
            "test": "send it a test event",
            "replay": "send its deliveries again",
        }.items():
            one = actions.add_parser(action, help=does)
            one.add_argument("endpoint", type=UUID, help="its key, as `list` shows it")
            if action == "replay":
                one.add_argument(
                    "--since", type=_moment, help="those of events from this time on, as 2026-01-31T12:00Z"
                )
                one.add_argument("--all", action="store_true", help="also those that were delivered; else the dead")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, options["action"])(options)
        except EndpointRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        except EndpointRemoved:
            raise CommandError(NO_SUCH) from None

    def list(self, options: dict[str, Any]) -> None:
        for row in WebhookEndpoint.objects.select_related("client").exclude(state="removed").order_by("client", "pk"):
            self.stdout.write(f"{row.key}  {row.state:<8}  {row.client}  {row.url}  {', '.join(row.event_types)}")

    def add(self, options: dict[str, Any]) -> None:
        client = Client.objects.filter(name=options["client"]).first()
        if client is None:
            raise CommandError(f"There is no client {options['client']!r}; `create_api_key` makes one.")
        row, secret = endpoints.create(
            client=client, url=options["url"], event_types=options["events"], schemas=options["schemas"]
        )
        _note(row, "Made.", "added")
        self.stdout.write(f"{row.key}\n{secret}")

    def rotate(self, options: dict[str, Any]) -> None:
        row = _find(options)
        _note(row, "Added a secret.")
        self.stdout.write(endpoints.rotate(row))

    def pause(self, options: dict[str, Any]) -> None:
        row = _find(options)
        endpoints.change(row, state="paused")
        _note(row, "Paused.")

    def resume(self, options: dict[str, Any]) -> None:
        row = _find(options)
        endpoints.change(row, state="active")
        _note(row, "Resumed.")

    def remove(self, options: dict[str, Any]) -> None:
        row = _find(options)
        endpoints.remove(row)
        _note(row, "Removed.", "deleted")

    def test(self, options: dict[str, Any]) -> None:
        self.stdout.write(endpoints.send_test(_find(options)).message_id)

    def replay(self, options: dict[str, Any]) -> None:
        row = _find(options)
        count = outbox.replay(outbox.of_endpoint(row, since=options["since"], only_dead=not options["all"]))
        _note(row, f"Sent {count:,} deliveries again.")
        self.stdout.write(f"{count:,} deliveries are sent again.")


def _note(row: WebhookEndpoint, detail: str, action: str = "changed") -> None:
    endpoints.noted(row, action, detail, person=registry.account())


def _find(options: dict[str, Any]) -> WebhookEndpoint:
    row = WebhookEndpoint.objects.filter(key=options["endpoint"]).exclude(state="removed").first()
    if row is None:
        raise CommandError(NO_SUCH)
    return row


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError("Give a date or a time, as 2026-01-31T12:00Z.") from None
