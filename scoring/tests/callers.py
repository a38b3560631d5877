"""Clients that post transactions to a deployment while something happens to it, and what has to hold afterwards."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count, cycle, takewhile
from typing import Any

import httpx
import psycopg

from fraudsite.testing import fraudulent_payload, seed_payload
from fraudsite.tests.deployment import Deployment

DEADLINE_S = 2.0
# A busy test machine may keep a thread waiting before and after the call; a hang is a matter of minutes.
GRACE_S = 3.0
CALLERS = 12


@dataclass
class Answer:
    status: int
    body: bytes
    took_s: float
    retry_after: str | None


class Callers:
    """Clients that post transactions at a steady pace, each with an id of its own, and note what they hear."""

    def __init__(self, system: Deployment, through: "Balancer | httpx.Client | None" = None) -> None:
        """Without a load balancer they post to the first web server."""
        self.heard: dict[str, Answer] = {}
        self.lost: dict[str, str] = {}  # the faults of calls without an answer
        self.before = counts(system)
        self._http: Balancer | httpx.Client = through or client_of(system, system.url)

    @staticmethod
    def payload(number: int) -> dict[str, Any]:
        # Every twentieth looks like fraud, so that reviews are at stake too.
        payload = fraudulent_payload if number % 20 == 0 else seed_payload
        return payload(transaction_id=f"order-{number}", Amount=number % 10_000)

    def post(self, key: str) -> None:
        began = time.monotonic()
        try:
            response = self._http.post("/predict", json=self.payload(int(key.removeprefix("order-"))))
        except httpx.HTTPError as error:
            self.lost[key] = repr(error)
            return
        took_s = time.monotonic() - began
        self.heard[key] = Answer(response.status_code, response.content, took_s, response.headers.get("Retry-After"))

    def post_all(self, count: int, *, per_s: float, meanwhile: Callable[[], None], after: int = 0) -> None:
        """Post `count` transactions, numbered from `after` on, while something happens, and then what was not answered
        with 200, until it is."""
        happening = threading.Thread(target=meanwhile)
        happening.start()
        self._post_at_pace(range(after, after + count), per_s)
        happening.join()
        self._post_the_rest()
        assert not self.lost, f"{len(self.lost)} calls were left without an answer: {self.lost}"

    def post_while(self, meanwhile: Callable[[], None], *, per_s: float) -> int:
        """Like `post_all`, until what happens has ended, and a second longer. Returns how many were posted."""
        with ThreadPoolExecutor(1) as pool:
            happening = pool.submit(meanwhile)
            self._post_at_pace(takewhile(lambda _: not happening.done(), count()), per_s)
            happening.result()
        posted = len(self.heard) + len(self.lost)
        self._post_at_pace(range(posted, posted + round(per_s)), per_s)
        self._post_the_rest()
        return len(self.heard)

    def _post_at_pace(self, numbers: Iterable[int], per_s: float) -> None:
        with ThreadPoolExecutor(CALLERS) as pool:
            began = time.monotonic()
            for place, number in enumerate(numbers):
                time.sleep(max(0.0, began + place / per_s - time.monotonic()))
                pool.submit(self.post, f"order-{number}")

    def _post_the_rest(self) -> None:
        self.first = dict(self.heard)
        give_up = time.monotonic() + 60
        with closing(self._http), ThreadPoolExecutor(CALLERS) as pool:
            while again := [*(self.lost.keys() - self.heard), *(k for k, v in self.heard.items() if v.status != 200)]:
                assert time.monotonic() < give_up, f"{len(again)} without a score, like {self.heard.get(again[0])}"
                list(pool.map(self.post, again[: 10 * CALLERS]))


class Balancer:
    """Spreads calls over the web servers of a deployment, as load balancers do: to those that say that they are well,
    and a call whose connection is refused to the next one. A call that was sent is never sent again."""

    ASKS_EVERY_S = 0.2

    def __init__(self, system: Deployment) -> None:
        self._servers = {url: client_of(system, url) for url in system.urls}
        self._turns = cycle(system.urls)
        self._well = set(system.urls)
        self._closed = threading.Event()
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def post(self, path: str, json: Any) -> httpx.Response:
        give_up = time.monotonic() + DEADLINE_S
        while True:
            url = next(turn for turn in self._turns if turn in self._well or time.monotonic() > give_up)
            try:
                return self._servers[url].post(path, json=json)
            except httpx.ConnectError:
                if time.monotonic() > give_up:
                    raise

    def _ask(self) -> None:
        while not self._closed.wait(self.ASKS_EVERY_S):
            for url in self._servers:
                try:
                    is_well = httpx.get(f"{url}/healthz", timeout=1).status_code == 200
                except httpx.HTTPError:
                    is_well = False
                (self._well.add if is_well else self._well.discard)(url)

    def close(self) -> None:
        self._closed.set()
        self._asking.join()
        for server in self._servers.values():
            server.close()


def client_of(system: Deployment, url: str) -> httpx.Client:
    headers = {"Authorization": system.authorization}
    return httpx.Client(base_url=url, headers=headers, timeout=DEADLINE_S + GRACE_S)


def hold(system: Deployment, callers: Callers, count: int) -> None:
    """Every first call was answered in time, with 200 or 503; what got 200 is stored once, as it was told."""
    assert not callers.lost, f"{len(callers.lost)} calls were left without an answer: {callers.lost}"
    assert {answer.status for answer in callers.first.values()} <= {200, 503}
    assert max(answer.took_s for answer in callers.first.values()) < DEADLINE_S + GRACE_S
    told = {key: httpx.Response(200, content=answer.body).json() for key, answer in callers.heard.items()}
    assert len({answer["id"] for answer in told.values()}) == count
    stored = rows(
        system,
        "SELECT t.transaction_id, p.fraud_score FROM scoring_transaction t "
        "JOIN scoring_prediction p ON p.transaction_id = t.id",
    )
    stored = [row for row in stored if row[0] in told]
    assert dict(stored) == {key: answer["fraud_score"] for key, answer in told.items()}
    assert len(stored) == count
    alerts = sum(answer["alert"] for answer in told.values())
    transactions, reviews = counts(system)
    assert (transactions - callers.before[0], reviews - callers.before[1]) == (count, alerts)
    assert alerts


def counts(system: Deployment) -> tuple[int, int]:
    """How many transactions and reviews are stored."""
    [found] = rows(system, "SELECT (SELECT count(*) FROM scoring_transaction), (SELECT count(*) FROM scoring_review)")
    return found[0], found[1]


def rows(system: Deployment, query: str) -> list[tuple]:
    """Ask the deployment's own database."""
    if system.cluster:
        with psycopg.connect(system.cluster.url) as connected:
            return connected.execute(query).fetchall()
    with closing(sqlite3.connect(system.directory / "fraudsite.sqlite3")) as connected:
        return connected.execute(query).fetchall()
