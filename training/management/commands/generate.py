from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from training.core import generator, stages
from training.core.generator import files
from training.management.command import StagedCommand


class Command(StagedCommand):
    help = (
        "Generate card transactions with named fields and fraud in named scenarios, for `ingest --schema payments`. "
        "The same options make the same file, byte by byte."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, required=True, help="the file to write: .parquet or .csv")
        parser.add_argument("--force", action="store_true", help="replace a file of this name")
        size = parser.add_mutually_exclusive_group()
        size.add_argument("--rows", type=int, default=200_000, help="transactions; default: 200000")
        size.add_argument("--cards", type=int, help="instead: cards, each with about 0.97 transactions a day")
        parser.add_argument("--days", type=int, default=120, help="days of traffic, 60 or more; default: 120")
        parser.add_argument("--start", type=_day, default="2025-01-01", help="first day; default: 2025-01-01")
        parser.add_argument("--seed", type=int, default=0, help="default: 0")
        parser.add_argument(
            "--fraud-share", type=float, default=0.005, help="share of fraudulent transactions; default: 0.005"
        )

    def run(self, options: dict[str, Any]) -> None:
        path: Path = options["output"]
        if path.suffix not in files.WRITERS:
            raise CommandError(f"--output must end with {' or '.join(files.WRITERS)}, unlike {path.name}.")
        if not path.parent.is_dir():
            raise CommandError(f"--output: there is no directory {path.parent}.")
        if path.exists() and not options["force"]:
            raise CommandError(f"{path} is there already. Name another --output, or replace it with --force.")
        wanted = generator.wanted(
            rows=options["rows"],
            card_count=options["cards"],
            days=options["days"],
            start=options["start"],
            seed=options["seed"],
            fraud_share=options["fraud_share"],
        )
        scenarios = files.write(
            generator.generated(wanted),
            path,
            lambda rows: stages.enter(f"{rows:,} of {wanted.rows:,} transactions are generated"),
        )
        total = scenarios.total()
        frauds = total - scenarios.pop("")
        self.stdout.write(f"  {total:,} transactions of {wanted.cards:,} cards, {frauds / total:.3%} of them fraud:")
        for name, count in scenarios.most_common():
            self.stdout.write(f"    {name} {count:,}")
        self.stdout.write(f"  {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"give a day like 2025-01-01, not {text}") from error
