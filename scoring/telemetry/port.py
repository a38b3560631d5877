"""The port on which a worker, beat or a deliverer answers Prometheus. Web processes have the address `/metrics`.

A worker may have several processes. They write what they measure into files of a directory of their own, which the main
process adds up: the multiprocess mode of prometheus_client.
"""

import atexit
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
# How long a connection may say nothing.
SILENCE_S = 10
REFUSAL = b"Show METRICS_TOKEN as a bearer token.\n"


def shows_token(header: str) -> bool:
    """Whether the value of a header `Authorization` has `METRICS_TOKEN`. If none is set, none does."""
    expected = f"Bearer {settings.METRICS_TOKEN}".encode()
    return bool(settings.METRICS_TOKEN) and secrets.compare_digest(header.encode(errors="replace"), expected)


def own_directory() -> None:
    """Have this process and those that it forks write their measures into a directory of their own, which goes with
    this process. Call it before prometheus_client is imported, which decides by the environment."""
    if settings.METRICS_PORT:
        mine, directory = os.getpid(), tempfile.mkdtemp(prefix="fraudsite-metrics-")
        os.environ[DIRECTORY] = directory

        def remove() -> None:
            if os.getpid() == mine:
                shutil.rmtree(directory, ignore_errors=True)

        atexit.register(remove)


def measured() -> "CollectorRegistry":
    """What this process measures, with all that share its directory, if it has one."""
    from prometheus_client import REGISTRY, CollectorRegistry, ProcessCollector
    from prometheus_client.multiprocess import MultiProcessCollector

    if DIRECTORY not in os.environ:
        return REGISTRY
    _forget_the_dead()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    ProcessCollector(registry=registry)
    return registry


def _forget_the_dead() -> None:
    """Remove what processes that have ended say about their present. Their counts stay."""
    for path in Path(os.environ[DIRECTORY]).glob("gauge_live*.db"):
        try:
            os.kill(int(path.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except OSError:
            pass  # it lives, and belongs to somebody else


def serve() -> None:
    """Answer on `METRICS_PORT` from now on, in a thread. Without a port, do nothing.

    Raises:
        SystemExit: the port cannot be opened.
    """
    if not settings.METRICS_PORT:
        return
    host, port = settings.METRICS_HOST, settings.METRICS_PORT
    try:
        server = make_server(host, port, _application, _Server, _Handler)
    except OSError as error:
        sys.exit(f"METRICS_PORT: port {port} of {host} cannot be opened: {error.strerror}.")
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A scrape that breaks off is nothing to report."""


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_message(self, *_: object) -> None:
        """A line per scrape would tell nothing."""


def _application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    from prometheus_client import make_wsgi_app

    if not shows_token(environ.get("HTTP_AUTHORIZATION", "")):
        start_response("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
        return [REFUSAL]
    with suppress(FileNotFoundError):  # a file of a process that has ended was removed while it was read
        return make_wsgi_app(measured(), disable_compression=True)(environ, start_response)
    start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
    return [b"Try again.\n"]
