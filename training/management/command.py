"""What the commands of training share: how they tell their stages and refuse, and how they choose a configuration."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.core import configuration, stages
from training.core.configuration import Configuration
from training.core.exceptions import FraudsiteError

# The options of a command by name, as argparse has parsed them.
Options = dict[str, Any]


class StagedCommand(BaseCommand):
    """A long command. It prints the stages of `run` as it enters them, and shows a FraudsiteError as its message."""

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with stages.printed(self.stdout):
                self.run(options)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def run(self, options: Options) -> None:
        raise NotImplementedError


def add_configuration(parser: ArgumentParser) -> None:
    """The options from which `chosen_configuration` reads."""
    parser.add_argument("--schema", help="begin with the configuration shipped for it; default: ulb")
    parser.add_argument("--config", type=Path, help="a TOML file to begin with, instead")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one key; repeatable"
    )


def chosen_configuration(options: Options, **overrides: Any) -> Configuration:
    """The configuration that the options choose; `overrides` by section and key win over those of --set.

    Raises:
        SchemaNotFound, ConfigurationError: see `configuration.chosen`.
    """
    of_options = dict(configuration.parse_override(text) for text in options["set"])
    return configuration.chosen(options["schema"], options["config"], of_options | overrides)
