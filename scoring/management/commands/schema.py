from argparse import ArgumentParser
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from training import declarations, registry
from training.core import figures, places, stages
from training.core.exceptions import BundleRefused, FraudsiteError, SchemaInvalid, SchemaNotFound
from training.core.features.declaration import Velocity
from training.core.schema import Field, Schema, comparison, load_schema, loaded, look_in, read_schema, schema_names
from training.models import ModelVersion, SchemaVersion

PIPE_WIDTH = 1000


class Command(BaseCommand):
    help = (
        "Check schemas, and show what is declared, which models serve it and which histories are stale. Draft one from "
        "a file."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("list", help="every schema", description="every schema")
        meaning = "check a schema, or all of them; a file may be a change that is not in place yet"
        check = actions.add_parser("check", help=meaning, description=meaning)
        check.add_argument("schema", nargs="?", metavar="NAME|FILE", help="a schema's name, or its file; default: all")

        meaning = "every declaration of a schema that was seen, and what each changed"
        versions = actions.add_parser("versions", help=meaning, description=meaning)
        versions.add_argument("schema", metavar="NAME", help="a schema's name")

        meaning = "draft a schema and its training configuration from a file of transactions"
        draft = actions.add_parser("draft", help=meaning, description=meaning)
        draft.add_argument("file", type=Path, metavar="FILE", help="CSV, JSON Lines (.jsonl) or Parquet (.parquet)")
        draft.add_argument("--name", required=True, help="the name of the schema")
        for role, of in {"label": "is 1 for fraud", "amount": "is the amount", "time": "is the event time"}.items():
            draft.add_argument(f"--{role}", metavar="COLUMN", help=f"which column {of}; default: found out by its name")
        draft.add_argument("--id", metavar="COLUMN", help="which column is the transaction's id; default: found out")
        draft.add_argument("--currency", help="of the amounts, such as EUR")
        order = draft.add_mutually_exclusive_group()
        order.add_argument("--day-first", action="store_true", default=None, help="01/02/2026 is in February")
        order.add_argument("--month-first", dest="day_first", action="store_false", help="01/02/2026 is in January")
        draft.add_argument("--force", action="store_true", help="replace a schema of this name in SCHEMAS_DIR")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        loaded.look(settled=False)
        try:
            getattr(self, f"_{action}")(options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        table = _table("schema", "title", "fields", "inputs", "entities", "champion", "file")
        for name in schema_names():
            try:
                schema = load_schema(name)
            except SchemaInvalid as error:
                table.add_row(name, f"invalid: {error}", "", "", "", "", "")
                continue
            champion = registry.champion_or_none(name)
            numbers = [str(len(part)) for part in (schema.features, schema.input_names, schema.entities)]
            table.add_row(name, schema.title, *numbers, str(champion or ""), str(places.schema_files(name)[0]))
        self._print(table)

    def _check(self, options: dict[str, Any]) -> None:
        named = options["schema"]
        if named:
            self._show(read_schema(Path(named)) if named.endswith(".toml") else load_schema(named))
            return
        faults = []
        for name in schema_names():
            try:
                self.stdout.write(f"{name}: valid, {len(load_schema(name).input_names)} inputs of the model.")
            except SchemaInvalid as error:
                faults.append(str(error))
        if faults:
            raise CommandError("\n".join(faults))

    def _show(self, schema: Schema) -> None:
        self.stdout.write(f"{schema.name}: {schema.title}. The declaration is valid; its hash is {schema.hash[:12]}.")
        self._print(_fields(schema))
        self._print(_computed(schema))
        if schema.entities:
            self._print(_entities(schema))
        self.stdout.write(f"{len(schema.input_names)} inputs of the model.")
        self._show_versions(schema)
        self._show_histories(schema)

    def _show_versions(self, schema: Schema) -> None:
        versions = ModelVersion.objects.filter(schema=schema.name)
        for version in versions:
            try:
                said = _of_declaration(registry.declared_hash(version), schema)
            except BundleRefused as error:
                said = str(error)
            self.stdout.write(f"Model {version} ({version.stage}): {said}")
        if not versions:
            self.stdout.write(f"No model yet: run `manage.py train --schema {schema.name}`.")

    def _show_histories(self, schema: Schema) -> None:
        from scoring.worker.histories import counted  # numba takes a second to load

        stale = 0
        for entity in schema.entity_names:
            kept, old = counted(schema, entity)
            stale += old
            self.stdout.write(f"Histories of {entity}: {kept:,}, {f'{old:,} of them' if old else 'none'} stale.")
        if stale:
            self.stdout.write(
                f"Once a model of this declaration is the champion, calls that need a stale history get 503: then run "
                f"`manage.py rebuild_histories --schema {schema.name}`."
            )

    def _versions(self, options: dict[str, Any]) -> None:
        declarations.remember()
        name, before = options["schema"], cast(Schema | None, None)
        rows = SchemaVersion.objects.filter(schema=name).order_by("first_seen_at", "pk")
        if not rows:
            load_schema(name)
        for row in rows:
            now = declarations.find(name, row.hash)
            self.stdout.write(f"{figures.at(row.first_seen_at)}  {row.hash[:12]}")
            for change in comparison.differences(before, now) if before else []:
                self.stdout.write(f"    {change}")
            before = now

    def _draft(self, options: dict[str, Any]) -> None:
        from training.core import drafts  # imports what only a draft needs

        name = options["name"]
        path = settings.SCHEMAS_DIR / f"{name}.toml"
        config_path = settings.SCHEMAS_DIR / "configs" / f"{name}.toml"
        if not places.NAME.fullmatch(name):
            raise CommandError(f"--name: the name of a schema has {places.NAME_RULE}, unlike {name!r}.")
        if (places.PACKAGE / "schemas" / f"{name}.toml").exists():
            raise CommandError(f"--name: {name} is a schema of the package. Choose another name.")
        there = [str(file) for file in (path, config_path) if file.exists()]
        if there and not options["force"]:
            raise CommandError(f"{there[0]} is there already. Choose another --name, or replace it with --force.")
        chosen = drafts.Chosen(*(options[role] for role in ("label", "amount", "time", "id", "day_first")))
        with stages.printed(self.stdout):
            draft = drafts.draft(
                options["file"], name, chosen, values=settings.DRAFT_VALUES, currency=options["currency"]
            )
        config_path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(draft.text, encoding="utf-8")
        config_path.write_text(draft.config_text, encoding="utf-8")
        look_in(settings.SCHEMAS_DIR)
        self.stdout.write(draft.summary)
        self._print(_fields(draft.schema))
        for line in draft.warnings:
            self.stdout.write(line)
        self.stdout.write(
            f"Written: {path}\n         {config_path}\nRead them, then:\n"
            f"  manage.py ingest --schema {name} --source {options['file']}\n  manage.py train --schema {name}"
        )

    def _print(self, table: Table) -> None:
        # A pipe has no width, so lines are not wrapped.
        Console(width=None if self.stdout.isatty() else PIPE_WIDTH).print(table)


def _of_declaration(hash_: str, schema: Schema) -> str:
    """How the declaration of a model, by its hash, goes with a schema."""
    if hash_ == schema.hash:
        return "of this declaration."
    said = f"of another declaration ({hash_[:12]})"
    try:
        declared = declarations.find(schema.name, hash_)
    except SchemaNotFound:
        return f"{said} that is not known here: it cannot score."
    changes = "; ".join(comparison.differences(declared, schema))
    obstacles = comparison.obstacles(declared, schema)
    goes_on = f"It goes on under its own: {'; '.join(obstacles)}." if obstacles else "It scores what this one declares."
    return f"{said}. Changed since: {changes}. {goes_on}"


def _fields(schema: Schema) -> Table:
    table = _table("field", "kind", "may be", "missing", "input", "meaning")
    for field in schema.features:
        missing, is_input = ("yes" if is_so else "no" for is_so in (field.optional, field.is_input))
        table.add_row(field.name, field.kind, _range(field), missing, is_input, field.description)
    for name in schema.identifier_names:
        entity = schema.entities[schema.entity_names.index(name)]
        table.add_row(name, "entity", "", "yes" if entity.optional else "no", "no", entity.description)
    return table


def _range(field: Field) -> str:
    if field.of_kind.declares_bounds:
        return f"{field.lowest:g} to {field.highest:g} {field.unit}"
    return f"{field.max_values} values learned" if field.is_category else ""


def _computed(schema: Schema) -> Table:
    table = _table("computed", "of", "meaning")
    for feature in schema.derived:
        of = feature.entity if isinstance(feature, Velocity) else type(feature).__name__.lower()
        table.add_row(feature.name, of, feature.description)
    return table


def _entities(schema: Schema) -> Table:
    # Imported late, as it compiles.
    from training.core.features.replay import event_bytes

    table = _table("history of", "events at most", "bytes an event")
    for entity in schema.entities:
        size = event_bytes(schema, entity.name)
        table.add_row(entity.name, f"{entity.history_limit:,}", str(size) if size else "no feature reads it")
    return table


def _table(*titles: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)
    for title in titles:
        table.add_column(title)
    return table
