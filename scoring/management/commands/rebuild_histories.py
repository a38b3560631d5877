from argparse import ArgumentParser
from contextlib import ExitStack, closing
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training import registry
from training.core import stages
from training.core.exceptions import FraudsiteError


class Command(BaseCommand):
    help = (
        "Rebuild the histories of a schema's entities from its stored transactions and labels: when its computed "
        "features were changed, or when histories are lost. Workers may go on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", required=True, help="the schema's name")
        parser.add_argument(
            "--dask-scheduler", metavar="ADDRESS", help="have a cluster of Dask do it, such as tcp://10.0.0.1:8786"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from scoring.cluster import Cluster
        from scoring.worker import arrivals

        try:
            schema = registry.declaration_in_force(options["schema"])
            with ExitStack() as stack:
                stack.enter_context(stages.printed(self.stdout))
                cluster = None
                if options["dask_scheduler"]:
                    cluster = stack.enter_context(closing(Cluster(options["dask_scheduler"])))
                done = arrivals.rebuild(schema, self._progress, cluster)
        except FraudsiteError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done} histories of {schema.name} are rebuilt.")

    def _progress(self, entity: str, share: float) -> None:
        self.stdout.write(f"{entity}: {share:.0%}")
        stages.enter(f"{entity}: {share:.0%}")
