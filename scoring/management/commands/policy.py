from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from scoring.policies import checking, document, versions
from scoring.policies.document import Document
from training import registry
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = "Show, check, change and roll back the policy that decides about a schema's transactions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, meaning in {
            "show": "print the live policy as JSON",
            "check": "name the faults of a policy in a file",
            "activate": "make the policy in a file the live one",
            "rollback": "make the policy before the live one live again",
        }.items():
            action = actions.add_parser(name, help=meaning, description=meaning)
            action.add_argument("--schema", default=settings.DEFAULT_SCHEMA, help="default: %(default)s")
            if name in ("check", "activate"):
                action.add_argument("file", type=Path, help="JSON, as `show` prints it")
            if name in ("activate", "rollback"):
                action.add_argument("--reason", default="", help="for the audit")
                action.add_argument("--by", default=registry.account(), help="who does it; default: %(default)s")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            registry.declaration_in_force(options["schema"])
            getattr(self, f"_{action}")(options)
        except versions.PolicyFaults as error:
            raise CommandError("\n".join(map(_told, error.faults))) from error
        except FraudsiteError as error:
            raise CommandError(str(error)) from error

    def _show(self, options: dict[str, Any]) -> None:
        content = versions.content(versions.live(options["schema"]))
        self.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())

    def _check(self, options: dict[str, Any]) -> None:
        schema = options["schema"]
        found = checking.faults(
            _read(options["file"]), registry.declaration_in_force(schema), versions.list_names(schema)
        )
        if found:
            raise versions.PolicyFaults(found)
        self.stdout.write(f"{options['file']} may decide about {schema}.")

    def _activate(self, options: dict[str, Any]) -> None:
        by, reason = options["by"], options["reason"]
        content = _read(options["file"])
        schema = options["schema"]
        found = checking.faults(content, registry.declaration_in_force(schema), versions.list_names(schema))
        if found:  # before a draft is made
            raise versions.PolicyFaults(found)
        version = versions.draft(schema=schema, content=content, by=by, reason=reason)
        versions.activate(version, by=by, reason=reason)
        self.stdout.write(f"{version} decides from now on: workers take it up within {settings.MODEL_REFRESH_S:g} s.")

    def _rollback(self, options: dict[str, Any]) -> None:
        earlier = versions.roll_back(schema=options["schema"], by=options["by"], reason=options["reason"])
        what = str(earlier) if earlier else "No policy, but the model alone,"
        self.stdout.write(f"{what} decides again: workers take it up within {settings.MODEL_REFRESH_S:g} s.")


def _read(path: Path) -> Document:
    try:
        return document.parse(path.read_bytes())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error


def _told(fault: checking.Fault) -> str:
    place = f" line {fault.line}, column {fault.column}" if fault.line else ""
    return f"{fault.where}{place}: {fault.message}"
