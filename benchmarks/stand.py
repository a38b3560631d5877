"""Shared by the benchmarks: load from `wrk` and `h2load` (Debian: wrk, nghttp2-client), peers, tables of figures."""

import os
import re
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from fraudsite.tests import postgresql
from fraudsite.tests.deployment import ROOT, START_LIMIT_S, run

# A server goes on with what it had taken when a load ends, and the next side must not pay for that.
REST_S = 5


@dataclass
class Load:
    """What a load generator saw. Latencies in ms."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


@contextmanager
def process(
    command: list[str], environment: dict[str, str], *, quiet: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; a quiet one says nothing of what it does."""
    started = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL if quiet else None)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(timeout=60)


def await_answer(url: str) -> None:
    give_up = time.monotonic() + START_LIMIT_S
    while time.monotonic() < give_up:
        try:
            if httpx.get(url, timeout=5).status_code < 500:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    sys.exit(f"{url} does not answer.")


def as_fast_as_possible(
    url: str, rows: Path, *, connections: int, seconds: int, authorization: str = "", ids: str = ""
) -> Load:
    """Keep so many connections busy, with wrk. With `ids`, transactions have ids that begin so."""
    given = {"ROWS": str(rows), "AUTHORIZATION": authorization, "IDS": ids}
    environment = os.environ | {name: value for name, value in given.items() if value}
    script = str(Path(__file__).parent / "peers" / "post.lua")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", script, url]
    printed = run(command, environment)
    time.sleep(REST_S)
    quantiles = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+\w+)$", printed, re.MULTILINE))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    failed = int(refused[1]) if refused else 0
    failed += sum(map(int, lost.groups())) if lost else 0
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if not per_s:
        sys.exit(f"The output of wrk:\n{printed}")
    return Load(float(per_s[1]), _ms(quantiles.get("50", "infs")), _ms(quantiles.get("99", "infs")), failed)


def at_rate(url: str, rows: Path, *, per_s: float, seconds: int, directory: Path, authorization: str = "") -> Load:
    """Send so many requests per second over 32 connections, with h2load, after a warm-up of two seconds."""
    body, log = directory / "body.json", directory / "h2load.log"
    body.write_text(rows.read_text().splitlines()[0])
    log.unlink(missing_ok=True)
    connections = 32
    command = ["h2load", "--h1", "-t1", f"-c{connections}", f"--duration={seconds}", "--warm-up-time=2"]
    command += [f"--rps={per_s / connections:.3f}", "-d", str(body), "-H", "Content-Type: application/json"]
    command += ["-H", f"Authorization: {authorization}"] if authorization else []
    run([*command, f"--log-file={log}", url], dict(os.environ))
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    took_ms = sorted(int(line[2]) / 1000 for line in lines)
    return Load(
        per_s=len(took_ms) / seconds,
        p50_ms=took_ms[len(took_ms) // 2],
        p99_ms=took_ms[int(len(took_ms) * 0.99)],
        failed=sum(line[1] != "200" for line in lines),
    )


def handbook_file(parser: ArgumentParser, given: Path | None) -> Path:
    """The raw file that was given. Without one the program ends, and says where it is found."""
    if given is None or not given.is_file():
        parser.error(
            f"{given or 'no file'}: give the raw transactions of the fraud detection handbook, as one Parquet file "
            "with their columns. They are published at https://github.com/Fraud-Detection-Handbook/simulated-data-raw"
        )
    return given


def measure_on_postgresql(parser: ArgumentParser, module: str, arguments: list[object], **environment: str) -> None:
    """Run `python -m MODULE measure ARGUMENT…` on a PostgreSQL of its own, which is migrated and empty."""
    programs = postgresql.programs()
    if programs is None:
        parser.error("There is no PostgreSQL here.")
    with postgresql.cluster(programs) as cluster:
        given = {"DATABASE_URL": cluster.url, "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests"}
        command = [sys.executable, "-m", module, "measure", *map(str, arguments)]
        for one in ([sys.executable, "manage.py", "migrate", "-v0"], command):
            subprocess.run(one, env=os.environ | given | environment, cwd=ROOT, check=True)


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MB; what they share counts in each."""
    [kilobytes] = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    children = {child for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()}
    return int(kilobytes) / 1024 + sum(rss_mb(int(child)) for child in children)


def worked_s(pid: int) -> float:
    """The processor time that a process and its children have taken, in seconds."""
    # What stands behind the name of the program: user and system time are the 12th and the 13th, those of children that
    # have ended follow.
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    children = {child for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()}
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") + sum(worked_s(int(child)) for child in children)


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [titles, ["---"] * len(titles), *rows])


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+|inf)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
