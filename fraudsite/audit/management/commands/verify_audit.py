from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand

from fraudsite.audit import chain


class Command(BaseCommand):
    help = "Checks that no entry of the audit trail was changed or removed; names the first that was."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--anchor", default="", metavar="NUMBER:HASH", help="as an earlier check printed it")

    def handle(self, *, anchor: str, **_: Any) -> None:
        found = chain.verify(anchor=anchor)
        self.stdout.write(f"{found.entries:,} entries, none changed or removed.")
        if found.head:
            self.stdout.write(f"Keep this elsewhere, for --anchor: {found.head}")
