from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring.lists.keys import EntryRefused
from scoring.privacy import holding, options
from scoring.privacy.holding import Piece


class Command(BaseCommand):
    help = "Write all that is held on an entity, such as a card, to a ZIP of JSON Lines and attached files."

    def add_arguments(self, parser: ArgumentParser) -> None:
        options.add_to(parser)
        parser.add_argument("--output", type=Path, help="where the ZIP goes; not with --dry-run")

    def handle(
        self,
        *args: Any,
        values: list[str],
        client: str | None,
        dry_run: bool,
        output: Path | None,
        **given: Any,
    ) -> None:
        if not dry_run and output is None:
            raise CommandError("--output: say where the ZIP goes, or only count with --dry-run.")
        owner = options.client_of(client)
        found = holding.pieces(
            schema=given["schema"], entity=given["entity"], values=options.values_of(values), client=owner
        )
        done = 0

        def told(piece: Piece) -> None:
            nonlocal done
            done += 1
            if done % 1_000 == 0:
                self.stderr.write(f"{done:,} rows", ending="\r")

        try:
            if output is None or dry_run:
                counts = Counter(piece.kind for piece in found)
            else:
                counts = holding.write(output, found, told)
        except EntryRefused as error:
            raise CommandError(f"--value: {error.part}: {error}") from error
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror or error}.") from error
        told_counts = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items())) or "nothing"
        self.stdout.write(f"{'There is' if dry_run else output}: {told_counts}.")
