from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from training.datasets import parquet_path, storage, ulb
from training.datasets.download import Progress, copy, verify
from training.exceptions import DatasetError
from training.schema import load_schema


class Command(BaseCommand):
    help = "Get the ULB credit-card transactions, verify and validate them, and store them as Parquet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--file", type=Path, help="a creditcard.csv that you have already")
        parser.add_argument(
            "--source", choices=["file", *ulb.SOURCES], help="use this source only; default: each in turn"
        )
        parser.add_argument("--force", action="store_true", help="ingest again, even if the dataset is here")

    def handle(self, *args: Any, **options: Any) -> None:
        schema = load_schema("ulb")
        target = parquet_path(settings.DATASETS_DIR, schema.name)
        report = storage.read_report(target)
        if report is None or report.source_sha256 != ulb.SHA256 or options["force"]:
            target.parent.mkdir(parents=True, exist_ok=True)
            csv = self._fetch(target.with_name(ulb.FILE_NAME), options["file"], options["source"])
            self.stdout.write("Validating and storing …")
            try:
                frame = storage.read_csv(csv, schema)
                report = storage.validate(frame, schema, source_sha256=ulb.SHA256)
            except DatasetError as error:
                raise CommandError(str(error)) from error
            storage.write(frame, schema, report, target)
            csv.unlink()
        else:
            self.stdout.write("The dataset is here already.")
        for line in report.lines():
            self.stdout.write(f"  {line}")
        self.stdout.write(f"  {target} ({target.stat().st_size / 1e6:.0f} MB)")

    def _fetch(self, csv: Path, file: Path | None, only: str | None) -> Path:
        """Try the sources in turn until one has the right file. Returns where it is."""
        progress = Progress(Console())
        sources = dict(ulb.SOURCES)
        if file:
            sources = {"file": lambda target, progress: copy(file, target, progress)} | sources
        if only:
            if only not in sources:
                raise CommandError("--source file needs --file.")
            sources = {only: sources[only]}
        failures = []
        for name, fetch in sources.items():
            part = csv.with_name(f"{csv.name}.{name}")
            self.stdout.write(f"Source {name} …")
            try:
                fetch(part, progress)
                verify(part, size_bytes=ulb.SIZE_BYTES, sha256=ulb.SHA256, progress=progress)
            except DatasetError as error:
                failures.append(f"{name}: {error}")
                self.stderr.write(f"  {error}")
                # What is too short may be the beginning of the right file, and is taken up by the next run.
                if name == "file" or (part.exists() and part.stat().st_size >= ulb.SIZE_BYTES):
                    part.unlink(missing_ok=True)
                if name == "file":
                    raise CommandError(f"{file} is refused: {error}") from error
                continue
            part.replace(csv)
            return csv
        raise CommandError("No source had the right file.\n  " + "\n  ".join(failures))
