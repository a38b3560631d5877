import gc
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand

from scoring.models import Client
from scoring.reviews import label_files
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = "Store labels of a client's transactions from a CSV or Parquet file, and report the rows that are refused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="with the fields of the API's labels as columns")
        parser.add_argument("--client", required=True, help="the name of the client whose transactions they are")

    def handle(self, *args: Any, file: Path, client: str, **options: Any) -> None:
        try:
            owner = Client.objects.get(name=client)
        except Client.DoesNotExist:
            names = ", ".join(Client.objects.order_by("name").values_list("name", flat=True))
            raise CommandError(f"--client: there is no client {client!r}. Clients: {names}.") from None
        # Otherwise the collector walks all of Django again and again, in vain.
        gc.freeze()
        try:
            with file.open("rb") as opened:
                report = label_files.load(opened, owner.pk)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        for refusal in report.refused:
            self.stderr.write(f"Line {refusal.line}, {refusal.field or 'the row'}: {refusal.reason}")
        self.stdout.write(report.summary)
        if report.refused_count:
            raise CommandError(
                "Correct the refused rows and import the file again: what is stored is not stored twice."
            )
