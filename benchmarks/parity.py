"""Parity on real traffic: `python -m benchmarks.parity FILE --days 2`.

Whole days of the handbook's raw file, whole weeks later than they were, pass through POST /predict of a deployment on
PostgreSQL, whose workers meet at the same customers and terminals. Some transactions come late, some twice, some in the
same second as the customer's last; meanwhile labels arrive, and some are reversed. Then `check_parity` computes every
feature of every prediction anew, offline, and has to find no difference.
"""

import asyncio
import json
import os
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import django
import httpx
import numpy as np
import pandas as pd

from benchmarks.stand import handbook_file, table
from fraudsite.tests.deployment import Deployment, deployment, run

# Of a hundred transactions so many come late, twice, or in the same second as the customer's last.
LATE, COPIES, SAME_SECOND = 2, 2, 2
# How many transactions a late one, or a copy, lets pass at most: about five hours of them.
LATE_BY = 2_000
# Every fraud is labelled, and of a hundred legitimate transactions so many; of a hundred labels, so many are reversed.
LABELLED, REVERSED = 2, 10
SECONDS_OF_PATIENCE = 120


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="the raw file")
    parser.add_argument("--first", type=date.fromisoformat, default=date(2018, 8, 8), help="the first day")
    parser.add_argument("--days", type=int, default=2, help="so many days, at most 25")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--web-processes", type=int, default=1)
    options = parser.parse_args()
    if not 1 <= options.days <= 25:
        parser.error("--days: 1 to 25. The schema takes nothing that is older than 30 days.")
    raw = pd.read_parquet(handbook_file(parser, options.source))
    calls, frauds, made = traffic(raw, options.first, options.days)
    size = {"workers": options.workers, "web_processes": options.web_processes}
    with deployment("postgresql", handbook=True, PREDICT_DEADLINE_MS=10_000, **size) as ours:
        warm(ours)
        with labeller(ours, frauds) as labels:
            began = time.perf_counter()
            answers = asyncio.run(post_all(ours, calls, options.connections, labels.put))
            took_s = time.perf_counter() - began
        check = ["manage.py", "check_parity", "--schema", "handbook", "--sample", "0"]
        verdict = run([sys.executable, *check], ours.environment).splitlines()[-1]
        stored = stored_rows()
    for body, answered in answers.items():
        if len(answered) != 1:
            sys.exit(f"A copy was answered otherwise: {body}")
    figures = Counter(made) | stored
    rows = [[name, f"{count:,}"] for name, count in figures.items()]
    rows += [["calls per second", f"{len(calls) / took_s:,.0f}"], ["seconds", f"{took_s:,.0f}"]]
    print(table(["", f"{options.days} days from {options.first}"], rows))
    print(verdict)


def traffic(raw: pd.DataFrame, first: date, days: int) -> tuple[list[str], set[str], dict[str, int]]:
    """Bodies in the order of their arrival, the ids of the frauds, and how many of what kind there are."""
    begin = pd.Timestamp(first)
    chosen = raw["TX_DATETIME"].between(begin, begin + pd.Timedelta(days=days), inclusive="left")
    frame = raw[chosen].sort_values("TX_DATETIME", kind="stable", ignore_index=True)
    random = np.random.default_rng(0)

    def some(percent: int) -> np.ndarray:
        return random.random(len(frame)) < percent / 100

    # Whole weeks, so that hours and weekdays are what they were; and everything lies in the past.
    weeks = (pd.Timestamp.now() - begin - pd.Timedelta(days=days)) // pd.Timedelta(days=7)
    previous = frame.groupby("CUSTOMER_ID")["TX_DATETIME"].shift()
    together = some(SAME_SECOND) & previous.notna()
    moment = previous.where(together, frame["TX_DATETIME"]) + pd.Timedelta(days=7 * weeks)
    late, twice = some(LATE), some(COPIES)
    passed = random.integers(1, LATE_BY, len(frame))
    names = [f"handbook-{number}" for number in frame["TRANSACTION_ID"]]
    bodies = [
        json.dumps(
            {
                "schema": "handbook",
                "transaction_id": name,
                "event_time": f"{at.isoformat()}Z",
                "amount": amount,
                "customer": str(customer),
                "terminal": str(terminal),
            }
        )
        for name, at, amount, customer, terminal in zip(
            names, moment, frame["TX_AMOUNT"], frame["CUSTOMER_ID"], frame["TERMINAL_ID"], strict=True
        )
    ]
    place = np.arange(len(frame))
    arrivals = [*zip(place + late * passed, bodies, strict=True)]
    arrivals += [(place[i] + passed[i] + late[i] * passed[i], bodies[i]) for i in np.flatnonzero(twice)]
    calls = [body for _, body in sorted(arrivals, key=lambda arrival: arrival[0])]
    frauds = {name for name, fraud in zip(names, frame["TX_FRAUD"], strict=True) if fraud}
    made = {
        "transactions": len(bodies),
        "of them late": int(late.sum()),
        "in the second of the customer's last": int(together.sum()),
        "sent twice": int(twice.sum()),
    }
    return calls, frauds, made


