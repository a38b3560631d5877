import hashlib
import os
import time
from argparse import ArgumentParser
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scoring.exceptions import RequestRefused
from scoring.files import chunks, formats, intake, reading, results, tasks
from scoring.files.intake import Upload, Wanted
from scoring.files.models import ACTIVE, BatchFile, Format, Mode, State
from scoring.management.options import rows
from scoring.models import Client

PIECE = 1 << 20
PAUSE_S = 0.2
# States in which a file with the same content is gone on with, or its result is there.
GOES_ON = (*ACTIVE, State.DONE)


class Command(BaseCommand):
    help = (
        "Score a file of transactions (CSV, JSON Lines or Parquet), together with the bulk workers that run, or alone. "
        "Ctrl-C interrupts it; the same command goes on with it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="its name tells its format, as in night.csv.gz")
        parser.add_argument("--client", required=True, help="the name of the client whose transactions they are")
        parser.add_argument("--schema", default=settings.DEFAULT_SCHEMA, help="of all rows")
        parser.add_argument("--mode", choices=Mode.values, default=Mode.SCORE, help="traffic is stored, too")
        parser.add_argument("--ignore", default="", help="columns to pass over, separated by commas")
        parser.add_argument("--output", type=Path, help="where the result goes; default: beside the file")
        parser.add_argument("--format", choices=Format.values, help="of the result; default: that of the file")
        parser.add_argument(
            "--max-refused", type=rows, default=0, help="fail if more rows than this are refused; default: 0"
        )

    def handle(self, *args: Any, file: Path, client: str, output: Path | None, **options: Any) -> None:
        form = formats.of_name(file.name)
        if form is None:
            raise CommandError(f"{file}: name it with .csv, .jsonl or .parquet, and .gz or .zst if it is packed.")
        owner = self._client(client)
        chosen = Format(options["format"] or form)
        target = output or file.with_name(f"{file.name.split('.')[0]}.scored.{chosen}")
        # Told before the rows are scored, not after.
        if target.is_dir() or not os.access(target.parent, os.W_OK):
            raise CommandError(f"--output: {target} cannot be written. Name a file in a directory that may be written.")
        wanted = Wanted(
            mode=options["mode"],
            format=form,
            schema=options["schema"],
            name=file.name[:100],
            ignored=[name.strip() for name in options["ignore"].split(",") if name.strip()],
        )
        try:
            row = self._taken(owner, file, wanted)
            self._go_on(row)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror or error}.") from error
        except RequestRefused as refusal:
            details = " ".join(error.detail for error in refusal.errors) or str(refusal)
            raise CommandError(details) from refusal
        except KeyboardInterrupt:
            raise CommandError("Interrupted. Run the same command to go on.") from None
        if row.state != State.DONE:
            raise CommandError(f"{row.get_state_display()}. {row.fault}")
        self._write(row, chosen, target)
        if row.refused > options["max_refused"]:
            raise CommandError(
                f"{row.refused:,} rows were refused, more than --max-refused {options['max_refused']:,}."
            )

    def _client(self, name: str) -> Client:
        try:
            return Client.objects.get(name=name)
        except Client.DoesNotExist:
            names = ", ".join(Client.objects.order_by("name").values_list("name", flat=True))
            raise CommandError(f"--client: there is no client {name!r}. Clients: {names}.") from None

    def _taken(self, owner: Client, file: Path, wanted: Wanted) -> BatchFile:
        """The file in the store: that of an earlier run of the same command, or a new one."""
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        earlier = BatchFile.objects.filter(
            client=owner,
            sha256=digest,
            mode=wanted.mode,
            schema=wanted.schema,
            format=wanted.format,
            state__in=GOES_ON,
        )
        for row in earlier.order_by("-created_at"):
            if row.ignored == wanted.ignored:
                self.stderr.write(f"Going on with {row}, which was sent {row.created_at:%Y-%m-%d %H:%M} UTC.")
                return row

        def pour(upload: Upload) -> None:
            with file.open("rb") as opened:
                while piece := opened.read(PIECE):
                    upload.write(piece)

        row, _ = intake.receive(owner, intake.check(owner, wanted), pour)
        return row

    def _go_on(self, row: BatchFile) -> None:
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("Reading", total=None)
            while row.state in ACTIVE:
                if row.state == State.WAITING:
                    went_on = reading.read(row)
                    if went_on:
                        tasks.send_work(row)
                else:
                    went_on = chunks.work(row)
                row.refresh_from_db()
                progress.update(bar, description=row.fault or "Scoring", total=row.rows, completed=row.done)
                if not went_on and row.state in ACTIVE:
                    time.sleep(PAUSE_S)

    def _write(self, row: BatchFile, form: Format, output: Path) -> None:
        unfinished = output.with_name(f".{output.name}.part")
        with unfinished.open("wb") as written:
            for piece in results.result_of(row, form):
                written.write(piece)
        unfinished.replace(output)
        self.stdout.write(f"{output}: {row.scored:,} scored, {row.refused:,} refused.")
        for fault in self._faults(row):
            self.stderr.write(fault)

    def _faults(self, row: BatchFile) -> list[str]:
        """The first faults of rows."""
        lines = (line for piece in results.report_of(row, Format.JSONL) for line in piece.splitlines())
        faults = [msgspec.json.decode(line) for line in islice(lines, 20)] if row.refused else []
        return [f"Line {fault['line']}, {fault['field'] or 'the row'}: {fault['reason']}" for fault in faults]
