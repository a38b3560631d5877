"""Transactions by a Redis stream beside the predict call: `python -m benchmarks.streams`.

The same rows on PostgreSQL, one process that scores for each way: a realtime worker behind a web process at 64
connections, and a consumer of a stream that a producer has filled, from its first answer to its last. Beside both, the
time from XADD to the answer at half of what the consumer reached, and that of calls at the same rate.
"""

import sys
import time
from argparse import ArgumentParser
from statistics import median, quantiles
from typing import Any, NamedTuple

import redis

from benchmarks.realtime import CONNECTIONS
from benchmarks.stand import as_fast_as_possible, at_rate, process, table
from fraudsite.tests.deployment import START_LIMIT_S, Deployment, deployment, run

STREAM, ANSWERS = "benchmark", "benchmark:answers"
MAKE_CLIENT = "from scoring.models import Client; Client.objects.get_or_create(name='Stream')"


class Streamed(NamedTuple):
    per_s: float
    failed: int


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement by HTTP")
    parser.add_argument("--entries", type=int, default=20_000, help="of each measurement by the stream")
    parser.add_argument("--rounds", type=int, default=3, help="each side in turn so many times; the medians count")
    options = parser.parse_args()
    with deployment("postgresql", STREAM_ANSWERS_MAXLEN=1_000_000) as ours:
        run([sys.executable, "manage.py", "shell", "-c", MAKE_CLIENT], ours.environment)
        environment = ours.environment | {"STREAMS": f"{STREAM}=Stream"}
        with process([sys.executable, "manage.py", "consume_stream", STREAM], environment, quiet=True):
            measure(ours, redis.Redis.from_url(ours.environment["REDIS_URL"]), options)


def measure(ours: Deployment, stream: redis.Redis, options: Any) -> None:
    bodies = ours.rows.read_bytes().splitlines()
    url = f"{ours.url}/predict"
    fill(stream, bodies, 1_000)  # a warm-up; the consumer still starts
    await_answers(stream, 1_000)
    called, streamed = [], []
    for _ in range(options.rounds):
        called.append(
            as_fast_as_possible(
                url, ours.rows, connections=CONNECTIONS, seconds=options.seconds, authorization=ours.authorization
            )
        )
        streamed.append(drain(stream, bodies, options.entries))
    cells = [["HTTP", f"{load.per_s:,.0f}", str(load.failed)] for load in called]
    cells += [["stream", f"{load.per_s:,.0f}", str(load.failed)] for load in streamed]
    print(table(["way in", "transactions per s", "failed"], cells))
    rates = median([load.per_s for load in streamed]), median([load.per_s for load in called])
    print(f"\nstream / HTTP: {rates[0] / rates[1]:.2f}×")
    rate = min(rates) / 2
    calm = at_rate(
        url, ours.rows, per_s=rate, seconds=options.seconds, directory=ours.directory, authorization=ours.authorization
    )
    took = at_rate_by_stream(stream, bodies, rate, options.seconds)
    print(f"\nAt {rate:,.0f} transactions per s\n")
    rows = [["HTTP", f"{calm.p50_ms:.1f}", f"{calm.p99_ms:.1f}"], ["stream", f"{took[49]:.1f}", f"{took[98]:.1f}"]]
    print(table(["way in", "p50 ms", "p99 ms"], rows))


def fill(stream: redis.Redis, bodies: list[bytes], count: int) -> None:
    stream.delete(ANSWERS)
    with stream.pipeline(transaction=False) as pipeline:
        for n in range(count):
            pipeline.xadd(STREAM, {"body": bodies[n % len(bodies)]}, maxlen=100_000)
        pipeline.execute()


def drain(stream: redis.Redis, bodies: list[bytes], count: int) -> Streamed:
    """Fill the stream, and measure from the first answer to the last, as the stream's own clock tells."""
    fill(stream, bodies, count)
    await_answers(stream, count)
    answers: list[Any] = stream.xrange(ANSWERS)  # type: ignore[assignment]
    seconds = (_ms(answers[-1][0]) - _ms(answers[0][0])) / 1000
    return Streamed(len(answers) / seconds, sum(fields[b"status"] != b"200" for _, fields in answers))


def at_rate_by_stream(stream: redis.Redis, bodies: list[bytes], per_s: float, seconds: int) -> list[float]:
    """Add entries at an even rate. Returns the percentiles of the ms from an entry's addition to its answer."""
    stream.delete(ANSWERS)
    count, began = int(per_s * seconds), time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, began + n / per_s - time.monotonic()))
        stream.xadd(STREAM, {"body": bodies[n % len(bodies)]}, maxlen=100_000)
    await_answers(stream, count)
    answers: list[Any] = stream.xrange(ANSWERS)  # type: ignore[assignment]
    return quantiles([_ms(key) - _ms(fields[b"entry"]) for key, fields in answers], n=100)


def await_answers(stream: redis.Redis, count: int) -> None:
    give_up = time.monotonic() + START_LIMIT_S + count / 100
    while int(stream.xlen(ANSWERS)) < count:
        if time.monotonic() > give_up:
            sys.exit("The consumer does not answer.")
        time.sleep(0.05)


def _ms(key: bytes) -> int:
    return int(key.split(b"-")[0])


if __name__ == "__main__":
    main()
