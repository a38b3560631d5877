import os
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.live import Live

from training import registry
from training.exceptions import FraudsiteError
from training.simulation import Simulator

PLAIN_LINE_EVERY_S = 10


class Command(BaseCommand):
    help = "Send transactions from the champion's test rows to a running Fraudsite, and say what was caught."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where Fraudsite listens")
        parser.add_argument(
            "--api-key", default=os.environ.get("FRAUDSITE_API_KEY"), help="default: $FRAUDSITE_API_KEY"
        )
        parser.add_argument("--await-ready", type=float, default=0, help="seconds to wait for /readyz before starting")
        parser.add_argument("--rate", type=float, default=5.0, help="transactions per second, on average")
        parser.add_argument("--count", type=int, help="stop after so many transactions")
        parser.add_argument("--duration", type=float, help="stop after so many seconds; default: on Ctrl-C")
        parser.add_argument("--fraud-rate", type=float, help="share of fraud, 0 to 1; default: as in the test rows")
        parser.add_argument("--concurrency", type=int, default=8, help="requests under way at most")
        parser.add_argument("--seed", type=int, help="repeat the same traffic")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["api_key"]:
            raise CommandError("Give --api-key or set FRAUDSITE_API_KEY; `manage.py create_api_key` makes one.")
        if not options["rate"] > 0 or options["concurrency"] < 1:
            raise CommandError("--rate and --concurrency must be positive.")
        if options["fraud_rate"] is not None and not 0 <= options["fraud_rate"] <= 1:
            raise CommandError("--fraud-rate must lie between 0 and 1.")
        try:
            version = registry.champion(settings.DEFAULT_SCHEMA)
            features, labels = registry.test_rows(version)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        simulator = Simulator(
            names=registry.load(version).feature_names,
            features=features,
            labels=labels,
            url=options["url"],
            api_key=options["api_key"],
            rate_per_s=options["rate"],
            fraud_rate=options["fraud_rate"],
            concurrency=options["concurrency"],
            seed=options["seed"],
        )
        simulator.await_ready(timeout_s=options["await_ready"])
        elapsed_s = 0.0
        console = Console()
        said_at = time.monotonic()
        try:
            with Live(console=console, refresh_per_second=4, transient=True) as live:
                for elapsed_s in simulator.run(count=options["count"], duration_s=options["duration"]):
                    if console.is_terminal:
                        live.update(simulator.tally.line(elapsed_s))
                    elif time.monotonic() - said_at > PLAIN_LINE_EVERY_S:
                        said_at = time.monotonic()
                        self.stdout.write(simulator.tally.line(elapsed_s))
        except KeyboardInterrupt:
            pass
        self.stdout.write(simulator.tally.line(elapsed_s))
