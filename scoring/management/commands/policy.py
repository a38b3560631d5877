import time
from argparse import ArgumentParser
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from scoring.lists import changes as lists
from scoring.management.options import check_days
from scoring.models import Backtest
from scoring.policies import backtests, checking, control, document, versions
from scoring.policies.backtesting import Result, Share
from scoring.policies.document import Document
from training import registry
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = "Show, check, change and roll back the policy that decides about a schema's transactions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, meaning in {
            "show": "print the live policy as JSON",
            "check": "name the faults of a policy in a file",
            "backtest": "try the policy in a file on stored transactions",
            "control": "what the control group tells of the alerts",
            "activate": "make the policy in a file the live one",
            "rollback": "make the policy before the live one live again",
        }.items():
            action = actions.add_parser(name, help=meaning, description=meaning)
            action.add_argument("--schema", default=settings.DEFAULT_SCHEMA, help="default: %(default)s")
            if name in ("check", "backtest", "activate"):
                action.add_argument("file", type=Path, help="JSON, as `show` prints it")
            if name in ("backtest", "control"):
                action.add_argument("--days", type=float, default=30.0, help="how far back; default: %(default)g")
            if name == "backtest":
                choices = Backtest.Lists.values
                action.add_argument(
                    "--lists", choices=choices, default="then", help="as they were at each decision, or as they are now"
                )
                action.add_argument(
                    "--draft-list",
                    action="append",
                    default=[],
                    metavar="NAME",
                    help="a draft of a list that counts",
                )
                action.add_argument("--by", default="", metavar="EXPRESSION", help="tell results by its values, too")
            if name in ("activate", "rollback"):
                action.add_argument("--reason", default="", help="for the audit")
                action.add_argument("--by", default=registry.account(), help="who does it; default: %(default)s")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            registry.declaration_in_force(options["schema"])
            getattr(self, f"_{action}")(options)
        except versions.PolicyFaults as error:
            raise CommandError("\n".join(map(_told, error.faults))) from error
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def _show(self, options: dict[str, Any]) -> None:
        content = versions.content(versions.live(options["schema"]))
        self.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())

    def _check(self, options: dict[str, Any]) -> None:
        schema = options["schema"]
        found = checking.faults(
            _read(options["file"]), registry.declaration_in_force(schema), versions.list_names(schema)
        )
        if found:
            raise versions.PolicyFaults(found)
        self.stdout.write(f"{options['file']} may decide about {schema}.")

    def _activate(self, options: dict[str, Any]) -> None:
        by, reason = options["by"], options["reason"]
        content = _read(options["file"])
        schema = options["schema"]
        found = checking.faults(content, registry.declaration_in_force(schema), versions.list_names(schema))
        if found:  # before a draft is made
            raise versions.PolicyFaults(found)
        version = versions.draft(schema=schema, content=content, by=by, reason=reason)
        versions.activate(version, by=by, reason=reason)
        self.stdout.write(f"{version} decides from now on: workers take it up within {settings.MODEL_REFRESH_S:g} s.")

    def _control(self, options: dict[str, Any]) -> None:
        found = control.of_period(registry.declaration_in_force(options["schema"]), *_period(options))
        self.stdout.write(
            f"{found.alerts:,} would-be alerts, of which {found.let_through:,} were let through;"
            f" {found.missed:,} known frauds were no alerts."
        )
        if found.sampled:
            self.stdout.write(
                f"{found.sampled:,} approved transactions were drawn at random; {found.judged:,} are judged."
            )
        for name in ("frauds", "precision", "all_missed", "recall"):
            estimate = getattr(found, name)
            decimals = 1 if name in ("frauds", "all_missed") else 3
            low, value, high = (f"{part:,.{decimals}f}" for part in (estimate.low, estimate.value, estimate.high))
            self.stdout.write(f"{name}: {value} ({low} to {high})")

    def _backtest(self, options: dict[str, Any]) -> None:
        since, until = _period(options)
        schema = options["schema"]
        backtest = backtests.start(
            schema=schema,
            content=_read(options["file"]),
            since=since,
            until=until,
            by=registry.account(),
            lists=options["lists"],
            drafts=[lists.named(schema, name, is_draft=True) for name in options["draft_list"]],
            by_expression=options["by"],
        )
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("Waits for a bulk worker", total=None)
            while backtest.is_active:
                time.sleep(0.2)
                backtest.refresh_from_db()
                if backtest.total:
                    progress.update(task, description="Deciding", completed=backtest.done, total=backtest.total)
                backtests.give_up_the_lost()
        if backtest.state != Backtest.State.DONE:
            raise CommandError(f"{backtest} is {backtest.get_state_display().lower()}. {backtest.failure}".strip())
        self._tell(msgspec.convert(backtest.result, Result))

    def _tell(self, result: Result) -> None:
        self.stdout.write(f"{result.transactions:,} transactions")
        for change in result.changes:
            count, amount = change.sum.count, change.sum.amount
            self.stdout.write(
                f"{change.before} → {change.after}: {count:,} ({amount:,.2f}), {change.frauds:,} known frauds"
            )
        for name, side in (("before", result.before), ("after", result.after)):
            now = side.now
            self.stdout.write(
                f"{name}: {now.caught.count:,} known frauds caught, {now.missed.count:,} missed,"
                f" precision {_share(now.precision)}"
            )
        for rule in result.rules:
            counts = f"matched {rule.matched.count:,}, alone {rule.alone:,}"
            self.stdout.write(f"rule {rule.rule}: {counts}, precision {_share(rule.precision)}")

        for part in result.groups:
            alerts = f"{part.transactions:,} transactions, alerts {part.before:,} → {part.after:,}"
            self.stdout.write(
                f"group {part.name}: {alerts}, of {part.frauds:,} known frauds {part.caught_after:,} caught"
            )

    def _rollback(self, options: dict[str, Any]) -> None:
        earlier = versions.roll_back(schema=options["schema"], by=options["by"], reason=options["reason"])
        what = str(earlier) if earlier else "No policy, but the model alone,"
        self.stdout.write(f"{what} decides again: workers take it up within {settings.MODEL_REFRESH_S:g} s.")


def _period(options: dict[str, Any]) -> tuple[datetime, datetime]:
    check_days("--days", options["days"])
    if not options["days"]:
        raise CommandError("--days is above 0.")
    until = timezone.now()
    return until - timedelta(days=options["days"]), until


def _read(path: Path) -> Document:
    try:
        return document.parse(path.read_bytes())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error


def _share(share: Share) -> str:
    return "unknown" if share.value is None else f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


def _told(fault: checking.Fault) -> str:
    place = f" line {fault.line}, column {fault.column}" if fault.line else ""
    return f"{fault.where}{place}: {fault.message}"
