"""Traffic for a running Fraudsite: rows that no model was trained on, over real HTTP, at the pace of real customers.

This is the simulator of the first days, as it was (revision 72ce8a1, `training/simulation.py`): a client that nobody
has changed since. A test holds that it still works. Do not mend it.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import uuid_utils

RETRY_LIMIT = 3


@dataclass
class Tally:
    """What was sent and what came of it. `latencies_ms` are seen from the client, retries included."""

    fraud: int = 0
    legitimate: int = 0
    caught: int = 0
    false_alerts: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return self.fraud + self.legitimate

    def line(self, elapsed_s: float) -> str:
        """A one-line summary; "-" where nothing can be said yet."""
        alerts = self.caught + self.false_alerts
        precision = f"{self.caught / alerts:.1%}" if alerts else "-"
        recall = f"{self.caught / self.fraud:.1%}" if self.fraud else "-"
        p50, p95 = np.percentile(self.latencies_ms, [50, 95]) if self.latencies_ms else (np.nan, np.nan)
        failures = ", ".join(f"{count} × {kind}" for kind, count in sorted(self.failed.items())) or "none"
        return (
            f"{self.answered} answered in {elapsed_s:.0f} s ({self.answered / max(elapsed_s, 1e-9):.1f}/s) · "
            f"fraud {self.caught}/{self.fraud} caught (recall {recall}) · "
            f"false alerts {self.false_alerts}/{self.legitimate} (precision {precision}) · "
            f"latency p50 {p50:.1f} ms, p95 {p95:.1f} ms · failed: {failures}"
        )


class Simulator:
    """Posts transactions at random moments, `rate_per_s` on average (a Poisson process), and keeps their labels aside.

    `features` are [n, f], `labels` [n] of 0 and 1. A share `fraud_rate` of the traffic is fraud; None keeps the share
    of the rows. A request that gets 429 or 503, or no answer, is repeated as the server asks, with the same id.
    """

    def __init__(
        self,
        *,
        names: tuple[str, ...],
        features: np.ndarray,
        labels: np.ndarray,
        url: str,
        api_key: str,
        rate_per_s: float,
        fraud_rate: float | None,
        concurrency: int,
        seed: int | None,
    ) -> None:
        self.tally = Tally()
        self._names, self._features, self._labels = names, features, labels
        self._fraud_rows, self._legitimate_rows = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        self._fraud_rate = len(self._fraud_rows) / len(labels) if fraud_rate is None else fraud_rate
        self._rate_per_s = rate_per_s
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="simulate")
        # More requests than that in the pool's queue and the pace is lost: then better wait.
        self._room = threading.Semaphore(4 * concurrency)
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=10,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    def await_ready(self, *, timeout_s: float) -> None:
        """Wait until the site says it is ready, for `timeout_s` seconds at most."""
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            try:
                if self._http.get("/readyz").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)

    def run(self, *, count: int | None, duration_s: float | None) -> Iterator[float]:
        """Send until `count` transactions are sent or `duration_s` has passed; yields the seconds gone, after each."""
        began = due = time.monotonic()
        sent = 0
        with closing(self._http), self._pool:  # the pool finishes first
            while (count is None or sent < count) and (duration_s is None or time.monotonic() - began < duration_s):
                due += self._random.exponential(1 / self._rate_per_s)
                time.sleep(max(0.0, due - time.monotonic()))
                self._room.acquire()
                self._pool.submit(self._send, self._draw())
                sent += 1
                yield time.monotonic() - began
        yield time.monotonic() - began

    def _draw(self) -> int:
        rows = self._fraud_rows if self._random.random() < self._fraud_rate else self._legitimate_rows
        return int(self._random.choice(rows))

    def _send(self, row: int) -> None:
        try:
            payload: dict[str, Any] = dict(zip(self._names, self._features[row].tolist(), strict=True))
            payload["transaction_id"] = f"simulated-{uuid_utils.uuid7()}"
            began = time.monotonic()
            outcome = self._post(payload)
            latency_ms = (time.monotonic() - began) * 1000
            with self._lock:
                if isinstance(outcome, str):
                    self.tally.failed[outcome] = self.tally.failed.get(outcome, 0) + 1
                    return
                self.tally.latencies_ms.append(latency_ms)
                if self._labels[row]:
                    self.tally.fraud += 1
                    self.tally.caught += outcome["alert"]
                else:
                    self.tally.legitimate += 1
                    self.tally.false_alerts += outcome["alert"]
        finally:
            self._room.release()

    def _post(self, payload: dict[str, Any]) -> dict[str, Any] | str:
        """Returns the answer, or the kind of failure."""
        failure = ""
        for _ in range(RETRY_LIMIT):
            try:
                response = self._http.post("/predict", json=payload)
            except httpx.HTTPError as error:
                failure = type(error).__name__
                time.sleep(1)
                continue
            if response.status_code == 200:
                return response.json()
            failure = f"status {response.status_code}"
            if response.status_code not in (429, 503):
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
        return failure
