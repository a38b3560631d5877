"""The pages of an analyst at 10 million transactions and 100,000 open reviews: `python -m benchmarks.review_pages`.

A PostgreSQL of its own with the server's defaults, filled by its own statements, about a gigabyte a million: also with
links and contributions of all alerts, and with histories of the cards and terminals that are looked at. What is
timed is the server's side, in this process: the queue page, its filters and searches, a case page, what pages poll, and
the step from a decision to the next case that is shown. Targets: 150 ms for a page, 300 ms (p95) to the next case.
Beside it is the processor time that a page takes, in this process and in the server's that works for it, as other work
on the machine changes that little. It is read from /proc, so that this runs on Linux.
"""

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import psycopg

from benchmarks.stand import table
from fraudsite.tests import postgresql

DAYS = 90
CHUNK = 500_000
ALERTS = 0.02  # their share of the transactions
# Ids increase with time, as UUIDv7 do.
TRANSACTIONS = """
WITH made AS (
    SELECT number, now() - %(days)s * interval '1 day' * (1 - number / %(all)s::float8) AS at,
        round((exp(random() * 7))::numeric, 2) AS amount,
        md5('card' || number %% 200000) AS card, md5('terminal' || number %% 20000) AS terminal
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number
)
INSERT INTO scoring_transaction
    (id, client_id, transaction_id, schema, amount, fields, tokens, body_sha256, event_time, received_at, sequence)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || lpad(to_hex(number), 20, '0'))::uuid,
    %(client)s, 'order-' || number, 'handbook', amount, jsonb_build_object('amount', amount),
    jsonb_build_object('customer', card, 'terminal', terminal), '', at, at, number
FROM made
"""
PREDICTIONS = """
INSERT INTO scoring_prediction
    (transaction_id, model_version_id, fraud_score, decision, threshold, reasons, explanation, latency_ms, created_at)
SELECT id, %(version)s, CASE WHEN drawn < %(share)s THEN 0.5 + random() / 2 ELSE random() / 20 END,
    CASE WHEN drawn < %(share)s THEN 'review' ELSE 'approve' END, 0.5,
    CASE WHEN drawn < %(share)s THEN %(reasons)s::jsonb ELSE '[]' END,
    CASE WHEN drawn < %(share)s THEN jsonb_build_object('base', -5, 'residual', 0, 'contributions', (
        SELECT jsonb_object_agg(name, random() * 4 - 2) FROM unnest(%(inputs)s::text[]) AS name WHERE drawn < 1
    )) END, 5, received_at
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
LINKS = """
INSERT INTO scoring_reviewlink (review_id, name, key)
SELECT prediction_id, name, tokens->>name FROM scoring_review JOIN scoring_transaction t ON t.id = prediction_id,
    unnest(ARRAY['customer', 'terminal']) AS name
"""
# Of the cases that come first: an entity has as many transactions in its history as it keeps.
KEPT = """
SELECT tokens->>%(name)s, (array_agg(sequence ORDER BY sequence DESC))[:%(limit)s] FROM scoring_transaction
WHERE tokens->>%(name)s = ANY(ARRAY(
    SELECT key FROM scoring_reviewlink WHERE name = %(name)s AND review_id IN (
        SELECT prediction_id FROM scoring_review WHERE state = 'open' ORDER BY expected_loss DESC LIMIT 300
    )
)) GROUP BY 1
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
    "search: a card": {},
    "search: an id": {"q": "order-99"},
    "search: amounts": {"q": "100..250"},
    "all states": {"state": "all"},
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=10_000_000)
    parser.add_argument("--open", type=int, default=100_000, help="open reviews; at least 2 %% are alerts")
    parser.add_argument("--rounds", type=int, default=20, help="how often each page is loaded")
    parser.add_argument("--explain", action="store_true", help="show the slowest queries of each page")
    options = parser.parse_args()
    programs = postgresql.programs()
    if programs is None:
        sys.exit("There is no PostgreSQL here: install the server's programs.")
    with postgresql.cluster(programs) as cluster:
        os.environ |= {"DATABASE_URL": cluster.url, "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests"}
        os.environ["QUEUE_COUNTS_S"] = "5"  # as in production
        import django

        django.setup()
        measure(cluster.url, options)


