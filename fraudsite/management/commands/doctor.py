import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from fraudsite.doctor import machine, models, services, work
from fraudsite.doctor.findings import Finding, Level, error, said

CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    *(machine.packages, machine.disk, services.database, services.broker, services.files),
    *(models.champions, models.histories),
    *(work.processes, work.beat, work.transactions, work.webhooks),
)


class Command(BaseCommand):
    help = (
        "Check this installation: packages, disk, clocks, database, Redis, store, models, histories, workers and what "
        "waits. Says what to do. Exits with 1 if there is an error."
    )
    # Django's own check would end at a database that does not answer, which this command tells.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = [finding for check in CHECKS for finding in _found(check)]
        if options["json"]:
            told = [finding._asdict() for finding in findings]
            self.stdout.write(json.dumps(told, indent=2))
        else:
            self._print(findings)
        errors = sum(finding.level == Level.ERROR for finding in findings)
        if errors:
            raise CommandError(f"{errors} of {len(findings)} findings are errors.")

    def _print(self, findings: list[Finding]) -> None:
        styles = {Level.OK: self.style.SUCCESS, Level.WARNING: self.style.WARNING, Level.ERROR: self.style.ERROR}
        for check, level, words, remedy in findings:
            self.stdout.write(f"{styles[level](f'{level:<9}')}{check:<14}{words}")
            if remedy:
                self.stdout.write(f"{'':<23}{remedy}")


def _found(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found = []
    try:
        for finding in check():
            found.append(finding)
    except Error as fault:  # the database went away, or its tables are not there yet
        words = f"This could not be checked, as the database does not tell: {said(fault)}"
        found.append(error(check.__name__, words, "Mend first what is told of the database."))
    return found
