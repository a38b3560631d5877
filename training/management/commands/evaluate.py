from argparse import ArgumentParser
from pathlib import Path

from django.conf import settings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from training.core import configuration, stages
from training.core.comparison import report
from training.core.comparison.results import PROTOCOLS, Case, Comparison, Contender, contenders
from training.core.comparison.standings import standings
from training.core.datasets import storage
from training.core.exceptions import ConfigurationError, did_you_mean
from training.core.schema import load_schema
from training.management.command import Options, StagedCommand


class Command(StagedCommand):
    help = (
        "Compare models under several protocols, and write the comparison as HTML and Markdown. Finished results are "
        "kept in VAR_DIR/evaluation, so an interrupted run can be continued."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--schema", default="ulb", help="whose ingested transactions; default: ulb")
        parser.add_argument("--protocols", nargs="+", choices=list(PROTOCOLS), help="only these; default: all")
        parser.add_argument("--models", nargs="+", metavar="NAME", help="only these; default: all")
        parser.add_argument("--splits", type=int, help="at most so many splits of a protocol")
        parser.add_argument("--seeds", type=int, help="at most so many models of a kind on a split")
        parser.add_argument("--trials", type=int, help="the budget of every search, instead of its own")
        parser.add_argument("--report-only", action="store_true", help="train nothing, report what is finished")
        parser.add_argument("--output", type=Path, help="a directory for the report; default: beside what is kept")

    def run(self, options: Options) -> None:
        for name in ("splits", "seeds", "trials"):
            if options[name] is not None and options[name] < 1:
                raise ConfigurationError(f"--{name} must be 1 or more.")
        schema = load_schema(options["schema"])
        config = configuration.chosen(schema.name, None, {})
        dataset = storage.read_chosen(settings.DATASETS_DIR, config)
        directory = settings.VAR_DIR / "evaluation" / schema.name
        comparison = Comparison(dataset, config, directory)
        cases = [
            Case(protocol, number)
            for protocol in options["protocols"] or PROTOCOLS
            for number in range(min(PROTOCOLS[protocol], options["splits"] or PROTOCOLS[protocol]))
        ]
        plan = comparison.plan(cases, self._chosen(schema.name, options))
        console = Console()
        if not options["report_only"]:
            self._make(comparison, plan, console)
        results = list(comparison.finished(plan))
        if not results:
            raise ConfigurationError("Nothing of this is finished yet: run it without --report-only.")
        with console.status("Evaluating") as status:

            def show(what: str) -> None:
                status.update(what)
                stages.enter(what)

            found = standings(results, config, on_step=show)
        facts = {
            "schema": schema.name,
            "rows": f"{dataset.report.rows:,}, of which {dataset.report.frauds:,} fraud",
            "SHA-256": dataset.report.source_sha256,
            "results": f"{len(results)} of {len(plan)} planned",
        }
        page, text = report.write(found, config, facts, options["output"] or directory)
        console.print(f"{len(results)} of {len(plan)} results.\n{page}\n{text}", soft_wrap=True)

    def _chosen(self, schema: str, options: Options) -> list[Contender]:
        known = contenders(schema, trials=options["trials"], seeds=options["seeds"])
        if unknown := set(options["models"] or ()) - known.keys():
            hint = did_you_mean(min(unknown), known)
            raise ConfigurationError(
                f"There is no model {', '.join(sorted(unknown))}.{hint} Known: {', '.join(known)}."
            )
        return [contender for name, contender in known.items() if name in (options["models"] or known)]

    def _make(self, comparison: Comparison, plan: list[tuple[Case, Contender, int]], console: Console) -> None:
        columns = (TextColumn("Models"), BarColumn(12), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:

            def show(what: str) -> None:
                progress.update(task, description=what)
                stages.enter(what)

            missing = [step for step in plan if not comparison.is_finished(*step)]
            task = progress.add_task("", total=len(plan), completed=len(plan) - len(missing))
            for step in missing:
                comparison.make(*step, on_step=show)
                progress.advance(task)
