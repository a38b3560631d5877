"""A refresh of the dashboards with 90 days as of 50 million predictions, beside one day of 10,000:
`python -m benchmarks.dashboards`.

A PostgreSQL of its own for each. Of the larger, `--stored` predictions are real rows, which the tables of latest alerts
read, and their reviews; its roll-ups of 90 days are written as 50 million predictions of several clients and policies
would leave them: minutes and quarters of an hour of the last 7 days (minutes of rules, of the last one), and the longer
spans. Both have the same 20 rules
and 15 analysts. What is measured is the server's side of a refresh: the processor time of this process and of its
connection's process of the database, which other work on the machine changes little. Target: a page at 90 days takes at
most 1.2 times as long as at one day of 10,000 predictions.
"""

import json
import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import review_pages
from benchmarks.stand import table
from fraudsite.tests import postgresql
from fraudsite.tests.deployment import ROOT

DAYS = 90
CLIENTS, RULES, ANALYSTS = 5, 20, 15
PAGES = ("traffic", "rules", "review")
# Of the smaller: one day, as far as there are rows.
FEW, FEW_WINDOWS, MANY_WINDOWS = 10_000, ("24h",), ("1h", "6h", "24h", "7d", "30d", "90d", "26w", "52w")
SHARES = {"approve": 0.975, "challenge": 0.005, "review": 0.015, "block": 0.005}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000, help="predictions that are real rows")
    parser.add_argument("--as-of", type=int, default=50_000_000, help="predictions that the roll-ups tell of")
    parser.add_argument("--rounds", type=int, default=30, help="how often each page is refreshed")
    parser.add_argument("--within", choices=("few", "many"), help="measure in this process, on DATABASE_URL")
    options = parser.parse_args()
    if options.within:
        print(json.dumps(measure(options)))
        return
    programs = postgresql.programs()
    if programs is None:
        sys.exit("There is no PostgreSQL here: install the server's programs.")
    found: dict[str, dict[str, float]] = {}
    for within in ("few", "many"):
        with postgresql.cluster(programs) as cluster:
            environment = os.environ | {
                "DATABASE_URL": cluster.url,
                "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests",
            }
            command = [sys.executable, "-m", "benchmarks.dashboards", "--within", within]
            command += [f"--stored={options.stored}", f"--as-of={options.as_of}", f"--rounds={options.rounds}"]
            printed = subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            found[within] = json.loads(printed.stdout.splitlines()[-1])
    rows = [
        [f"{size}: {page} {window}", f"{took:.0f}", f"{took / found['few'][f'{page} 24h']:.2f}×"]
        for size, within in ((f"{FEW:,}", "few"), (f"as of {options.as_of:,}", "many"))
        for (page, window), took in ((name.split(), took) for name, took in found[within].items())
    ]
    print(table(["predictions, page and window", "ms of a core", f"to one day of {FEW:,}"], rows))


def measure(options: Any) -> dict[str, float]:
    """Milliseconds of a processor for a refresh, by page and window."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from monitoring.dashboards import choices, frame, pages
    from monitoring.rollups import updating
    from training.models import ModelVersion, Stage

    call_command("migrate", verbosity=0)
    few = options.within == "few"
    stored, days = (FEW, 1) if few else (options.stored, DAYS)
    review_pages.fill(os.environ["DATABASE_URL"], stored, stored // 100, days=days)
    ModelVersion.objects.update(stage=Stage.CHAMPION, promoted_at=timezone.now())
    write_people_and_rules(days, options.as_of if not few else FEW, timezone.now())
    if few:
        updating.update(seconds=600)
    else:
        write_rollups(options.as_of, timezone.now())
    found: dict[str, float] = {}
    for page in (each for each in pages.PAGES if each.name in PAGES):
        for window in FEW_WINDOWS if few else MANY_WINDOWS:
            for number in range(1 + options.rounds):
                if number == 1:  # the first one finds everything cold
                    begun_s = processor_s()
                choice = page.choice(choices.of_address(f"?window={window}&schema=handbook"), timezone.now())
                shown, _ = frame.read(page, choice)
            assert shown.figures, page
            found[f"{page.name} {window}"] = 1000 * (processor_s() - begun_s) / options.rounds
    return found


def processor_s() -> float:
    """What this process and its connection's process of the database have used."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        server = Path(f"/proc/{cursor.fetchone()[0]}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(server[11]) + int(server[12])) / os.sysconf("SC_CLK_TCK")


