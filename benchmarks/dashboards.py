"""A refresh of the dashboards with 90 days as of 50 million predictions, beside one day of 10,000:
`python -m benchmarks.dashboards`.

A PostgreSQL of its own for each. Of the larger, `--stored` predictions are real rows, which the tables of latest alerts
read, and their reviews; its roll-ups of 90 days are written as 50 million predictions of several clients and policies
would leave them: minutes of the last day, quarters of an hour of the last 7, and the longer spans. Both have the same
20 rules and 15 analysts. What is measured is the server's side of a refresh: the processor time of its process and of
its connection's process of the database. The two sizes take turns, as other work on the machine makes both slower;
medians count. Target: a page at 90 days takes at most 1.2 times as long as at one day of 10,000 predictions.
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import defaultdict
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import review_pages
from benchmarks.stand import table
from fraudsite.tests import postgresql
from fraudsite.tests.deployment import ROOT

DAYS = 90
CLIENTS, RULES, ANALYSTS = 5, 20, 15
PAGES = ("traffic", "rules", "review")
# Of the smaller: one day, as far as there are rows.
FEW, WINDOWS = 10_000, {"few": ("24h",), "many": ("1h", "6h", "24h", "7d", "30d", "90d", "26w", "52w")}
TOOK = "took "
SHARES = {"approve": 0.975, "challenge": 0.005, "review": 0.015, "block": 0.005}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000, help="predictions that are real rows")
    parser.add_argument("--as-of", type=int, default=50_000_000, help="predictions that the roll-ups tell of")
    parser.add_argument("--rounds", type=int, default=30, help="how often each page is refreshed")
    parser.add_argument("--within", choices=("few", "many"), help="measure in this process, on DATABASE_URL")
    options = parser.parse_args()
    if options.within:
        serve(options)
        return
    programs = postgresql.programs()
    if programs is None:
        sys.exit("There is no PostgreSQL here: install the server's programs.")
    with ExitStack() as stack:
        servers = {}
        for within in WINDOWS:
            cluster = stack.enter_context(postgresql.cluster(programs))
            environment = os.environ | {
                "DATABASE_URL": cluster.url,
                "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests",
            }
            command = [sys.executable, "-m", "benchmarks.dashboards", "--within", within]
            command += [f"--stored={options.stored}", f"--as-of={options.as_of}"]
            servers[within] = stack.enter_context(
                subprocess.Popen(
                    command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
        took: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for number in range(1 + options.rounds):
            for page in PAGES:
                for within, window in [(size, window) for size in WINDOWS for window in WINDOWS[size]]:
                    ms = asked(servers[within], f"{page} {window}")
                    if number:  # the first one finds everything cold
                        took[within, page, window].append(ms)
        for server in servers.values():
            server.communicate()
    sizes = {"few": f"{FEW:,}", "many": f"as of {options.as_of:,}"}
    rows = [
        [f"{sizes[within]}: {page} {window}", f"{median(ms):.0f}", f"{ratio(ms, took['few', page, '24h']):.2f}×"]
        for (within, page, window), ms in took.items()
    ]
    print(table(["predictions, page and window", "ms of a core", f"to one day of {FEW:,}"], rows))


def asked(server: "subprocess.Popen[str]", what: str) -> float:
    """What a refresh takes, in milliseconds of a core."""
    print(what, file=server.stdin, flush=True)
    while line := server.stdout.readline():  # type: ignore[union-attr]  # it is a pipe
        if line.startswith(TOOK):
            return float(line.removeprefix(TOOK))
    sys.exit("A server has ended; what it wrote is above.")


def ratio(ms: list[float], beside: list[float]) -> float:
    """The median of the ratios within a round."""
    return median(each / other for each, other in zip(ms, beside, strict=True))


def serve(options: Any) -> None:
    """Fill the database, and then measure the refreshes that are asked for, each by its page and window in a line."""
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
    by_name = {page.name: page for page in pages.PAGES}
    for line in sys.stdin:
        name, window = line.split()
        begun_s = processor_s()
        choice = by_name[name].choice(choices.of_address(f"?window={window}&schema=handbook"), timezone.now())
        shown, _ = frame.read(by_name[name], choice)
        assert shown.figures, name
        print(f"{TOOK}{1000 * (processor_s() - begun_s)}", flush=True)


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


# The statements that write the roll-ups of a span, each as of so many predictions.
TRAFFIC = """
INSERT INTO monitoring_trafficrollup
    (span, start, client, schema, version, policy, decision, answer, transactions, amount, histograms)
SELECT %(span)s, start, client, 'handbook', 'handbook-benchmark', 1, decision, 'scored', n, 40 * n, %(histograms)s
FROM generate_series(%(first)s, %(now)s, %(step)s) AS start, generate_series(0, %(clients)s) AS client,
    unnest(%(decisions)s::text[], %(shares)s::float8[]) AS shares (decision, share),
    LATERAL (
        SELECT greatest(1, %(number)s * share / CASE client WHEN 0 THEN 1 ELSE %(clients)s END)::int AS n
    ) AS counted
"""
SUMS = (
    """
INSERT INTO monitoring_rulerollup (span, start, client, schema, policy, rule, decided, matched, absent, failed)
SELECT %(span)s, start, 0, 'handbook', 1, 'rule ' || rule, %(number)s::int, (%(number)s / (20 + rule))::int,
    (rule %% 5 = 0)::int, 0
FROM generate_series(%(first)s, %(now)s, %(step)s) AS start, generate_series(0, %(rules)s - 1) AS rule
""",
    """
INSERT INTO monitoring_reviewrollup
    (span, start, client, schema, analyst, state, is_sample, by_default, decided)
SELECT %(span)s, start, client, 'handbook', auth_user.id, state, false, false, %(number)s::int / 1500 + 1
FROM generate_series(%(first)s, %(now)s, %(step)s) AS start, generate_series(0, %(clients)s) AS client, auth_user,
    unnest(ARRAY['fraud', 'legitimate']) AS state
""",
)


def write_rollups(predictions: int, now: datetime) -> None:
    """Write the roll-ups of so many predictions in the last 90 days."""
    import numpy as np
    from django.db import connection

    from monitoring.rollups import histograms
    from monitoring.rollups.models import RollupProgress, Span

    random = np.random.default_rng(0)
    values = {"score": random.beta(1, 30, 1_000)} | {
        stage: random.lognormal(1 + place / 2, 0.5, 1_000) for place, stage in enumerate(histograms.STAGES)
    }
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        for span in Span:
            days = {Span.MINUTE: 1, Span.QUARTER: 7}.get(span, DAYS)
            parameters: dict[str, Any] = {
                "span": int(span),
                "first": midnight - timedelta(days=days),
                "now": now,
                "step": span.length,
                "number": predictions / (DAYS * 1440) * span,
                "clients": CLIENTS,
                "rules": RULES,
                "decisions": list(SHARES),
                "shares": list(SHARES.values()),
                "histograms": histograms.packed(histograms.counted(values)),
            }
            for statement in (TRAFFIC, *(SUMS if span != Span.MINUTE else ())):
                cursor.execute(statement, parameters)
        RollupProgress.objects.create(pk=1, counted_until=now, whole=True)
        cursor.execute("VACUUM ANALYZE")


if __name__ == "__main__":
    main()
