import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring.lists.keys import EntryRefused
from scoring.models import Client, Erasure
from scoring.privacy import erasing, options
from training.registry import account

PAUSE_S = 0.5


class Command(BaseCommand):
    help = (
        "Erase an entity, such as a card, from all that is stored: the right to be forgotten. It may be killed and run "
        "again. The system may be live."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        options.add_to(parser)
        parser.add_argument("--reference", default="", help="what the request is known by elsewhere, for the receipt")

    def handle(
        self, *args: Any, values: list[str], client: str | None, dry_run: bool, reference: str, **given: Any
    ) -> None:
        row = self._begun(given["schema"], given["entity"], options.values_of(values), client, reference)
        try:
            self._work(row, Erasure.State.COUNTING)
            self._tell(row, "There is")
            if dry_run:
                erasing.cancel(row, by=account())
                self.stdout.write("Nothing was erased.")
                return
            erasing.confirm(row, by=account())
            self._work(row, Erasure.State.ERASING)
        except KeyboardInterrupt:
            raise CommandError("Interrupted. What was confirmed goes on in a bulk worker.") from None
        self._tell(row, "Erased")
        self.stdout.write(f"The receipt is {row.pk}. docs/privacy.md has what is kept elsewhere, and for how long.")

    def _begun(self, schema: str, entity: str, values: list[str], name: str | None, reference: str) -> Erasure:
        client: Client | None = options.client_of(name)
        try:
            return erasing.begin(
                schema=schema, entity=entity, values=values, client=client, reference=reference, by=account()
            )
        except EntryRefused as error:
            raise CommandError(f"--value: {error.part}: {error}") from error

    def _work(self, row: Erasure, state: str) -> None:
        def told(row: Erasure) -> None:
            self.stderr.write(f"{row.get_state_display()}: {row.looked_at:,} transactions looked at.", ending="\r")

        while row.state == state:
            if erasing.work(row, seconds=PAUSE_S, on_step=told):
                time.sleep(erasing.WAIT_S)
        self.stderr.write("")

    def _tell(self, row: Erasure, begin: str) -> None:
        found = ", ".join(f"{count:,} {kind}" for kind, count in row.found)
        self.stdout.write(f"{begin}: {found or 'nothing'}.")
