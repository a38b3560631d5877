from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from scoring.retention.partitioning import PartitioningRefused, partition


class Command(BaseCommand):
    help = (
        "Partition transactions and predictions by time, on PostgreSQL, so that retention drops whole partitions. "
        "Everything may go on meanwhile; predict calls wait for some milliseconds at its end. It needs the owner of "
        "the tables, and can be repeated after a failure. There is no way back but to restore a backup."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            for step in partition(timezone.now()):
                self.stdout.write(step)
        except PartitioningRefused as refusal:
            raise CommandError(str(refusal)) from refusal
