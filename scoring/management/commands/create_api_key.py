from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring.clients import keys
from scoring.exceptions import TooManyKeys
from scoring.models import Client


class Command(BaseCommand):
    help = "Make an API key for a client, and the client if it is new. The key is shown now and never again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("client", help="the client's name")

    def handle(self, *args: Any, **options: Any) -> None:
        client, _ = Client.objects.get_or_create(name=options["client"])
        try:
            _, key = keys.create(client=client)
        except TooManyKeys as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(key)
