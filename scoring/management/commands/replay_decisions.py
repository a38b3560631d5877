from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring.management.options import rows
from scoring.policies import reruns
from training.core.schema import schema_names

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Compute old decisions again on the versions of model and policy that made them, and report what differs:"
        " scores to the last bit, decisions, thresholds, rules and lists."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", required=True, help="an ISO time, as 2026-11-24T15:30; without an offset UTC")
        parser.add_argument("--sample", type=rows, default=1000, help="how many, at random; 0 for all; default: 1000")
        parser.add_argument("--schema", default="", help="of this schema alone")
        parser.add_argument(
            "--tolerance", type=float, default=0.0, help="how far a score may differ, for another machine; default: 0"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 <= options["tolerance"] <= 1:
            raise CommandError(f"--tolerance is 0 to 1, like a score, and not {options['tolerance']:g}.")
        if options["schema"] and options["schema"] not in schema_names():
            raise CommandError(f"There is no schema {options['schema']}. Known: {', '.join(schema_names())}.")
        predictions = reruns.sampled(_moment(options["since"]), sample=options["sample"], schema=options["schema"])
        count = 0
        for difference in reruns.differences(predictions, tolerance=options["tolerance"]):
            count += 1
            if count <= SHOWN:
                self.stdout.write(
                    f"{difference.transaction} {difference.part}: stored {difference.stored!r},"
                    f" computed {difference.computed!r}"
                )
        told = f"{len(predictions):,} decisions computed again"
        if count:
            raise CommandError(f"{told}, {count:,} differences, of which the first {min(count, SHOWN)} are shown.")
        self.stdout.write(f"{told}, none differs.")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--since takes an ISO time, as 2026-11-24T15:30, and not {text!r}.") from error
