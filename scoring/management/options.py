"""What options of several commands have in common."""

from argparse import ArgumentTypeError

from django.core.management.base import CommandError

DAYS_LIMIT = 3_650
ROWS_LIMIT = 1_000_000_000


def rows(text: str) -> int:
    """Read a number of rows, as an argument's `type`.

    Raises:
        ArgumentTypeError: it is negative, no whole number, or more than there can be.
    """
    if not text.isdecimal() or int(text) > ROWS_LIMIT:
        raise ArgumentTypeError(f"give a whole number from 0 to {ROWS_LIMIT:,}, not {text}")
    return int(text)


def check_days(option: str, days: float) -> None:
    """Check a number of days that a command looks back.

    Raises:
        CommandError: it is negative, no number, or more than ten years.
    """
    if not 0 <= days <= DAYS_LIMIT:
        raise CommandError(f"{option} takes a number of days from 0 to {DAYS_LIMIT:,}, and not {days:g}.")
