"""The web server: `python -m fraudsite.web`, with Granian's own options and variables.

Before Granian starts, the settings are read, and its port must be free: see `fraudsite.ports`. How its
processes behave while it ends is in `fraudsite.draining`.
"""

import os
import signal
import sys
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from granian import cli
from granian.server import MPServer

from fraudsite import ports

APPLICATION = ["--interface", "asgi", "fraudsite.asgi:application"]


class Server(MPServer):
    """Granian's main process, which ends `WEB_DRAIN_S` seconds after the first SIGTERM. A second one, or Ctrl-C, ends
    it at once."""

    _drains = False

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        is_first = not self._drains
        self._drains = True
        if settings.WEB_DRAIN_S and is_first and args and args[0] == signal.SIGTERM:
            for worker in self.wrks:
                os.kill(worker.inner.pid, signal.SIGUSR1)
            ending = threading.Timer(settings.WEB_DRAIN_S, super().signal_handler_interrupt)
            ending.daemon = True
            ending.start()
        else:
            super().signal_handler_interrupt(*args, **kwargs)


def main(arguments: list[str]) -> None:
    parser = ArgumentParser("fraudsite.web", add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default=os.environ.get("GRANIAN_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("GRANIAN_PORT", "8000"))
    options, _ = parser.parse_known_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
    # A web process has many threads, few of which need the database at any moment. Before the settings are read, which
    # the processes inherit.
    os.environ.setdefault("DATABASE_POOL_SIZE", "8")
    try:
        settings.VAR_DIR  # noqa: B018  # reads all settings
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    if settings.LOG_FORMAT == "json":  # the lines of Granian itself
        os.environ.setdefault("GRANIAN_LOG_CONFIG", str(Path(__file__).with_name("granian_json_log.json")))
    if "--help" not in arguments and (held := ports.refusal(options.host, options.port)):
        sys.exit(f"{held} End that program, or choose another with --port or GRANIAN_PORT.")
    # Otherwise a request that never ends would keep the server from its end, too.
    os.environ.setdefault("GRANIAN_WORKERS_KILL_TIMEOUT", "30")
    cli.Server = Server  # which Granian's command starts
    cli.cli([*arguments, *APPLICATION], prog_name="fraudsite.web", auto_envvar_prefix="GRANIAN")


if __name__ == "__main__":
    main(sys.argv[1:])
