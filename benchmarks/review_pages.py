"""The pages of an analyst at 10 million transactions and 100,000 open reviews: `python -m benchmarks.review_pages`.

A PostgreSQL of its own with the server's defaults, filled by its own statements, about a gigabyte a million. What is
timed is the server's side, in this process: the queue page, its filters and searches, a case page, what pages poll, and
the step from a decision to the next case that is shown. Targets: 150 ms for a page, 300 ms (p95) to the next case.
"""

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from statistics import quantiles
from typing import Any

import psycopg

from benchmarks.stand import table
from fraudsite.tests import postgresql

DAYS = 90
CHUNK = 500_000
# Ids increase with time, as UUIDv7 do.
TRANSACTIONS = """
WITH made AS (
    SELECT number, now() - %(days)s * interval '1 day' * (1 - number / %(all)s::float8) AS at,
        round((exp(random() * 7))::numeric, 2) AS amount,
        md5('card' || number %% 200000) AS card, md5('terminal' || number %% 20000) AS terminal
    FROM generate_series(%(first)s, %(last)s) AS number
)
INSERT INTO scoring_transaction
    (id, client_id, transaction_id, schema, amount, fields, tokens, body_sha256, event_time, received_at)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || lpad(to_hex(number), 20, '0'))::uuid,
    %(client)s, 'order-' || number, 'handbook', amount, jsonb_build_object('amount', amount),
    jsonb_build_object('customer', card, 'terminal', terminal), '', at, at
FROM made
"""
PREDICTIONS = """
INSERT INTO scoring_prediction
    (transaction_id, model_version_id, fraud_score, decision, threshold, reasons, latency_ms, created_at)
SELECT id, %(version)s, CASE WHEN drawn < 0.02 THEN 0.5 + random() / 2 ELSE random() / 20 END,
    CASE WHEN drawn < 0.02 THEN 'review' ELSE 'approve' END, 0.5,
    CASE WHEN drawn < 0.02 THEN %(reasons)s::jsonb ELSE '[]' END, 5, received_at
FROM (SELECT *, random() AS drawn FROM scoring_transaction) AS t
"""
# The latest alerts are open, the earlier ones closed.
REVIEWS = """
INSERT INTO scoring_review
    (prediction_id, state, fraud_score, expected_loss, client_id, schema, amount, decision, reason, rules, card,
     queue_id, opened_at, due_at, closed_at)
SELECT p.transaction_id, CASE WHEN place <= %(open)s THEN 'open' ELSE 'legitimate' END, fraud_score,
    fraud_score * amount, client_id, schema, amount, decision,
    (ARRAY['amount', 'hour', 'customer_count_7d'])[1 + place %% 3],
    CASE place %% 50 WHEN 0 THEN ' rare_rule ' WHEN 1 THEN ' large fast ' WHEN 2 THEN ' large ' ELSE '' END,
    tokens->>'customer', (%(queues)s::bigint[])[1 + place %% 3], p.created_at,
    p.created_at + interval '1 day', CASE WHEN place > %(open)s THEN p.created_at + interval '1 hour' END
FROM (
    SELECT *, row_number() OVER (ORDER BY created_at DESC) AS place FROM scoring_prediction WHERE decision <> 'approve'
) AS p JOIN scoring_transaction t ON t.id = p.transaction_id
"""
REASONS = '[{"feature": "amount", "contribution": 2.1, "text": "Amount: 900; 99 % are at most 200"}]'
FILTERS: dict[str, dict[str, str]] = {
    "the queue": {},
    "by score": {"o": "-2"},
    "second page": {"p": "2"},
    "one queue": {"queue": "1"},
    "a frequent rule": {"rule": "large"},
    "a rare rule": {"rule": "rare_rule"},
    "a rule that never fired": {"rule": "never"},
    "reason": {"reason": "hour"},
    "amount": {"amount": "1000..5000"},
    "client and schema": {"client": "1", "schema": "handbook"},
    "late": {"due": "late"},
    "over a week": {"age": "over-7d"},
    "free": {"claim": "free"},
    "several": {"rule": "large", "reason": "hour", "amount": "50..200", "queue": "2", "age": "over-1d"},
    "search: a card": {"q": "0cc175b9"},
    "search: an id": {"q": "order-99"},
    "search: amounts": {"q": "100..250"},
    "all states": {"state": "all"},
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=10_000_000)
    parser.add_argument("--open", type=int, default=100_000, help="open reviews; 2 %% of transactions are alerts")
    parser.add_argument("--rounds", type=int, default=20, help="how often each page is loaded")
    parser.add_argument("--explain", action="store_true", help="show the slowest queries of each page")
    options = parser.parse_args()
    programs = postgresql.programs()
    if programs is None:
        sys.exit("There is no PostgreSQL here: install the server's programs.")
    with postgresql.cluster(programs) as cluster:
        os.environ |= {"DATABASE_URL": cluster.url, "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests"}
        import django

        django.setup()
        measure(cluster.url, options)


