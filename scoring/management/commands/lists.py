from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from scoring import served
from scoring.decisions import Decision
from scoring.lists import changes, files
from training import registry
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = "Make lists and show them, import their entries from CSV, and export them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="act", required=True, metavar="ACTION")
        for name, meaning in {
            "show": "show the lists of a schema",
            "create": "make a list",
            "import": "add the entries of a CSV file to a list: all, or none if any line is refused",
            "export": "write the entries of a list as CSV",
            "activate": "make a draft live: it counts itself, or changes the list of its name",
        }.items():
            action = actions.add_parser(name, help=meaning, description=meaning)
            action.add_argument("--schema", default=settings.DEFAULT_SCHEMA, help="default: %(default)s")
            if name != "show":
                action.add_argument("list", help="name of the list")
            if name in ("create", "import", "export"):
                action.add_argument("--draft", action="store_true", help="a draft, which counts in backtests only")
            if name == "create":
                action.add_argument("about", help="the entity or field that it is about")
                action.add_argument(
                    "--action", choices=Decision.values, default="", help="without it, only rules refer to the list"
                )
                action.add_argument("--max-amount", type=float, help="it does not decide about larger amounts")
                action.add_argument("--note", default="", help="what it is for")
            if name == "import":
                action.add_argument("file", type=Path, help="CSV with a line of names, such as value,expires,note")
            if name in ("create", "import", "activate"):
                action.add_argument("--by", default=registry.account(), help="who does it; default: %(default)s")
            if name == "export":
                action.add_argument("file", type=Path, nargs="?", help="default: the standard output")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        served.look()
        try:
            getattr(self, f"_{act}")(options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def _show(self, options: dict[str, Any]) -> None:
        for row in (*changes.live(options["schema"]), *changes.drafts(options["schema"])):
            does = row.action or "for rules"
            if row.action and row.max_amount is not None:
                does += f" up to {row.max_amount:,g}"
            name = f"{row.name} (draft)" if row.is_draft else row.name
            self.stdout.write(f"{name}: about {row.about}, {does}, {row.size:,} entries. {row.note}".strip())

    def _create(self, options: dict[str, Any]) -> None:
        given = {name: options[name] for name in ("schema", "about", "action", "max_amount", "note", "by")}
        row = changes.create(name=options["list"], is_draft=options["draft"], **given)
        self.stdout.write(f"{row} is made.")

    def _activate(self, options: dict[str, Any]) -> None:
        draft = changes.named(options["schema"], options["list"], is_draft=True)
        self.stdout.write(f"{changes.make_live(draft, by=options['by'])} counts from now on.")

    def _import(self, options: dict[str, Any]) -> None:
        row = changes.named(options["schema"], options["list"], is_draft=options["draft"])
        try:
            with options["file"].open("rb") as file:
                report = files.load(row, file, by=options["by"])
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from error
        if report.refused:
            told = [
                f"line {each.line}{f', {each.column}' if each.column else ''}: {each.remedy}" for each in report.refused
            ]
            if more := report.refused_count - len(told):
                told.append(f"and {more:,} more")
            raise CommandError("Nothing was stored:\n" + "\n".join(told))
        added = report.added
        self.stdout.write(f"{added.new:,} added, {added.replaced:,} replaced, {added.unchanged:,} there already.")

    def _export(self, options: dict[str, Any]) -> None:
        parts = files.dump(changes.named(options["schema"], options["list"], is_draft=options["draft"]))
        if options["file"] is None:
            for part in parts:
                self.stdout.write(part, ending="")
            return
        try:
            with options["file"].open("w", encoding="utf-8", newline="") as file:
                file.writelines(parts)
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be written: {error.strerror}.") from error
