from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training import rates, registry
from training.core.exceptions import FraudsiteError
from training.core.exchange import files
from training.core.schema.kinds import codes


class Command(BaseCommand):
    help = (
        "Import rates of exchange from a CSV, JSON, JSON Lines or Parquet file with the columns currency, rate and "
        "valid_from, or from the European Central Bank's eurofxref-hist.csv. A rate is how many units of the currency "
        "one unit of the base buys. Rates that are known already stay as they are. If one is refused, none is stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="the file of rates")
        parser.add_argument("--base", default="EUR", help="the currency in which they are quoted; default: EUR")

    def handle(self, *args: Any, **options: Any) -> None:
        base, path = options["base"], options["file"]
        if base not in codes.currencies():
            raise CommandError(f"--base is a code of ISO 4217, such as EUR, not {base!r}.")
        try:
            found = files.read(path, base)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        new = rates.add(found.quotes, base=base, source=path.name, by=registry.account())
        currencies = len({quote.currency for quote in found.quotes})
        self.stdout.write(
            f"{len(found.quotes):,} rates of {currencies:,} currencies to {base}: {new:,} new, "
            f"{len(found.quotes) - new:,} known already."
        )
        if found.left_out:
            self.stdout.write(f"Left out, as they are no currencies of ISO 4217 any more: {', '.join(found.left_out)}.")
