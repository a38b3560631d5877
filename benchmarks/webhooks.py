"""Webhooks per second on PostgreSQL: `python -m benchmarks.webhooks`.

Events of one client are recorded for an endpoint whose receiver runs here, and as many for one that is dead: it takes
connections and never answers. The deliverer runs as an operator starts it. Counted are the messages that arrive in so
many seconds. Beside it a bare loop over httpx posts the same bodies to the same receiver, with as many calls under way,
unsigned and without a database.
"""

import asyncio
import os
import socket
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.stand import measure_on_postgresql, process, table
from fraudsite.testing import free_port

CONCURRENCY = 32
START_S = 60
PIDS: list[int] = []
CPU_S: list[float] = []


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--deliverers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    environment = {"WEBHOOK_PRIVATE_TARGETS": "true", "WEBHOOK_CONCURRENCY": str(CONCURRENCY)}
    measure_on_postgresql(parser, "benchmarks.webhooks", list(vars(options).values()), **environment)


class Receiver(asyncio.Protocol):
    """Answers each request of HTTP/1.1 with 204, as cheaply as Python can, and counts them."""

    arrived = 0
    first = last = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            Receiver.arrived += 1
            Receiver.last = time.perf_counter()
            Receiver.first = Receiver.first or Receiver.last


@contextmanager
def dead() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1_024)
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/"


def measure(options: Namespace) -> None:
    import django

    django.setup()
    from scoring.models import Client, WebhookDelivery
    from scoring.webhooks import endpoints, events
    from scoring.webhooks.types import EventType

    port = free_port()
    client = Client.objects.create(name="benchmark")
    rows = []
    with dead() as silent:
        for url in (f"http://127.0.0.1:{port}/", silent):
            endpoints.create(client=client, url=url, event_types=["alert.opened"])
        for _ in range(options.rounds):
            WebhookDelivery.objects.all().delete()
            told = [
                events.Event(EventType.ALERT_OPENED.value, str(number), _data(number), client.pk, "ulb")
                for number in range(options.events)
            ]
            for start in range(0, options.events, 1_000):
                events.record_all(told[start : start + 1_000])
            ours = asyncio.run(_counted(port, options.seconds, _deliverers(options.deliverers)))
            per_cpu_s = Receiver.arrived / CPU_S.pop()
            bodies = [event.payload.encode() for event in told]
            bare = asyncio.run(_counted(port, options.seconds, _bare(port, bodies)))
            dead_ones = WebhookDelivery.objects.filter(endpoint__url=silent, state="pending").count()
            ratio = f"{ours / bare:.2f} ×"
            rows.append([f"{ours:,.0f}", f"{per_cpu_s:,.0f}", f"{bare:,.0f}", ratio, f"{dead_ones:,}"])
    titles = ["events per s", "per CPU s of the deliverers", "bare httpx, per s", "Fraudsite / bare"]
    print(table([*titles, "of the dead receiver, pending"], rows))


def _data(number: int) -> dict[str, Any]:
    reasons = ["V14", "V4", "V12"]
    score = {"decision": "review", "fraud_score": 0.93, "reason_codes": reasons}
    return {
        "id": f"019c1a2b-7e6f-7000-8000-{number:012d}",
        "transaction_id": f"order-{number}",
        "schema": "ulb",
    } | score


async def _counted(port: int, seconds: int, sending: Any) -> float:
    """Messages that arrive per second, from the first one on."""
    Receiver.arrived, Receiver.first = 0, 0.0
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port)
    sender = asyncio.create_task(sending)
    give_up = time.perf_counter() + START_S
    while not Receiver.first and time.perf_counter() < give_up:
        await asyncio.sleep(0.01)
    began = _cpu_s()
    await asyncio.sleep(seconds)
    CPU_S.append(_cpu_s() - began)
    count, took = Receiver.arrived, Receiver.last - Receiver.first
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    server.close()
    return count / took


def _cpu_s() -> float:
    """Seconds of the processor that the deliverers have used."""
    used = 0
    for pid in PIDS:
        with suppress(FileNotFoundError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(stat[11]) + int(stat[12])
    return used / os.sysconf("SC_CLK_TCK")


async def _deliverers(count: int) -> None:
    command = [sys.executable, "manage.py", "deliver_webhooks"]
    with process(command, dict(os.environ)) as started:
        PIDS.append(started.pid)
        await (_deliverers(count - 1) if count > 1 else asyncio.Event().wait())


async def _bare(port: int, bodies: list[bytes]) -> None:
    import httpx

    left = iter(bodies)

    async def post() -> None:
        for body in left:
            answer = await client.post(f"http://127.0.0.1:{port}/", content=body)
            answer.raise_for_status()

    async with httpx.AsyncClient() as client:
        await asyncio.gather(*(post() for _ in range(CONCURRENCY)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        names = ("events", "seconds", "deliverers", "rounds")
        measure(Namespace(**dict(zip(names, map(int, sys.argv[2:]), strict=True))))
    else:
        main()
