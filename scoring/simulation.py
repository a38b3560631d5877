"""Simulated traffic: posts rows that no model was trained on to a running Fraudsite, at a real pace, over HTTP."""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pandas as pd
import uuid_utils

import fraudsite_client
from fraudsite_client import Fraudsite, Patience, Prediction
from training.core.exceptions import FraudsiteError
from training.core.schema import EVENT_TIME, SENT_AMOUNT, Schema

ID_PREFIX = "simulated-"  # of the ids of transactions
PATIENCE = Patience(deadline_s=30, timeout_s=10, attempts=3, first_pause_s=1)
CHECK_S = 0.2  # the longest pause between two checks whether the time is up or a label is due
WEEK = pd.Timedelta(days=7)


@dataclass(frozen=True)
class Call:
    """A transaction to post `due_s` seconds after the start. Its label becomes known `label_due_s` seconds after the
    start; None means never."""

    due_s: float
    payload: dict[str, Any]
    is_fraud: bool
    label_due_s: float | None = None


def drawn(
    schema: Schema,
    rows: pd.DataFrame,
    *,
    rate_per_s: float,
    fraud_rate: float | None,
    seed: int | None,
) -> Iterator[Call]:
    """Draw rows at random, without end, at `rate_per_s` on average (a Poisson process).

    `rows` are stored rows of a dataset. A share `fraud_rate` of the traffic is fraud; None keeps the share of the rows.
    """
    labels = rows[schema.label].to_numpy()
    fraud_rows, legitimate_rows = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    fraud_rate = len(fraud_rows) / len(labels) if fraud_rate is None else fraud_rate
    random = np.random.default_rng(seed)
    due_s = 0.0
    while True:
        due_s += random.exponential(1 / rate_per_s)
        row = int(random.choice(fraud_rows if random.random() < fraud_rate else legitimate_rows))
        yield Call(due_s, body_of(schema, rows.iloc[row]), bool(labels[row]))