def measure(url: str, options: Any) -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill(url, options.transactions, options.open)
    FILTERS["search: a card"] |= {"q": _a_card(), "state": "all"}  # as the list links to it
    analyst = Analyst(options.rounds, explain=options.explain)
    rows = [analyst.timed(name, partial(analyst.queue, **asked)) for name, asked in FILTERS.items()]
    rows.append(analyst.timed("what pages poll", analyst.poll))
    rows.append(analyst.timed("the way to the next case", analyst.next))
    rows.append(analyst.timed("a case", partial(analyst.get, analyst.next())))
    rows.append(analyst.timed("a decision, and the next case", analyst.decide))
    print(table(["", "p50 (ms)", "p95 (ms)", "processor (ms)", "of the database (ms)"], rows))


def fill(url: str, transactions: int, open_reviews: int, *, days: int = DAYS) -> None:
    from django.contrib.auth.models import Group

    from scoring.models import Client, ReviewQueue
    from training.core.schema import load_schema
    from training.models import ModelVersion

    client = Client.objects.create(name="Acme")
    version = ModelVersion.objects.create(
        version="handbook-benchmark", schema="handbook", review_threshold=0.5, block_threshold=0.9
    )
    queues = [ReviewQueue.objects.create(name=name).pk for name in ("Large", "Travel", "Rest")]
    ReviewQueue.objects.get(pk=queues[0]).groups.add(Group.objects.get(name="Fraud analyst"))
    with psycopg.connect(url, autocommit=True) as connection:
        given = {"days": days, "all": transactions, "client": client.pk}
        for first in range(1, transactions + 1, CHUNK):
            last = min(first + CHUNK - 1, transactions)
            connection.execute(TRANSACTIONS, given | {"first": first, "last": last})
        share = max(ALERTS, 1.1 * open_reviews / transactions)  # enough of them at fewer transactions, too
        schema = load_schema("handbook")
        told = {"reasons": REASONS, "inputs": [declared.name for declared in schema.inputs], "share": share}
        connection.execute(PREDICTIONS, told | {"version": version.pk})
        connection.execute(REVIEWS, {"open": open_reviews, "queues": queues})
        connection.execute(LINKS)
        for entity in schema.entities:
            asked = {"name": entity.name, "limit": entity.history_limit}
            for token, sequences in connection.execute(KEPT, asked):
                _keep(schema, entity.name, token, sequences[::-1])
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
        found = connection.execute("SELECT count(*) FROM scoring_review WHERE state = 'open'").fetchone()
        print(f"{transactions:,} transactions, {found and found[0]:,} open reviews", flush=True)


def _keep(schema: Any, entity: str, token: str, sequences: list[int]) -> None:
    """Store a history of these transactions, of which pages read the places in the order of arrival alone."""
    from scoring.models import History
    from training.core.features import replay, stored

    rest = bytes(stored.event_bytes(schema, entity) - 8)
    events = replay.version(schema, entity) + b"".join(each.to_bytes(8, "little") + rest for each in sequences)
    made = {"schema": schema.name, "entity": entity, "events": events, "last_sequence": sequences[-1]}
    History.objects.create(token=token, **made)


def server_s() -> float:
    """The processor time of the server's process that works for this one."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        user, system = Path(f"/proc/{cursor.fetchone()[0]}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _a_card() -> str:
    """The beginning of the token of a card that has alerts."""
    from scoring.models import Review

    return Review.objects.exclude(card="").values_list("card", flat=True)[0][:8]


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

    def decide(self) -> None:
        """From the key on one case until the next one is there."""
        answered = self.http.post(self.next(), {"decide": "legitimate"})
        assert answered.status_code == 302
        self.get(answered["Location"])

    def timed(self, name: str, load: Callable[[], Any]) -> list[str]:
        load()
        took_ms, cpu_s = [], (time.process_time(), server_s())
        for _ in range(self.rounds):
            began = time.perf_counter()
            load()
            took_ms.append((time.perf_counter() - began) * 1000)
        spent = (time.process_time() - cpu_s[0], server_s() - cpu_s[1])
        if self.explain:
            self.tell(name, load)
        cuts = quantiles(took_ms, n=20, method="inclusive")
        row = [name, *(f"{ms:.0f}" for ms in (cuts[9], cuts[18], *(1000 * each / self.rounds for each in spent)))]
        print(*row, flush=True)
        return row

    def tell(self, name: str, load: Callable[[], Any]) -> None:
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
