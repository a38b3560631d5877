from argparse import ArgumentParser
from math import inf
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from scoring.retention import applying, histories, partitions
from training.core.exceptions import StoreUnavailable


class Command(BaseCommand):
    help = (
        "Delete what is older than it is to be kept, as the settings and the clients say, in small steps. Beat does so "
        "every night; it may be stopped and repeated at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only tell what would be deleted")
        parser.add_argument("--seconds", type=float, default=inf, help="begin no step after so many seconds")

    def handle(self, *args: Any, dry_run: bool, seconds: float, **options: Any) -> None:
        if not seconds > 0:  # nor is it nan
            raise CommandError("--seconds must be positive.")
        if dry_run:
            self._tell()
            return
        if partitions.are_ours():
            for name in partitions.make_ahead(timezone.now()):
                self.stdout.write(f"The partition {name} is made.")
        deleted: dict[str, int] = {}
        try:
            for progress in applying.apply(seconds=seconds):
                if progress.deleted:
                    self.stdout.write(f"{progress.deleted:,} {progress.what} are deleted.")
                elif progress.what not in deleted:  # of a partition, all that it has is deleted at once, at the end
                    self.stdout.write(f"Archiving {progress.what}, and deleting what belongs to them.")
                deleted[progress.what] = progress.deleted
        except StoreUnavailable as error:
            raise CommandError(f"What training needs cannot be archived, so nothing is deleted now. {error}") from error
        idle, _ = histories.delete_idle(seconds=seconds)
        if idle:
            self.stdout.write(f"{idle:,} histories without an event in HISTORY_RETENTION_DAYS are deleted.")
        if not idle and not deleted:
            self.stdout.write("Nothing is old enough to be deleted.")

    def _tell(self) -> None:
        now = timezone.now()
        for part in applying.due(now):
            self.stdout.write(f"{part.count():,} {part.what} would be deleted.")
        if settings.HISTORY_RETENTION_DAYS:
            days = f"{settings.HISTORY_RETENTION_DAYS} days"
            self.stdout.write(f"{histories.idle(now).count():,} histories without an event in {days} would be deleted.")
        self.stdout.write("Nothing was deleted.")
