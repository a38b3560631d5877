from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from scoring.learning import export
from scoring.management.options import check_days
from training.core import stages
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = (
        "Write a snapshot of decided transactions to train on: their values and computed features as they were when "
        "decided, what was known of them at a time, and weights."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", default=settings.DEFAULT_SCHEMA, help="default: %(default)s")
        parser.add_argument(
            "--as-of",
            metavar="TIME",
            help="whose knowledge the labels are: an ISO time, as 2026-11-24T15:30, without an offset in UTC; "
            "default: now",
        )
        parser.add_argument(
            "--maturity-days",
            type=float,
            default=settings.LABEL_MATURITY_DAYS,
            help="how old a decision has to be; default: LABEL_MATURITY_DAYS, %(default)g",
        )

    def handle(self, *args: Any, schema: str, as_of: str | None, maturity_days: float, **options: Any) -> None:
        check_days("--maturity-days", maturity_days)
        try:
            with stages.printed(self.stdout):
                made = export.export(schema, as_of=_moment(as_of), maturity_days=maturity_days)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"  {made.rows:,} rows, {made.frauds:,} of them fraud; they stand for {made.stands_for:,.0f}")
        for reason, count in made.left_out.items():
            self.stdout.write(f"  {count:,} left out, {reason}")
        name = made.path.relative_to(settings.DATASETS_DIR)
        self.stdout.write(f"  {made.path}\nmanage.py train --schema {schema} --snapshot {name}")


def _moment(text: str | None) -> datetime:
    if text is None:
        return timezone.now()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--as-of takes an ISO time, as 2026-11-24T15:30, and not {text!r}.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
