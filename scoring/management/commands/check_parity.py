from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring.management.options import rows
from scoring.models import Erasure
from training import registry
from training.core import stages
from training.core.exceptions import FraudsiteError

SHOWN = 100


class Command(BaseCommand):
    help = (
        "Compute the features of stored predictions again, offline, and compare them bit by bit with those computed "
        "online. Exits with 1 and names the differences, if there are any."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", required=True, help="the schema's name")
        parser.add_argument("--sample", type=rows, default=1000, help="how many predictions, drawn at random; 0: all")

    def handle(self, *args: Any, **options: Any) -> None:
        from scoring.worker import arrivals

        differing = set()
        count = 0
        try:
            schema = registry.declaration_in_force(options["schema"])
            with stages.printed(self.stdout):
                for difference in arrivals.differences(schema, options["sample"], self._progress):
                    differing.add(difference.transaction)
                    count += 1
                    if count <= SHOWN:
                        self.stdout.write(
                            f"{difference.transaction} {difference.feature}: "
                            f"stored {difference.stored!r}, computed {difference.computed!r}"
                        )
            left_out = arrivals.of_another_declaration(schema)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        if left_out:
            self.stdout.write(f"{left_out} were made under another declaration of {schema.name}, and are left out.")
        if differing and Erasure.objects.filter(schema=schema.name, state=Erasure.State.DONE).exists():
            self.stdout.write("Entities were erased: features that counted their transactions differ, and may.")
        if differing:
            raise CommandError(f"{len(differing)} predictions of {schema.name} differ, in {count} features.")
        self.stdout.write(f"No feature of {schema.name} differs.")

    def _progress(self, entity: str, share: float) -> None:
        self.stdout.write(f"{entity}: {share:.0%}")
        stages.enter(f"{entity}: {share:.0%}")
