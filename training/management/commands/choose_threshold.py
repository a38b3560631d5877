from argparse import ArgumentParser
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from training import registry
from training.core import configuration
from training.core.configuration.sections import PolicySettings
from training.core.evaluation import COST_METRIC_NAMES, METRIC_NAMES, policy
from training.core.exceptions import FraudsiteError, did_you_mean
from training.core.figures import figure
from training.core.figures import threshold as shown
from training.core.scored import ScoredRows
from training.management.command import Options
from training.models import ModelVersion


class Command(BaseCommand):
    help = (
        "Choose the review threshold of a registered model again, from the scores of its validation rows, without "
        "training. Workers follow by themselves; the change is logged in the version's history."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version")
        how = parser.add_mutually_exclusive_group(required=True)
        how.add_argument("--precision", type=float, help="the highest recall with at least this precision")
        how.add_argument("--cost", type=float, help="the lowest cost: a review costs this, a missed fraud its amount")
        how.add_argument("--alerts-per-day", type=float, help="at most so many alerts a day")
        parser.add_argument("--user", help="whose change it is: the name of an account; --dry-run needs none")
        parser.add_argument("--dry-run", action="store_true", help="print the result, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._choose(options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def _choose(self, options: Options) -> None:
        version = ModelVersion.objects.filter(pk=options["version"]).first()
        if version is None:
            hint = did_you_mean(options["version"], ModelVersion.objects.values_list("version", flat=True))
            raise CommandError(f"There is no model version {options['version']}.{hint}")
        user = self._user(options)
        bundle = registry.load(version)
        validation = bundle.scored.get("validation")
        if validation is None:
            raise CommandError(f"The bundle of {version} has no scored validation rows: train a new version.")
        chosen, how = _policy(options)
        days = bundle.description.days.get("validation")
        threshold = policy.review_threshold(chosen, validation, days=days)
        Console().print(_table(version, threshold, chosen, validation, days))
        if not options["dry_run"]:
            self._store(version, threshold, f"{how}, on validation rows", user)

    def _user(self, options: Options) -> Any:
        accounts = get_user_model().objects
        user = accounts.filter(username=options["user"]).first()
        if user is None and options["user"]:
            hint = did_you_mean(options["user"], accounts.values_list("username", flat=True))
            raise CommandError(f"--user: there is no account {options['user']}.{hint}")
        if user is None and not options["dry_run"]:
            raise CommandError("Name the account whose change it is: --user NAME.")
        return user

    @transaction.atomic
    def _store(self, version: ModelVersion, threshold: float, how: str, user: Any) -> None:
        version = ModelVersion.objects.select_for_update().get(pk=version.pk)
        changes = [f"Review threshold from {version.review_threshold} to {threshold} ({how})"]
        block = version.block_threshold
        if block is not None and block < threshold:
            changes.append(f"block threshold from {block} to {threshold}, because it may not lie below")
            version.block_threshold = threshold
        version.review_threshold = threshold
        version.save(update_fields=["review_threshold", "block_threshold"])
        message = f"{'; '.join(changes)}."
        LogEntry.objects.log_actions(user.pk, [version], CHANGE, change_message=message, single_object=True)
        self.stdout.write(message)


def _policy(options: Options) -> tuple[PolicySettings, str]:
    """The shipped policy with the requested changes, and a description of these."""
    if (precision := options["precision"]) is not None:
        asked, how = {"choose": "precision", "review_precision": precision}, f"precision of {precision:g} or more"
    elif (cost := options["cost"]) is not None:
        asked, how = {"choose": "cost", "review_cost": cost}, f"lowest cost at {cost:g} a review"
    else:
        alerts = options["alerts_per_day"]
        asked, how = {"choose": "alerts_per_day", "alerts_per_day": alerts}, f"at most {alerts:g} alerts a day"
    return configuration.read(overrides={f"policy.{name}": value for name, value in asked.items()}).policy, how


def _table(
    version: ModelVersion, threshold: float, chosen: PolicySettings, validation: ScoredRows, days: float | None
) -> Table:
    table = Table(title=f"{version}, validation rows", box=SIMPLE, pad_edge=False)
    for title in ("", "now", "chosen"):
        table.add_column(title, justify="right" if title else "left")
    columns = [
        policy.metrics_at(chosen, validation, threshold=cut, resamples=0, seed=0)
        for cut in (version.review_threshold, threshold)
    ]
    table.add_row("review threshold", *(shown(cut) for cut in (version.review_threshold, threshold)))
    for name, title in (METRIC_NAMES | COST_METRIC_NAMES).items():
        found = [metric for column in columns if (metric := column.measured(name))]
        if found and name in ("precision", "recall", "f1", *COST_METRIC_NAMES):
            table.add_row(title, *(figure(name, metric.value) for metric in found))
    if days is not None:
        alerts = [sum(row[1] for row in column.confusion) for column in columns]
        table.add_row("alerts per day", *(f"{count / days:.1f}" for count in alerts))
    return table
