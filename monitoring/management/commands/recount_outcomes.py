from argparse import ArgumentParser
from datetime import UTC, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from monitoring.matured import updating
from scoring.management.options import DAYS_LIMIT, check_days


class Command(BaseCommand):
    help = (
        "Count again what became of decisions, for the dashboard Model. Beat keeps these counts up to date by itself; "
        "this replaces them all. It can be repeated, and beat may go on. Days whose predictions are gone keep their "
        "counts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days", type=float, default=DAYS_LIMIT, help="only those of so many days before now; by default all"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        check_days("--days", options["days"])
        since = (timezone.now() - timedelta(days=options["days"])).astimezone(UTC).date()
        counted = 0
        for day in updating.recount(since=since):
            counted += 1
            if options["verbosity"] > 1:
                self.stdout.write(f"{day}")
        self.stdout.write(f"The outcomes of {counted} days are counted.")
