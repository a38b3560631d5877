from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from scoring import served
from scoring.clients import keys, wanted
from scoring.models import Client
from training.core.exceptions import FraudsiteError

NAME_LENGTH = Client._meta.get_field("name").max_length or 0


class Command(BaseCommand):
    help = "Make an API key for a client, and the client if it is new. The key is shown now and never again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("client", help="the client's name")
        wanted.add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        served.look()
        if not 1 <= len(options["client"]) <= NAME_LENGTH:
            raise CommandError(f"A client's name has 1 to {NAME_LENGTH} characters.")
        try:
            fields = wanted.fields_of(options)
            with transaction.atomic():
                client, _ = Client.objects.get_or_create(name=options["client"])
                _, key = keys.create(client=client, **fields)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(key)
