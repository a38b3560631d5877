from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from training import bundles, registry
from training.core import figures
from training.core.bundle import load_bundle
from training.core.exceptions import FraudsiteError, did_you_mean
from training.core.schema import load_schema
from training.management.command import Options
from training.models import ModelVersion, Stage, StageChange

PIPE_WIDTH = 1000
# The meaning of each new stage.
MEANINGS = {
    Stage.CHAMPION: "{0} decides from now on: workers take it up within {1:g} s, without a restart.",
    Stage.SHADOW: "{0} scores live transactions too, and decides nothing.",
    Stage.RETIRED: "{0} scores nothing any more; its bundle is kept, and it can be promoted again.",
    Stage.CANDIDATE: "{0} waits to be promoted.",
}


class Command(BaseCommand):
    help = "Show the register of models, and choose the champion, shadows and retired versions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, meaning in {
            "list": "every version and its stage",
            "history": "every change of a stage: when, who, why",
            "live": "the version that decides, or decided at a time",
            "promote": "make a version the champion",
            "rollback": "make the champion before this one the champion again",
            "shadow": "have a version score live transactions without deciding",
            "retire": "retire a version",
            "register": "upload and register a bundle that is in VAR_DIR/models: brought from elsewhere, or trained "
            "while the store was away",
            "share": "upload the bundles of registered versions that are on this machine and not in the store",
            "verify": "check every bundle, here and in the store, by its signature and hashes",
        }.items():
            action = actions.add_parser(name, help=meaning, description=meaning)
            if name in ("promote", "shadow", "retire", "register"):
                action.add_argument("version")
            elif name not in ("share", "verify"):
                action.add_argument("--schema", default=settings.DEFAULT_SCHEMA, help="default: %(default)s")
            if name == "promote":
                action.add_argument(
                    "--force", action="store_true", help="even if it is worse, or cannot be compared; wants a --reason"
                )
            if name == "live":
                action.add_argument("--at", help="an ISO time, as 2026-11-24T15:30; without an offset it is UTC")
            if name in ("promote", "rollback", "shadow", "retire"):
                action.add_argument("--reason", default="", help="for the audit")
                action.add_argument("--by", default=registry.account(), help="who does it; default: %(default)s")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            # The versions of a schema whose file was removed can still be looked at.
            if "schema" in options and not ModelVersion.objects.filter(schema=options["schema"]).exists():
                load_schema(options["schema"])
            getattr(self, f"_{action}")(options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def _list(self, options: Options) -> None:
        table = _table("version", "stage", "created", "AUPRC of the test rows", "review", "block")
        for version in ModelVersion.objects.filter(schema=options["schema"]):
            test = version.metrics_of("test")
            table.add_row(
                version.version,
                version.stage,
                figures.at(version.created_at),
                f"{test.auprc.value:.4f}" if test and test.auprc else "",
                figures.threshold(version.review_threshold),
                figures.threshold(version.block_threshold),
            )
        self._print(table)

    def _history(self, options: Options) -> None:
        table = _table("when", "version", "from", "to", "who", "why")
        for change in StageChange.objects.filter(version__schema=options["schema"]):
            why = " ".join(filter(None, [str(change), change.evidence]))
            row = (figures.at(change.at), change.version_id, change.before, change.after, change.by, why)
            table.add_row(*row)
        self._print(table)

    def _live(self, options: Options) -> None:
        moment = _moment(options["at"]) if options["at"] else timezone.now()
        version = registry.live_at(options["schema"], moment)
        self.stdout.write(version.version if version else f"No version of {options['schema']} decided then.")

    def _promote(self, options: Options) -> None:
        by, reason = options["by"], options["reason"]
        self.stderr.write(f"Comparing {options['version']} with the champion, if there is one …")
        self._report(registry.promote(_version(options), by=by, reason=reason, force=options["force"]))

    def _rollback(self, options: Options) -> None:
        self._report(registry.roll_back(options["schema"], **_audit(options)))

    def _shadow(self, options: Options) -> None:
        self._report(registry.shadow(_version(options), **_audit(options)))

    def _retire(self, options: Options) -> None:
        self._report(_version(options).retire(**_audit(options)))

    def _register(self, options: Options) -> None:
        path = settings.BUNDLES_DIR / options["version"]
        if path.parent != settings.BUNDLES_DIR or not path.is_dir():
            raise CommandError(f"There is no bundle {options['version']} in {settings.BUNDLES_DIR}.")
        version = registry.register(load_bundle(path, signing_key=settings.BUNDLE_SIGNING_KEY), promote=False)
        self.stdout.write(f"{version} is registered as {version.stage}. `manage.py models promote {version}`")

    def _share(self, options: Options) -> None:
        uploaded, absent = registry.share_all()
        self.stdout.write(f"{uploaded} uploaded.")
        if absent:
            raise CommandError(f"{', '.join(absent)}: neither here nor in the store. Run it where they were trained.")

    def _verify(self, options: Options) -> None:
        table, damaged = _table("version", "stage", "here", "in the store"), []
        for version in ModelVersion.objects.all():
            here, there = bundles.faults(version.bundle_dir)
            table.add_row(version.version, version.stage, here or "intact", there or "intact")
            damaged += [version.version] if there else []
        self._print(table)
        if damaged:
            raise CommandError(
                f"{', '.join(damaged)}: not intact in the store. `manage.py models share` mends it from a copy that is."
            )

    def _report(self, changes: list[StageChange]) -> None:
        for change in changes:
            self.stdout.write(f"{change.version_id}: {change.before} → {change.after}")
        if changes[-1].evidence:
            self.stdout.write(changes[-1].evidence)
        if stale := registry.stale_histories(changes):
            self.stdout.write(stale)
        for change in changes:
            self.stdout.write(MEANINGS[Stage(change.after)].format(change.version_id, settings.MODEL_REFRESH_S))

    def _print(self, table: Table) -> None:
        # A pipe has no width, so lines are not wrapped.
        Console(width=None if self.stdout.isatty() else PIPE_WIDTH).print(table)


def _version(options: Options) -> ModelVersion:
    try:
        return ModelVersion.objects.get(pk=options["version"])
    except ModelVersion.DoesNotExist as error:
        hint = did_you_mean(options["version"], ModelVersion.objects.values_list("version", flat=True))
        raise CommandError(f"There is no version {options['version']}: see `manage.py models list`.{hint}") from error


def _audit(options: Options) -> dict[str, str]:
    return {"by": options["by"], "reason": options["reason"]}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--at takes an ISO time, as 2026-11-24T15:30, and not {text!r}.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _table(*titles: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=title != "why")
    return table
