"""Receivers of webhooks for tests: real HTTP servers, and a real deliverer."""

import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from django.conf import settings

from fraudsite.testing import PROCESS_START_S, worker_environment
from scoring.webhooks import endpoints
from scoring.webhooks.models import WebhookEndpoint
from scoring.webhooks.types import EventType

WAIT_S = PROCESS_START_S


@dataclass
class Call:
    """What arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def content(self) -> Any:
        return msgspec.json.decode(self.body)


# Of a call: the status, and headers.
Answer = tuple[int, dict[str, str]]


@dataclass
class Receiver:
    """A server whose `answer` decides what a call gets; it may take its time. `calls` are those that arrived."""

    answer: Callable[[Call], Answer] = lambda _: (204, {})
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    def await_calls(self, count: int) -> list[Call]:
        wait_until(lambda: len(self.calls) >= count)
        return self.calls


def wait_until(holds: Callable[[], Any]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up, "It did not happen in time."
        time.sleep(0.01)


@contextmanager
def receiving(
    answer: Callable[[Call], Answer] = lambda _: (204, {}), tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    receiver = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # its sender was killed
                return
            call = Call({name.lower(): value for name, value in self.headers.items()}, body)
            receiver.calls.append(call)
            status, headers = receiver.answer(call)
            self.send_response(status)
            for name, value in ({"Content-Length": "0"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: Any) -> None:
            pass  # a caller that was killed

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()


def subscribe(client: Any, url: str, *types: str, schemas: tuple[str, ...] = ()) -> tuple[WebhookEndpoint, str]:
    """An endpoint at this address, which may be private, and its secret."""
    before, settings.WEBHOOK_PRIVATE_TARGETS = settings.WEBHOOK_PRIVATE_TARGETS, True
    try:
        wanted = list(types) or EventType.values
        return endpoints.create(client=client, url=url, event_types=wanted, schemas=list(schemas))
    finally:
        settings.WEBHOOK_PRIVATE_TARGETS = before


@contextmanager
def deliverer(**variables: Any) -> "Iterator[subprocess.Popen[bytes]]":
    """The deliverer, as an operator starts it, on the tests' database."""
    fast = {"WEBHOOK_PRIVATE_TARGETS": "true", "WEBHOOK_POLL_S": 0.02, "WEBHOOK_RETRY_S": 0.05}
    environment = worker_environment() | {name: str(value) for name, value in (fast | variables).items()}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "deliver_webhooks"], env=environment, cwd=settings.BASE_DIR
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=PROCESS_START_S)
