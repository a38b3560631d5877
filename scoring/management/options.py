"""What options of several commands have in common."""

from django.core.management.base import CommandError

DAYS_LIMIT = 3_650


def check_days(option: str, days: float) -> None:
    """Check a number of days that a command looks back.

    Raises:
        CommandError: it is negative, no number, or more than ten years.
    """
    if not 0 <= days <= DAYS_LIMIT:
        raise CommandError(f"{option} takes a number of days from 0 to {DAYS_LIMIT:,}, and not {days:g}.")