def measure(url: str, options: Any) -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill(url, options.transactions, options.open)
    analyst = Analyst(options.rounds, explain=options.explain)
    rows = [analyst.timed(name, partial(analyst.queue, **asked)) for name, asked in FILTERS.items()]
    rows.append(analyst.timed("what pages poll", analyst.poll))
    rows.append(analyst.timed("a case", analyst.case))
    rows.append(analyst.timed("a decision, and the next case", analyst.decide))
    print(table(["", "p50 (ms)", "p95 (ms)"], rows))


def fill(url: str, transactions: int, open_reviews: int) -> None:
    from django.contrib.auth.models import Group

    from scoring.models import Client, ReviewQueue
    from training.models import ModelVersion

    client = Client.objects.create(name="Acme")
    version = ModelVersion.objects.create(
        version="handbook-benchmark", schema="handbook", review_threshold=0.5, block_threshold=0.9
    )
    queues = [ReviewQueue.objects.create(name=name).pk for name in ("Large", "Travel", "Rest")]
    ReviewQueue.objects.get(pk=queues[0]).groups.add(Group.objects.get(name="Fraud analyst"))
    with psycopg.connect(url, autocommit=True) as connection:
        given = {"days": DAYS, "all": transactions, "client": client.pk}
        for first in range(1, transactions + 1, CHUNK):
            last = min(first + CHUNK - 1, transactions)
            connection.execute(TRANSACTIONS, given | {"first": first, "last": last})
        connection.execute(PREDICTIONS, {"version": version.pk, "reasons": REASONS})
        connection.execute(REVIEWS, {"open": open_reviews, "queues": queues})
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
        found = connection.execute("SELECT count(*) FROM scoring_review WHERE state = 'open'").fetchone()
        print(f"{transactions:,} transactions, {found and found[0]:,} open reviews", flush=True)


class Analyst:
    """A fraud analyst who is logged in. Loads pages in this process, and times them."""

    def __init__(self, rounds: int, *, explain: bool) -> None:
        from django.contrib.auth.models import Group, User
        from django.test import Client
        from django.urls import reverse

        self.rounds, self.explain, self.http, self.reverse = rounds, explain, Client(SERVER_NAME="localhost"), reverse
        user = User.objects.create_user("alice", is_staff=True)
        user.groups.add(Group.objects.get(name="Fraud analyst"))
        self.http.force_login(user)

    def get(self, address: str, asked: dict[str, str] | None = None) -> Any:
        response = self.http.get(address, asked)
        assert response.status_code == 200, (address, asked, response.status_code)
        return response

    def queue(self, **asked: str) -> None:
        self.get(self.reverse("admin:scoring_review_changelist"), asked)

    def poll(self) -> None:
        self.get(self.reverse("admin:scoring_review_open"), {"queues": "1", "since": "2026-01-01T00:00:00+00:00"})

    def next(self) -> str:
        return self.http.get(self.reverse("admin:scoring_review_next"))["Location"]

    def case(self) -> None:
        self.get(self.next())

    def decide(self) -> None:
        """From the key on one case until the next one is there."""
        answered = self.http.post(self.next(), {"decide": "legitimate"})
        assert answered.status_code == 302
        self.get(answered["Location"])

    def timed(self, name: str, load: Callable[[], None]) -> list[str]:
        load()
        took_ms = []
        for _ in range(self.rounds):
            began = time.perf_counter()
            load()
            took_ms.append((time.perf_counter() - began) * 1000)
        if self.explain:
            self.tell(name, load)
        cuts = quantiles(took_ms, n=20, method="inclusive")
        row = [name, f"{cuts[9]:.0f}", f"{cuts[18]:.0f}"]
        print(*row, flush=True)
        return row

    def tell(self, name: str, load: Callable[[], None]) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as queries:
            load()
        print(f"--- {name}: {len(queries)} queries")
        for query in sorted(queries, key=lambda query: -float(query["time"]))[:2]:
            print(f"{float(query['time']) * 1000:.0f} ms: {query['sql'][:1500]}")
            if query["sql"].startswith("SELECT") and float(query["time"]) > 0.02:
                with connection.cursor() as cursor:
                    cursor.execute("EXPLAIN (ANALYZE, BUFFERS) " + query["sql"].replace("%", "%%"))
                    print("\n".join(row[0] for row in cursor.fetchall()))


if __name__ == "__main__":
    main()
