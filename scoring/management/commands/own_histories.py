import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring import served
from scoring.models import Client
from scoring.tenancy import parting, tenants
from training import registry
from training.core.exceptions import did_you_mean


class Command(BaseCommand):
    help = (
        "Give a client tokens of its own, and so histories, links and list entries, where it shared them with other "
        "clients of before an upgrade. It can be repeated. Run rebuild_histories for each schema afterwards."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--client", required=True, help="the client's name")

    def handle(self, *args: Any, **options: Any) -> None:
        served.look()
        client = Client.objects.filter(name=options["client"]).first()
        if client is None:
            names = list(Client.objects.values_list("name", flat=True))
            raise CommandError(f"There is no client {options['client']!r}.{did_you_mean(options['client'], names)}")
        if not client.own_histories:
            Client.objects.filter(pk=client.pk).update(own_histories=True)
            time.sleep(tenants.ASK_AGAIN_S)  # until all processes know
        done = parting.part(client, by=registry.account())
        self.stdout.write(
            f"{client.name} has tokens of its own; those of {done:,} transactions were changed. Now run "
            "`manage.py rebuild_histories --schema NAME` for each schema."
        )