def warm(ours: Deployment) -> None:
    """Have every worker compile what it runs, before the clock starts."""
    row = ours.handbook_rows.read_text().splitlines()[0]
    headers = {"Authorization": ours.authorization, "Content-Type": "application/json"}
    for _ in range(50):
        httpx.post(f"{ours.url}/predict", content=row, headers=headers, timeout=SECONDS_OF_PATIENCE)


async def post_all(ours: Deployment, calls: list[str], connections: int, on_answer: Any) -> dict[str, set[str]]:
    """Post all bodies, so many at a time, in their order. Returns the answers to each."""
    headers = {"Authorization": ours.authorization, "Content-Type": "application/json"}
    following = iter(calls)
    answers: dict[str, set[str]] = {}
    async with httpx.AsyncClient(base_url=ours.url, headers=headers, timeout=SECONDS_OF_PATIENCE) as http:

        async def post_some() -> None:
            for body in following:
                answer = await post(http, body)
                if body not in answers:
                    on_answer(json.loads(answer))
                answers.setdefault(body, set()).add(answer)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(post_some())
    return answers


async def post(http: httpx.AsyncClient, body: str) -> str:
    """Post until there is an answer, as docs/api.md asks of clients."""
    give_up = time.monotonic() + SECONDS_OF_PATIENCE
    while (response := await http.post("/predict", content=body)).status_code in (429, 503):
        if time.monotonic() > give_up:
            break
        await asyncio.sleep(float(response.headers["Retry-After"]))
    if response.status_code != 200:
        sys.exit(f"{body} was answered with {response.status_code}: {response.text}")
    return response.text


@contextmanager
def labeller(ours: Deployment, frauds: set[str]) -> Iterator[SimpleQueue]:
    """A thread that labels some of the answered transactions that are put into the queue."""
    os.environ.update(ours.environment)
    django.setup()
    from django.db import connection

    from scoring.reviews import labelling

    random = np.random.default_rng(1)
    answered: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def label() -> None:
        while (answer := answered.get()) is not None:
            is_fraud = answer["transaction_id"] in frauds
            if is_fraud or random.integers(100) < LABELLED:
                words = [not is_fraud, is_fraud] if random.integers(100) < REVERSED else [is_fraud]
                for word in words:
                    labelling.add_label(transaction_id=answer["id"], is_fraud=word, source="import")
        connection.close()

    thread = Thread(target=label)
    thread.start()
    try:
        yield answered
    finally:
        answered.put(None)
        thread.join()


def stored_rows() -> dict[str, int]:
    from scoring.models import Label, Prediction

    predictions = Prediction.objects.filter(transaction__transaction_id__startswith="handbook-").count()
    return {"predictions": predictions, "labels": Label.objects.count()}


if __name__ == "__main__":
    main()
