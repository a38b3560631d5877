"""A PostgreSQL of the tests' own: made in a temporary directory, with the server's own defaults, and thrown away."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

# Where Debian and Homebrew keep the servers' programs, which are not on the PATH there.
PLACES = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin")
START_LIMIT_S = 300


def programs() -> Path | None:
    """The directory of `initdb` and `postgres`, the newest if there are several; None if there is no server here."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = [initdb.parent for place in PLACES for initdb in Path("/").glob(f"{place[1:]}/initdb")]
    return max(found, key=_version, default=None)


def _version(directory: Path) -> float:
    return float(directory.parent.name.rpartition("@")[2])


class Cluster:
    """A server on a free port of the loopback address, durable as by default, in the directory `home` of its own. Its
    data are a copy of those of the cluster `like`, which must be stopped."""

    def __init__(self, home: Path, programs: Path, like: "Cluster | None" = None) -> None:
        self.programs, self._data, self._log = programs, home / "data", home / "log"
        how: dict[str, Any] = {"cwd": home, "start_new_session": True}
        self._how = how | _unprivileged()
        password_file = home / "password"
        self._password: str = like._password if like else secrets.token_urlsafe()
        password_file.write_text(self._password)
        self._log.touch()
        if "user" in self._how:
            for path in (home, password_file, self._log):
                os.chown(path, self._how["user"], self._how["group"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/postgres"
        if like:
            subprocess.run(["cp", "-a", like._data, self._data], check=True)
            return
        initdb: list[Path | str] = [programs / "initdb", "--pgdata", self._data, "--encoding", "UTF8", "--no-locale"]
        initdb += ["--username", "postgres", "--auth", "scram-sha-256", "--pwfile", password_file]
        with self._log.open("ab") as output:
            if subprocess.run(initdb, stdout=output, stderr=output, **self._how).returncode != 0:
                raise RuntimeError(f"initdb failed:\n{self._log.read_text()}")

    def start(self) -> None:
        server: list[Path | str] = [self.programs / "postgres", "-D", self._data, "-p", str(self._port)]
        server += ["-h", "127.0.0.1", "-k", ""]
        with self._log.open("ab") as output:
            # In a session of its own: Ctrl-C in a terminal must not stop the server before the tests that use it.
            self._process = subprocess.Popen(server, stdout=output, stderr=output, **self._how)
        _await(self.url, self._process, self._log)

    @property
    def pid(self) -> int:
        """Of the server, whose children have the connections."""
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT shuts down fast, cutting connections and writing data; SIGQUIT at once, as if it had crashed."""
        self._process.send_signal(how)
        self._process.wait(timeout=START_LIMIT_S)

    def confirm_by_replica(self) -> None:
        """Acknowledge a commit once a replica has it on its disk, too."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")

    def url_with(self, other: "Cluster") -> str:
        """The address of both, of which one takes writes."""
        hosts = f"127.0.0.1:{self._port},127.0.0.1:{other._port}"
        return f"postgresql://postgres:{self._password}@{hosts}/postgres?target_session_attrs=read-write"

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Every process of the server stands still: it neither answers nor closes a connection."""
        with psycopg.connect(self.url) as asking:
            self._process.send_signal(signal.SIGSTOP)  # from here on no process joins them
            held = [row[0] for row in asking.execute("SELECT pid FROM pg_stat_activity")]
            try:
                for process_id in held:
                    os.kill(process_id, signal.SIGSTOP)
                yield
            finally:
                for process_id in (*held, self._process.pid):
                    os.kill(process_id, signal.SIGCONT)


class Replica(Cluster):
    """A server that follows another one, which runs, until it is promoted."""

    def __init__(self, home: Path, of: Cluster) -> None:
        self.programs, self._data, self._log, self._password = of.programs, home / "data", home / "log", of._password
        how: dict[str, Any] = {"cwd": home, "start_new_session": True}
        self._how = how | _unprivileged()
        self._log.touch()
        if "user" in self._how:
            for path in (home, self._log):
                os.chown(path, self._how["user"], self._how["group"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/postgres"
        copy: list[Path | str] = [self.programs / "pg_basebackup", "--dbname", of.url, "--pgdata", self._data]
        subprocess.run([*copy, "--write-recovery-conf", "--checkpoint", "fast"], check=True, **self._how)

    def promote(self) -> None:
        """Follow nobody any more, and take writes."""
        promoting: list[Path | str] = [self.programs / "pg_ctl", "promote", "--wait", "--pgdata", self._data]
        subprocess.run(promoting, check=True, stdout=subprocess.DEVNULL, **self._how)


@contextmanager
def cluster(programs: Path, like: Cluster | None = None) -> Iterator[Cluster]:
    """Run a server until the block ends."""
    with tempfile.TemporaryDirectory(prefix="fraudsite-postgresql-") as home:
        made = Cluster(Path(home), programs, like)
        made.start()
        try:
            yield made
        finally:
            made.stop()


def _unprivileged() -> dict[str, Any]:
    """Whom to run the server as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    known = {person.pw_name: person for person in pwd.getpwall()}
    person = known.get("postgres") or known["nobody"]
    return {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}


def _await(url: str, process: "subprocess.Popen[Any]", log: Path) -> None:
    give_up = time.monotonic() + START_LIMIT_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=3).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.1)
