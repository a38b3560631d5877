import hashlib
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from training import rates
from training.core import stages
from training.core.datasets import ingestion, parquet_path, raw, storage, ulb, validation
from training.core.datasets.download import Progress, copy, verify
from training.core.exceptions import DatasetError, FraudsiteError, did_you_mean
from training.core.exchange import files
from training.core.exchange.rates import NO_RATES, Rates
from training.core.schema import Schema, load_schema
from training.management.command import Options


class Command(BaseCommand):
    help = (
        "Get the ULB credit-card transactions, verify and validate them, and store them as Parquet. With --schema, "
        "ingest the raw file of another schema."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", default="ulb", help="whose transactions these are; default: ulb")
        parser.add_argument("--file", type=Path, help="ulb: a creditcard.csv that you have already")
        parser.add_argument(
            "--source",
            help=f"ulb: use this source only, of {', '.join(['file', *ulb.SOURCES])}; default: each in turn. "
            "Other schemas: the raw file: .parquet, .jsonl or .csv",
        )
        parser.add_argument(
            "--rates",
            type=Path,
            metavar="FILE",
            help="amounts in several currencies: a file of rates, as `import_rates` takes it; default: the database",
        )
        parser.add_argument("--rates-base", default="EUR", help="in which that file quotes; default: EUR")
        parser.add_argument("--force", action="store_true", help="ingest again, even if the dataset is here")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with stages.printed(self.stdout):
                schema = load_schema(options["schema"])
                target = parquet_path(settings.DATASETS_DIR, schema.name)
                if schema.name == "ulb":
                    report = self._ingest_ulb(schema, target, options)
                else:
                    report = self._ingest_file(schema, target, options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        for line in report.lines():
            self.stdout.write(f"  {line}")
        self.stdout.write(f"  {target} ({target.stat().st_size / 1e6:.0f} MB)")

    def _say(self, stage: str) -> None:
        self.stdout.write(stage)
        stages.enter(stage)

    def _ingest_ulb(self, schema: Schema, target: Path, options: Options) -> storage.Report:
        report = storage.read_report(target)
        if report is None or report.source_sha256 != ulb.SHA256 or options["force"]:
            target.parent.mkdir(parents=True, exist_ok=True)
            csv = self._fetch(target.with_name(ulb.FILE_NAME), options["file"], options["source"])
            self._say("Validating and storing …")
            frame = raw.read_csv(csv, schema)
            report = validation.validate(frame, schema, source_sha256=ulb.SHA256)
            storage.write(frame, schema, report, target)
            csv.unlink()
        else:
            self.stdout.write("The dataset is here already.")
        return report

    def _ingest_file(self, schema: Schema, target: Path, options: Options) -> storage.Report:
        if not options["source"]:
            raise CommandError(f"--schema {schema.name} needs its raw file: --source FILE.")
        source = Path(options["source"])
        try:
            with source.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CommandError(f"{source} cannot be read: {error}") from error
        self._say("Validating and storing …")
        known = self._rates(schema, options)
        return ingestion.ingest(
            source,
            schema,
            target,
            source_sha256=sha256,
            key=settings.ENTITY_HASH_KEY,
            earliest=settings.EVENT_TIME_EARLIEST,
            rates=known,
        )

    def _rates(self, schema: Schema, options: Options) -> Rates:
        """The rates of a file, or else of the database, if the schema needs any."""
        if not schema.amount_currency:
            if options["rates"]:
                raise CommandError(f"--rates: the amounts of {schema.name} are in one currency.")
            return NO_RATES
        if not options["rates"]:
            return rates.known()
        base = options["rates_base"]
        return rates.of((base, quote) for quote in files.read(options["rates"], base).quotes)

    def _fetch(self, csv: Path, file: Path | None, only: str | None) -> Path:
        """Try the sources in turn until one has the right file. Returns its path."""
        progress = Progress(Console())
        sources = dict(ulb.SOURCES)
        if file:
            sources = {"file": lambda target, progress: copy(file, target, progress)} | sources
        if only:
            if only == "file" and not file:
                raise CommandError("--source file needs --file.")
            if only not in sources:
                known = ["file", *ulb.SOURCES]
                raise CommandError(f"--source is one of {', '.join(known)}, not {only}.{did_you_mean(only, known)}")
            sources = {only: sources[only]}
        failures = []
        for name, fetch in sources.items():
            part = csv.with_name(f"{csv.name}.{name}")
            self._say(f"Source {name} …")
            try:
                fetch(part, progress)
                verify(part, size_bytes=ulb.SIZE_BYTES, sha256=ulb.SHA256, progress=progress)
            except DatasetError as error:
                failures.append(f"{name}: {error}")
                self.stderr.write(f"  {error}")
                # A file that is too short may be the beginning of the right one: the next run resumes its download.
                if name == "file" or (part.exists() and part.stat().st_size >= ulb.SIZE_BYTES):
                    part.unlink(missing_ok=True)
                if name == "file":
                    raise CommandError(f"{file} is refused: {error}") from error
                continue
            part.replace(csv)
            return csv
        raise CommandError("No source had the right file.\n  " + "\n  ".join(failures))
