from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, date, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from monitoring.rollups import checking, counting, rebuilding, sums, updating
from monitoring.rollups.counting import DAY, start_of
from monitoring.rollups.models import RollupProgress, Span

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Count the traffic of past days again, for dashboards and alerts, and refused calls, rules and decided "
        "reviews. Beat keeps these counts up to date, and may go on. Hours whose rows are gone keep their counts. With "
        "--check nothing is written: the counts are compared with the rows, one by one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", type=_day, dest="first", metavar="DATE", help="in UTC; by default the first day")
        parser.add_argument("--to", type=_day, dest="last", metavar="DATE", help="included; by default today")
        parser.add_argument("--check", action="store_true", help="compare, and write nothing")
        parser.add_argument("--even-if-fewer", action="store_true", help="also hours that have lost rows since")

    def handle(self, *args: Any, **options: Any) -> None:
        today = timezone.now().astimezone(UTC).date()
        begin = counting.first_answer()
        first = options["first"] or (begin.astimezone(UTC).date() if begin else today)
        last = min(options["last"] or today, today)
        if first > last:
            raise CommandError(f"--from, {first}, is after --to, {last}.")
        if options["check"]:
            self.check_days(first, last)
        else:
            self.rebuild(first, last, even_if_fewer=options["even_if_fewer"], verbosity=options["verbosity"])

    def rebuild(self, first: date, last: date, *, even_if_fewer: bool, verbosity: int) -> None:
        days = (last - first).days + 1
        answers = kept_hours = 0
        for done, rebuilt in enumerate(rebuilding.rebuild(first, last, even_if_fewer=even_if_fewer), 1):
            answers += rebuilt.answers
            kept_hours += rebuilt.kept_hours
            if verbosity > 0:
                kept = f", {rebuilt.kept_hours} hours kept as rows are gone" if rebuilt.kept_hours else ""
                self.stdout.write(f"{rebuilt.day}: {rebuilt.answers:,} answers{kept} ({done} of {days} days)")
        self.stdout.write(f"{answers:,} answers of {days} days are counted; {kept_hours} hours were kept as they were.")

    def check_days(self, first: date, last: date) -> None:
        """Raises:
        CommandError: roll-ups and rows differ.
        """
        progress = RollupProgress.objects.filter(pk=1).first()
        if progress is None or progress.counted_until is None:
            raise CommandError("No traffic has been counted yet: beat and a worker of the bulk queue do that.")
        faults: list[str] = []
        # The latest minutes may have answers that the next run finds.
        settled = progress.counted_until - updating.LATE
        minutes_since = timezone.now() - timedelta(days=settings.ROLLUP_MINUTES_DAYS)
        hours_since = timezone.now() - timedelta(days=settings.ROLLUP_HOURS_DAYS)
        sums_since = max(kind.oldest_whole(timezone.now()) for kind in sums.KINDS)
        for number in range((last - first).days + 1):
            day = rebuilding.midnight(first) + number * DAY
            for span in Span:
                if span == Span.DAY or day >= (hours_since if span >= Span.HOUR else minutes_since):
                    until = min(day + DAY, start_of(settled, span.length))
                    faults += checking.differences(span, day, until)
                    if span != Span.MINUTE and day >= sums_since:
                        faults += checking.differences_of_sums(span, day, until)
            self.stdout.write(f"{day:%Y-%m-%d}: {len(faults)} differences so far")
        if faults:
            more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise CommandError("\n".join([*faults[:SHOWN], *more, "Count them again: manage.py rebuild_rollups"]))
        self.stdout.write("Every roll-up says what its rows say.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no date; write it as 2026-03-01.") from None
