from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring import linked
from training import registry
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = (
        "Write what links the alerts of a schema with each other, for reviews that were opened before there were "
        "links, or before an entity was declared. It can be repeated, and workers may go on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", required=True, help="the schema's name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            schema = registry.declaration_in_force(options["schema"])
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{linked.link_all(schema)} reviews of {schema.name} are linked.")
