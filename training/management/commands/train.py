from argparse import ArgumentParser

from django.conf import settings
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from training import retraining, runs
from training.core import configuration, families, stages
from training.core.bundle import Bundle
from training.core.datasets import storage
from training.core.description import Measured
from training.core.evaluation import CARD_METRIC_NAMES, COST_METRIC_NAMES, METRIC_NAMES, PUBLISHED
from training.core.figures import figure, threshold
from training.management.command import Options, StagedCommand, add_configuration, chosen_configuration
from training.models import TrainingRun


class Command(StagedCommand):
    help = "Train a model on the ingested transactions, write a signed bundle and register it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_configuration(parser)
        parser.add_argument("--protocol", choices=configuration.PROTOCOLS, help="short for --set split.protocol=…")
        parser.add_argument("--seed", type=int, help="short for --set model.seed=…")
        parser.add_argument(
            "--snapshot",
            metavar="FILE",
            help="train on what `export_training_set` wrote: its path in DATASETS_DIR. The last days are the test",
        )
        parser.add_argument(
            "--promote",
            choices=TrainingRun.Promote.values,
            default=TrainingRun.Promote.FIRST,
            help="make it the champion: if there is none yet (default), never, always, or if it is better; or only "
            "propose it if it is better",
        )

    def run(self, options: Options) -> None:
        short = {"split.protocol": options["protocol"], "model.seed": options["seed"]}
        given = {name: value for name, value in short.items() if value is not None}
        if options["snapshot"]:
            given = retraining.of_snapshot(options["snapshot"]) | given
        config = chosen_configuration(options, **given)
        dataset = storage.read_chosen(settings.DATASETS_DIR, config)
        console = Console()
        console.print(f"{dataset.report.rows:,} rows, {dataset.report.frauds:,} frauds. Loading the model's library …")
        columns = (TextColumn("Training"), BarColumn(12), MofNCompleteColumn(), TextColumn("epochs"))
        with Progress(*columns, TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
            task = progress.add_task("", total=families.hyperparameters(config).epochs)

            def on_epoch(epoch: int, logs: dict[str, float]) -> None:
                losses = f"validation loss {logs['val_loss']:.5f}, AUPRC {logs['val_auprc']:.4f}"
                progress.update(task, completed=epoch, description=losses)
                stages.enter(f"Training, epoch {epoch}, {losses}")

            bundle, version = runs.train_and_register(config, dataset, promote=options["promote"], on_epoch=on_epoch)
        console.print(_table(bundle))
        console.print(
            f"{_parts(bundle)}\n"
            f"{version} is registered as {version.stage}. Trained on {bundle.description.device}; "
            f"review threshold {threshold(bundle.review_threshold)}, "
            f"block threshold {threshold(bundle.block_threshold)}.\n"
            f"{bundle.path}",
            soft_wrap=True,
        )


def _table(bundle: Bundle) -> Table:
    """Metrics of validation and test rows; under the seed protocol beside what the seed system published of its own."""
    compares = bundle.description.split.protocol == "seed"
    table = Table(
        title=f"{bundle.version}, alerts at a score of {threshold(bundle.review_threshold)}", box=SIMPLE, pad_edge=False
    )
    for title in ("", "validation", "test", *(["published"] if compares else [])):
        table.add_column(title, justify="right" if title else "left")
    for key, name in (METRIC_NAMES | COST_METRIC_NAMES | CARD_METRIC_NAMES).items():
        found = [bundle.metrics[part].measured(key) for part in ("validation", "test")]
        cells = [_cell(key, metric) for metric in found if metric]
        if not cells:
            continue
        if compares:
            cells.append(f"{PUBLISHED[key]:.4f}" if key in PUBLISHED else "")
        table.add_row(name, *cells)
    for part_name, row in (("caught", 1), ("missed", 0)):
        cells = [str(bundle.metrics[part].confusion[1][row]) for part in ("validation", "test")]
        table.add_row(f"frauds {part_name}", *cells)
    table.add_row("false alerts", *[str(bundle.metrics[part].confusion[0][1]) for part in ("validation", "test")])
    return table


def _parts(bundle: Bundle) -> str:
    split, rows = bundle.description.split, bundle.description.data.rows
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    duplicates = rows - sum(parts.values())
    counts = ", ".join(f"{count:,} {part}" for part, count in parts.items())
    if split.protocol == "time":
        return f"Rows: {counts}; the test starts on {split.test_start}."
    kept = "duplicates kept" if split.protocol == "seed" else "none left out"
    return f"Rows: {counts}; {f'{duplicates:,} duplicates left out' if duplicates else kept}."


def _cell(name: str, metric: Measured) -> str:
    interval = " {}–{}".format(*(figure(name, bound) for bound in metric.interval)) if metric.interval else ""
    return f"{figure(name, metric.value)}{interval}"
