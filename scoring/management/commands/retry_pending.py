from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand

from scoring.models import Pending
from scoring.worker.pending import retry


class Command(BaseCommand):
    help = "Try again to score the stored transactions that were set aside."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="*", type=UUID, metavar="ID", help="these alone, by Fraudsite's id")
        parser.add_argument("--schema", choices=settings.SCHEMAS, help="those of one schema alone")
        parser.add_argument("--all", action="store_true", help="also those that wait and are not set aside")

    def handle(self, *args: Any, ids: list[UUID], schema: str | None, all: bool, **options: Any) -> None:
        pending = Pending.objects.all()
        if not (all or ids):
            pending = pending.filter(attempts__gte=settings.PENDING_ATTEMPTS_LIMIT)
        if ids:
            pending = pending.filter(pk__in=ids)
        if schema:
            pending = pending.filter(transaction__schema=schema)
        self.stdout.write(f"{retry(pending)} will be tried again within {settings.PENDING_SWEEP_S:g} s.")