def paced(
    schema: Schema,
    rows: pd.DataFrame,
    *,
    now: datetime,
    first: datetime,
    speed: float,
    label_delay_days: float,
    repeat: bool = False,
) -> Iterator[Call]:
    """Give rows with event times in their order, at the pace of these times.

    The event times are moved by `weeks_to` the moment `first`, which is not after `now`. Rows before it are left out.
    The simulated clock starts there and goes `speed` times as fast as the real one until it has caught up. Labels
    become known `label_delay_days` after their event, on the simulated clock. With `repeat` the whole weeks of the rows
    follow each other without end.
    """
    start, delay = pd.Timestamp(first), pd.Timedelta(days=label_delay_days)
    moments = rows[EVENT_TIME] + weeks_to(first, rows[EVENT_TIME].iloc[0])
    round_time = max((moments.iloc[-1] - moments.iloc[0]) // WEEK, 1) * WEEK
    if repeat:
        moments = moments[moments < moments.iloc[0] + round_time]

    def due_s(moment: pd.Timestamp) -> float:
        return max((moment - start).total_seconds() / speed, (moment - now).total_seconds())

    columns = list(rows.columns)
    while True:
        later = moments[moments > start]
        chosen = rows.loc[later.index]
        for moment, label, row in zip(later, chosen[schema.label], chosen.itertuples(index=False), strict=True):
            payload = body_of(schema, dict(zip(columns, row, strict=True))) | {EVENT_TIME: moment.isoformat()}
            yield Call(due_s(moment), payload, bool(label), due_s(moment + delay))
        if not repeat:
            return
        moments = moments + round_time


def weeks_to(first: datetime, begin: pd.Timestamp) -> pd.Timedelta:
    """By what event times are moved, so that traffic that begins at `begin` begins less than a week before `first`:
    whole weeks, so that hours and weekdays stay."""
    return (pd.Timestamp(first) - begin) // WEEK * WEEK


def before(rows: pd.DataFrame, first_test: int, first: datetime, days: float) -> pd.DataFrame:
    """The rows of `days` days before those that `paced` gives of `rows[first_test:]` from the moment `first` on, with
    their moved event times."""
    moments = rows[EVENT_TIME] + weeks_to(first, rows[EVENT_TIME].iloc[first_test])
    chosen = moments.between(pd.Timestamp(first) - pd.Timedelta(days=days), pd.Timestamp(first))
    return rows[chosen].assign(**{EVENT_TIME: moments[chosen]})


def body_of(schema: Schema, row: Mapping[Any, Any]) -> dict[str, Any]:
    """The body of a stored row, without what is missing."""
    body: dict[str, Any] = {"schema": schema.name}
    for declared in schema.features:
        sent = SENT_AMOUNT if schema.amount_currency and declared.name == schema.amount else declared.name
        value = row[sent]
        if pd.isna(value):
            continue
        convert = bool if declared.kind == "boolean" else float if declared.is_number else str
        body[declared.name] = convert(value)
    return body | {name: row[name] for name in schema.identifier_names if not pd.isna(row[name])}


@dataclass
class Tally:
    """Counts of what was sent and answered. `latencies_ms` are measured by the client, retries included."""

    fraud: int = 0
    legitimate: int = 0
    caught: int = 0
    false_alerts: int = 0
    labels: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return self.fraud + self.legitimate

    def line(self, elapsed_s: float) -> str:
        """A one-line summary, with "-" for figures that are not known yet."""
        alerts = self.caught + self.false_alerts
        precision = f"{self.caught / alerts:.1%}" if alerts else "-"
        recall = f"{self.caught / self.fraud:.1%}" if self.fraud else "-"
        p50, p95 = np.percentile(self.latencies_ms, [50, 95]) if self.latencies_ms else (np.nan, np.nan)
        labels = f"labels reported {self.labels} · " if self.labels else ""
        failures = ", ".join(f"{count} × {kind}" for kind, count in sorted(self.failed.items())) or "none"
        return (
            f"{self.answered} answered in {elapsed_s:.0f} s ({self.answered / max(elapsed_s, 1e-9):.1f}/s) · "
            f"fraud {self.caught}/{self.fraud} caught (recall {recall}) · "
            f"false alerts {self.false_alerts}/{self.legitimate} (precision {precision}) · "
            f"latency p50 {p50:.1f} ms, p95 {p95:.1f} ms · {labels}failed: {failures}"
        )


class Simulator:
    """Posts transactions when they are due, and reports their labels once these are known.

    The client sends a request that gets 429, 503 or no answer again, with the same id. `report` is called in the thread
    that runs the simulator, with Fraudsite's id and the label of a transaction; it returns the error, or "".
    """

    def __init__(
        self, *, url: str, api_key: str, concurrency: int, report: Callable[[str, bool], str] | None = None
    ) -> None:
        self.tally = Tally()
        self._report = report
        self._unreported: list[tuple[float, str, bool]] = []  # a heap
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="simulate")
        # The pool's queue is bounded: if the server is slower than the pace, the simulator waits.
        self._room = threading.Semaphore(4 * concurrency)
        self._fraudsite = Fraudsite(
            url,
            api_key,
            patience=PATIENCE,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    def await_ready(self, *, timeout_s: float) -> None:
        """Wait until the site is ready, for at most `timeout_s` seconds.

        Raises:
            FraudsiteError: the site does not answer.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            try:
                if self._fraudsite.is_ready() or time.monotonic() >= give_up:
                    return
            except fraudsite_client.NotReached as error:
                if time.monotonic() >= give_up:
                    raise FraudsiteError(str(error)) from error
            time.sleep(0.5)

    def run(self, calls: Iterable[Call], *, count: int | None, duration_s: float | None) -> Iterator[float]:
        """Send until the calls end, `count` of them are sent or `duration_s` has passed. Yields the elapsed seconds
        after each call."""
        began = time.monotonic()
        sent = 0

        def is_over() -> bool:
            return duration_s is not None and time.monotonic() - began >= duration_s

        with self._fraudsite, self._pool:  # the pool finishes first
            for call in calls:
                if sent == count or not self._pause_until(began, call.due_s, is_over):
                    break
                self._room.acquire()
                self._pool.submit(self._send, call)
                sent += 1
                yield time.monotonic() - began
        self._report_due(time.monotonic() - began)
        yield time.monotonic() - began

    def _pause_until(self, began: float, due_s: float, is_over: Callable[[], bool]) -> bool:
        """Report labels until the next call is due. Returns False if the time is over first."""
        while not is_over():
            elapsed_s = time.monotonic() - began
            self._report_due(elapsed_s)
            if elapsed_s >= due_s:
                return True
            time.sleep(min(due_s - elapsed_s, CHECK_S))
        return False

    def _report_due(self, elapsed_s: float) -> None:
        while self._report:
            with self._lock:
                if not self._unreported or self._unreported[0][0] > elapsed_s:
                    return
                _, key, is_fraud = heapq.heappop(self._unreported)
            failure = self._report(key, is_fraud)
            with self._lock:
                if failure:
                    self.tally.failed[failure] = self.tally.failed.get(failure, 0) + 1
                else:
                    self.tally.labels += 1

    def _send(self, call: Call) -> None:
        try:
            payload = call.payload | {"transaction_id": f"{ID_PREFIX}{uuid_utils.uuid7()}"}
            began = time.monotonic()
            outcome = self._post(payload)
            latency_ms = (time.monotonic() - began) * 1000
            with self._lock:
                if isinstance(outcome, str):
                    self.tally.failed[outcome] = self.tally.failed.get(outcome, 0) + 1
                    return
                self.tally.latencies_ms.append(latency_ms)
                if call.is_fraud:
                    self.tally.fraud += 1
                    self.tally.caught += outcome.alert
                else:
                    self.tally.legitimate += 1
                    self.tally.false_alerts += outcome.alert
                if call.label_due_s is not None:
                    heapq.heappush(self._unreported, (call.label_due_s, outcome.id, call.is_fraud))
        finally:
            self._room.release()

    def _post(self, payload: dict[str, Any]) -> Prediction | str:
        """Returns the answer, or the kind of failure."""
        try:
            return self._fraudsite.predict(payload)
        except fraudsite_client.Refused as refusal:
            return f"status {refusal.status}"
        except fraudsite_client.FraudsiteError as error:
            return type(error).__name__
