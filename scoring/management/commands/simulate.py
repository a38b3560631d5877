import os
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pandas as pd
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Max
from django.utils import timezone
from rich.console import Console
from rich.live import Live

from scoring import simulation
from scoring.models import ApiKey, Label, Transaction
from scoring.reviews import labelling
from scoring.simulation import Call, Simulator
from training import registry
from training.core import stages
from training.core.exceptions import FraudsiteError
from training.core.schema import EVENT_TIME, Schema, load_schema

PLAIN_LINE_EVERY_S = 1
RATE_PER_S, DAYS, SPEED = 5.0, 0.0, 1.0
OF_DRAWN_ROWS = ("rate", "fraud_rate", "seed")
OF_PACED_ROWS = ("days", "speed", "labels", "past", "repeat")


class Command(BaseCommand):
    help = (
        "Send transactions that the champion was not trained on to a running Fraudsite, and print how many frauds were "
        "caught. If the schema has no event times, test rows are drawn at random. If it has, the traffic from the "
        "first test row on is sent at its recorded times, and true labels are reported when they would be known."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", default=settings.DEFAULT_SCHEMA, help="whose transactions to send")
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where Fraudsite listens")
        parser.add_argument(
            "--api-key", default=os.environ.get("FRAUDSITE_API_KEY"), help="default: $FRAUDSITE_API_KEY"
        )
        parser.add_argument("--await-ready", type=float, default=0, help="seconds to wait for /readyz before starting")
        parser.add_argument("--count", type=int, help="stop after so many transactions; 0: only --past")
        parser.add_argument("--duration", type=float, help="stop after so many seconds; default: on Ctrl-C")
        parser.add_argument("--concurrency", type=int, default=8, help="requests under way at most")
        parser.add_argument(
            "--rate", type=float, help=f"drawn rows: transactions per second, on average; default: {RATE_PER_S:g}"
        )
        parser.add_argument(
            "--fraud-rate", type=float, help="drawn rows: share of fraud, 0 to 1; default: as in the test rows"
        )
        parser.add_argument("--seed", type=int, help="drawn rows: repeat the same traffic")
        parser.add_argument(
            "--days",
            type=float,
            help="recorded times: begin so many days in the past, or where an earlier run ended, if that is later; "
            f"default: {DAYS:g}",
        )
        parser.add_argument(
            "--speed",
            type=float,
            help=f"recorded times: so many times as fast, until the present is reached; default: {SPEED:g}",
        )
        parser.add_argument(
            "--labels", type=float, help="recorded times: report labels so many days later; default: the schema's delay"
        )
        parser.add_argument(
            "--past",
            type=float,
            help="recorded times: first store the transactions of so many days before, without scores, so that cards "
            "have histories; does nothing if the schema has transactions",
        )
        parser.add_argument(
            "--repeat",
            action="store_const",
            const=True,
            help="recorded times: after the last whole week begin again with the first; default: stop at the end",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["api_key"]:
            raise CommandError("Give --api-key or set FRAUDSITE_API_KEY; `manage.py create_api_key` makes one.")
        if options["concurrency"] < 1:
            raise CommandError("--concurrency must be positive.")
        with stages.printed(self.stdout):
            self._simulate(options)

    def _simulate(self, options: dict[str, Any]) -> None:
        try:
            schema = load_schema(options["schema"])
            has_times = schema.time == EVENT_TIME
            calls = self._pace(schema, options) if has_times else self._draw(schema, options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        if options["count"] == 0:
            return
        try:
            simulator = Simulator(
                url=options["url"],
                api_key=options["api_key"],
                concurrency=options["concurrency"],
                report=report if has_times else None,
            )
            stages.enter(f"Waiting for {options['url']} to be ready")
            simulator.await_ready(timeout_s=options["await_ready"])
        except (FraudsiteError, ValueError, httpx.InvalidURL) as error:
            raise CommandError(f"--url: {error}") from error
        elapsed_s = 0.0
        console = Console()
        printed_at = time.monotonic()
        try:
            with Live(console=console, refresh_per_second=4, transient=True) as live:
                for elapsed_s in simulator.run(calls, count=options["count"], duration_s=options["duration"]):
                    if console.is_terminal:
                        live.update(simulator.tally.line(elapsed_s))
                    elif time.monotonic() - printed_at > PLAIN_LINE_EVERY_S:
                        printed_at = time.monotonic()
                        stages.enter(simulator.tally.line(elapsed_s))
        except KeyboardInterrupt:
            pass
        self.stdout.write(simulator.tally.line(elapsed_s))

    def _draw(self, schema: Schema, options: dict[str, Any]) -> Iterator[Call]:
        _refuse(options, OF_PACED_ROWS, f"{schema.name} has no event times, so its rows are drawn")
        rate = RATE_PER_S if options["rate"] is None else options["rate"]
        if not rate > 0:
            raise CommandError("--rate must be positive.")
        if options["fraud_rate"] is not None and not 0 <= options["fraud_rate"] <= 1:
            raise CommandError("--fraud-rate must lie between 0 and 1.")
        rows = registry.test_rows(registry.champion(schema.name))
        return simulation.drawn(schema, rows, rate_per_s=rate, fraud_rate=options["fraud_rate"], seed=options["seed"])

    def _pace(self, schema: Schema, options: dict[str, Any]) -> Iterator[Call]:
        _refuse(options, OF_DRAWN_ROWS, f"{schema.name} has event times, so its rows are sent at these times")
        days = DAYS if options["days"] is None else options["days"]
        speed = SPEED if options["speed"] is None else options["speed"]
        labels = schema.label_delay_days if options["labels"] is None else options["labels"]
        if not 0 <= days < schema.past_days:
            raise CommandError(
                f"--days must be at least 0 and less than {schema.past_days}, the past_days of the schema."
            )
        if not speed > 0:
            raise CommandError("--speed must be positive.")
        if not labels >= 0:
            raise CommandError("--labels must be at least 0.")
        if not (options["past"] is None or options["past"] >= 0):
            raise CommandError("--past must be at least 0.")
        rows, first_test = registry.traffic(registry.champion(schema.name))
        now = timezone.now()
        first = now - timedelta(days=days)
        if options["past"] is not None and not Transaction.objects.filter(schema=schema.name).exists():
            past = simulation.before(rows, first_test, first, options["past"])
            self._store_past(schema, past, options["api_key"])
        sent = Transaction.objects.filter(schema=schema.name, transaction_id__startswith=simulation.ID_PREFIX)
        latest = sent.aggregate(latest=Max("event_time"))["latest"]
        return simulation.paced(
            schema,
            rows[first_test:],
            now=now,
            first=max(first, latest) if latest else first,
            speed=speed,
            label_delay_days=labels,
            repeat=bool(options["repeat"]),
        )

    def _store_past(self, schema: Schema, rows: pd.DataFrame, api_key: str) -> None:
        from scoring import past  # numba takes a second to load

        key = ApiKey.objects.filter(digest=ApiKey.digest_of(api_key), revoked_at=None).first()
        if key is None:
            raise CommandError("--api-key is not a valid key; `manage.py create_api_key` makes one.")
        past.store(
            schema,
            rows,
            key.client_id,
            lambda count: stages.enter(f"Storing past traffic, {count:,} of {len(rows):,} transactions"),
        )
        self.stdout.write(f"{len(rows):,} past transactions of {schema.name} are stored.")


def _refuse(options: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    if given := [f"--{name.replace('_', '-')}" for name in names if options[name] is not None]:
        raise CommandError(f"{', '.join(given)}: {why}.")


def report(key: str, is_fraud: bool) -> str:
    """Report the label of a transaction by its id. Returns the error, or ""."""
    try:
        labelling.add_label(transaction_id=UUID(key), is_fraud=is_fraud, source=Label.Source.IMPORT)
    except (Transaction.DoesNotExist, FraudsiteError) as error:
        return f"label not reported: {error}"
    return ""