def write_people_and_rules(days: int, predictions: int, now: datetime) -> None:
    """Have analysts decide the closed reviews, and write what became of alerts by rule, and of rules by the minute."""
    from django.contrib.auth.models import User
    from django.db import connection

    from monitoring.matured.models import OutcomeCount
    from scoring.models import PolicyVersion, RuleCount

    first = User.objects.bulk_create(User(username=f"analyst{number}") for number in range(ANALYSTS))[0].pk
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scoring_review SET reviewer_id = %s + ('x' || right(prediction_id::text, 6))::bit(24)::int %% %s, "
            "decided_in_s = 20 + 60 * random() WHERE closed_at IS NOT NULL",
            [first, ANALYSTS],
        )
    policy = PolicyVersion.objects.create(schema="handbook", number=1, document={})
    a_minute, a_day = predictions / days / 1440, predictions // days
    begin = now.replace(second=0, microsecond=0) - timedelta(days=1)
    RuleCount.objects.bulk_create(
        (
            RuleCount(
                minute=begin + timedelta(minutes=minute),
                policy=policy,
                rule=f"rule {number}",
                decided=int(a_minute) + 1,
                matched=int(a_minute / (20 + number)) + 1,
                absent=number % 5 == 0,
                failed=0,
            )
            for minute in range(1441)
            for number in range(RULES)
        ),
        batch_size=5_000,
    )
    OutcomeCount.objects.bulk_create(
        OutcomeCount(
            day=(now - timedelta(days=day)).date(),
            schema="handbook",
            model_version_id="handbook-benchmark",
            policy=1,
            by=by,
            name=name,
            decision=decision,
            rows=a_day // 100 + 2,
            labelled=a_day // 120 + 1,
            frauds=a_day // 200 + 1,
        )
        for day in range(days)
        for by, name in (("", ""), *(("rule", f"rule {number}") for number in range(RULES)))
        for decision in ("review", "block")
    )


def write_rollups(predictions: int, now: datetime) -> None:
    """Write the roll-ups of so many predictions in the last 90 days."""
    from django.contrib.auth.models import User
    from django.db import connection

    from monitoring.rollups.models import ReviewRollup, RollupProgress, RuleRollup, Span, TrafficRollup

    a_minute = predictions / (DAYS * 1440)
    for span in Span:
        kept = DAYS if span >= Span.HOUR else 7
        TrafficRollup.objects.bulk_create(_rollups(span, kept, a_minute * span, now), batch_size=5_000)
        if span != Span.MINUTE:
            starts = list(_starts(span, kept, now))
            RuleRollup.objects.bulk_create(
                RuleRollup(
                    span=span,
                    start=start,
                    schema="handbook",
                    policy=1,
                    rule=f"rule {number}",
                    decided=int(a_minute * span),
                    matched=int(a_minute * span / (20 + number)),
                    absent=number % 5 == 0,
                    failed=0,
                )
                for start in starts
                for number in range(RULES)
            )
            analysts = list(User.objects.values_list("pk", flat=True))
            ReviewRollup.objects.bulk_create(
                ReviewRollup(
                    span=span,
                    start=start,
                    client=client,
                    schema="handbook",
                    analyst=analyst,
                    state=state,
                    is_sample=False,
                    by_default=False,
                    decided=int(a_minute * span * 0.02 / ANALYSTS / 2) + 1,
                )
                for start in starts
                for client in range(CLIENTS + 1)
                for analyst in analysts
                for state in ("fraud", "legitimate")
            )
    RollupProgress.objects.create(pk=1, counted_until=now, whole=True)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _starts(span: int, days: int, now: datetime) -> Iterator[datetime]:
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
    moments = (first + number * timedelta(minutes=span) for number in range(days * 1440 // span + 1440 // span))
    return (moment for moment in moments if moment <= now)


def _rollups(span: int, days: int, number: float, now: datetime) -> Iterator[Any]:
    import numpy as np

    from monitoring.rollups import histograms
    from monitoring.rollups.models import TrafficRollup

    random = np.random.default_rng(0)
    values = {"score": random.beta(1, 30, 1_000)} | {
        stage: random.lognormal(1 + place / 2, 0.5, 1_000) for place, stage in enumerate(histograms.STAGES)
    }
    packed = histograms.packed(histograms.counted(values))
    for start in _starts(span, days, now):
        for client in range(CLIENTS + 1):
            for decision, share in SHARES.items():
                count = max(1, int(number * share / (CLIENTS if client else 1)))
                yield TrafficRollup(
                    span=span,
                    start=start,
                    client=client,
                    schema="handbook",
                    version="handbook-benchmark",
                    policy=1,
                    decision=decision,
                    answer="scored",
                    transactions=count,
                    amount=40.0 * count,
                    histograms=packed,
                )


if __name__ == "__main__":
    main()
