import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import optuna
from celery import current_app
from django.conf import settings
from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from training import studies
from training.core import search, stages
from training.core.configuration import Configuration
from training.core.datasets import storage
from training.management.command import Options, StagedCommand, add_configuration, chosen_configuration
from training.tasks import tune

POLL_S = 2.0
# How often workers are asked for their trials.
ASK_EVERY_S = 15.0


class Command(StagedCommand):
    help = (
        "Search hyperparameters by the AUPRC of validation rows, and write the best as TOML for `train --config`. "
        "After an interruption, start it again: it continues the search."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_configuration(parser)
        parser.add_argument("--trials", type=int, default=30, help="so many in all, earlier ones included; default: 30")
        parser.add_argument("--name", help="of the study; default: schema, architecture and protocol")
        parser.add_argument(
            "--workers", action="store_true", help="have the workers of the queue training do the trials, side by side"
        )
        parser.add_argument("--out", type=Path, help="where to write the best; default: VAR_DIR/studies/NAME.toml")

    def run(self, options: Options) -> None:
        if options["trials"] < 1:
            raise CommandError("--trials must be 1 or more.")
        if options["out"] and not options["out"].parent.is_dir():
            raise CommandError(f"--out: there is no directory {options['out'].parent}.")
        config = chosen_configuration(options)
        chosen = config.data.schema, config.model.architecture, config.split.protocol
        path = studies.path_of(options["name"] or "-".join(chosen))
        study = search.open_study(path, config)
        console = Console()
        console.print(f"{search.done(study)} of {options['trials']} trials are done. {path}", soft_wrap=True)
        columns = (TextColumn("Trials"), BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            bar = progress.add_task("", total=options["trials"])
            do = self._by_workers if options["workers"] else self._here
            for best in do(study, config, options["trials"]):
                progress.update(bar, completed=search.done(study), description=best)
                stages.enter(f"{search.done(study)} of {options['trials']} trials are done, {best}")
        out = options["out"] or path.with_suffix(".toml")
        out.write_text(search.as_toml(search.best(study)))
        console.print(
            f"Best: AUPRC of validation rows {study.best_value:.4f}, trial {study.best_trial.number}.\n"
            f"{out.read_text()}\nmanage.py train --config {out}",
            soft_wrap=True,
        )

    def _here(self, study: optuna.Study, config: Configuration, trials: int) -> Any:
        dataset = storage.read_chosen(settings.DATASETS_DIR, config)
        while search.done(study) < trials:
            search.run_trial(study, dataset)
            yield _best(study)

    def _by_workers(self, study: optuna.Study, config: Configuration, trials: int) -> Any:
        asked_at = 0.0
        while (missing := trials - search.done(study)) > 0:
            if time.monotonic() - asked_at > ASK_EVERY_S:
                # The trials of killed workers are lost: send as many as are missing.
                for _ in range(missing - _under_way(study.study_name)):
                    tune.delay(study.study_name)
                asked_at = time.monotonic()
            time.sleep(POLL_S)
            yield _best(study)


def _under_way(study: str) -> int:
    """How many trials of a study are queued or under way."""
    inspect = current_app.control.inspect(timeout=2)
    held = [
        task for answer in (inspect.active(), inspect.reserved()) for tasks in (answer or {}).values() for task in tasks
    ]
    ours = sum(task["name"] == tune.name and study in task["args"] for task in held)
    with current_app.connection_for_read() as connection:
        queued = connection.default_channel.client.llen(settings.TRAINING_QUEUE)
    return ours + queued


def _best(study: optuna.Study) -> str:
    try:
        return f"best AUPRC {study.best_value:.4f}"
    except ValueError:
        return ""
