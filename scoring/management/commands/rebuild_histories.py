from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training import registry
from training.core import stages
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = (
        "Rebuild the histories of a schema's entities from its stored transactions and labels: when its computed "
        "features were changed, or when histories are lost. Workers may go on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", required=True, help="the schema's name")

    def handle(self, *args: Any, **options: Any) -> None:
        from scoring.worker import arrivals

        try:
            schema = registry.declaration_in_force(options["schema"])
            with stages.printed(self.stdout):
                done = arrivals.rebuild(schema, self._progress)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done} histories of {schema.name} are rebuilt.")

    def _progress(self, entity: str, share: float) -> None:
        self.stdout.write(f"{entity}: {share:.0%}")
        stages.enter(f"{entity}: {share:.0%}")
