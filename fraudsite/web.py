"""The web server: `python -m fraudsite.web`, with Granian's own options and variables.

Before Granian starts, the settings are read, and its port must be free: see `fraudsite.ports`.
"""

import os
import sys
from argparse import ArgumentParser

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from granian.cli import cli

from fraudsite import ports

APPLICATION = ["--interface", "asgi", "fraudsite.asgi:application"]


def main(arguments: list[str]) -> None:
    parser = ArgumentParser("fraudsite.web", add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default=os.environ.get("GRANIAN_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("GRANIAN_PORT", "8000"))
    options, _ = parser.parse_known_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
    try:
        settings.VAR_DIR  # noqa: B018  # reads all settings
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    if "--help" not in arguments and (held := ports.refusal(options.host, options.port)):
        sys.exit(f"{held} End that program, or choose another with --port or GRANIAN_PORT.")
    cli([*arguments, *APPLICATION], prog_name="fraudsite.web", auto_envvar_prefix="GRANIAN")


if __name__ == "__main__":
    main(sys.argv[1:])
