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
START_LIMIT_S = 60


def programs() -> Path | None:
    """The directory of `initdb` and `postgres`, the newest if there are several; None if there is no server here."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = [initdb.parent for place in PLACES for initdb in Path("/").glob(f"{place[1:]}/initdb")]
    return max(found, key=_version, default=None)


def _version(directory: Path) -> float:
    return float(directory.parent.name.rpartition("@")[2])


@contextmanager
def cluster(programs: Path) -> Iterator[str]:
    """Run a server on a free port of the loopback address, durable as by default. Gives its URL."""
    person = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="fraudsite-postgresql-") as name:
        home = Path(name)
        password_file, data, log = home / "password", home / "data", home / "log"
        password_file.write_text(secrets.token_urlsafe())
        log.touch()
        if person:
            for path in (home, password_file, log):
                os.chown(path, person["user"], person["group"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = f"postgresql://postgres:{password_file.read_text()}@127.0.0.1:{port}/postgres"
        initdb: list[Path | str] = [programs / "initdb", "--pgdata", data, "--encoding", "UTF8", "--no-locale"]
        initdb += ["--username", "postgres", "--auth", "scram-sha-256", "--pwfile", password_file]
        server: list[Path | str] = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", ""]
        with log.open("ab") as output:
            # In a session of its own: Ctrl-C in a terminal must not stop the server before the tests that use it.
            how: dict[str, Any] = {"stdout": output, "stderr": output, "cwd": home, "start_new_session": True} | person
            if subprocess.run(initdb, **how).returncode != 0:
                raise RuntimeError(f"initdb failed:\n{log.read_text()}")
            process = subprocess.Popen(server, **how)
        try:
            _await(url, process, log)
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: connections are cut, data are written
            process.wait(timeout=60)


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
