"""Does a test notice when a line is wrong? `make mutants` puts small faults into the code and runs the tests on each.

Cosmic Ray makes the faults: a comparison that includes its bound or not, a number that is one off, a condition turned
round, a loop that never runs. A fault that no test fails on has survived, and is shown. The files on disk stay as they
are: each fault lives in a forked process, whose import system reads the faulty source instead. Nothing here can see a
fault in another process, so only tests are listed that run the module in their own.

    make mutants                                       all modules: hours
    make mutants MODULE=scoring/decisions.py           one
    make mutants MODULE=training/core ARGS="--sample 20"   of each module below a folder, twenty faults drawn at random
"""

import argparse
import ast
import hashlib
import importlib.abc
import importlib.machinery
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fraudsite.tests.__main__ import server

ROOT = Path(__file__).parents[2]
ENOUGH = 0.85

# A test file or two that hold each module, the quick ones first: the first failure ends a run.
ONLINE = "scoring/tests/test_batches.py"
LISTS = [f"scoring/tests/test_lists.py::Test{of}" for of in ("Following", "Lists", "Keys", "Files")]
AREAS = {
    "Online path": {
        "scoring/decisions.py": ["scoring/tests/test_decisions.py"],
        "scoring/api/decoding.py": [
            "scoring/tests/test_decoding.py",
            "scoring/tests/test_bad_input.py",
            "scoring/tests/test_equal_forms.py",
        ],
        "scoring/api/validation.py": ["scoring/tests/test_kinds.py", "scoring/tests/test_bad_input.py"],
        "scoring/worker/scorer.py": [
            ONLINE,
            "scoring/tests/test_explanations.py::test_every_alert_is_stored_with_contributions_that_add_up_to_the_logit_of_its_score",
            "scoring/tests/test_explanations.py::test_the_reasons_of_an_answer_are_the_strongest_raising_contributions",
            "scoring/tests/test_explanations.py::test_a_version_that_decides_no_more_explains_what_it_scored",
            "scoring/tests/test_explanations.py::test_a_transaction_that_was_scored_under_an_older_declaration_cannot_be_explained",
        ],
        "scoring/worker/known.py": [ONLINE],
        "scoring/worker/batches.py": ["scoring/tests/test_deadlines.py", ONLINE],
        "scoring/worker/storage.py": [
            ONLINE,
            "scoring/tests/test_pending.py",
            "scoring/tests/test_schema_changes.py::test_what_was_checked_before_a_change_is_scored_after_it_with_all_that_was_sent",
        ],
        "scoring/worker/pending.py": ["scoring/tests/test_pending.py", ONLINE],
        "scoring/clients/keys.py": ["scoring/tests/test_keys.py"],
        "scoring/api/authentication.py": ["scoring/tests/test_keys.py", "scoring/tests/test_bad_input.py"],
        "scoring/gateway.py": ["scoring/tests/test_disorder.py", "scoring/tests/test_gateway.py"],
    },
    "Decisions": {
        "scoring/policies/engine.py": ["scoring/tests/test_policies.py", "scoring/tests/test_control_group.py"],
        "scoring/policies/expressions.py": ["scoring/tests/test_policies.py", "scoring/tests/test_expressions.py"],
        "scoring/policies/lists.py": [
            "scoring/tests/test_policies.py",
            "scoring/tests/test_lists.py::TestFollowing",
        ],
        "scoring/policies/evidence.py": ["scoring/tests/test_policies.py"],
        "scoring/policies/checking.py": ["scoring/tests/test_expressions.py", "scoring/tests/test_control_group.py"],
        "scoring/lists/changes.py": [
            *LISTS,
            "scoring/tests/test_list_pages.py::TestTransactions",
            "scoring/tests/test_list_pages.py::TestLists",
        ],
        "scoring/lists/files.py": [*LISTS, "scoring/tests/test_list_pages.py::TestEntries"],
        "scoring/lists/keys.py": [*LISTS, "scoring/tests/test_list_pages.py::TestTransactions"],
        "scoring/lists/listable.py": ["scoring/tests/test_list_pages.py::TestTransactions"],
    },
    "Reviews": {
        "scoring/reviews/queue.py": ["scoring/tests/test_review_work.py"],
        "scoring/reviews/labelling.py": [
            "scoring/tests/test_labels.py",
            "scoring/tests/test_velocity.py::test_a_reversed_label_is_forgotten_by_later_transactions",
            "scoring/tests/test_velocity.py::test_a_label_that_was_undone_is_forgotten_by_later_transactions",
            "scoring/tests/test_velocity.py::test_a_review_that_cannot_be_remembered_stays_open",
            "scoring/tests/test_review_work.py",
        ],
    },
    "Drift": {
        "monitoring/drift/psi.py": ["monitoring/tests/test_psi.py"],
        "monitoring/drift/measurement.py": ["monitoring/tests/test_drift.py"],
    },
    "Features": {
        "training/core/features/declaration.py": ["training/tests/test_schema.py", "training/tests/test_features.py"],
        "training/core/features/aggregates.py": ["training/tests/test_replay.py", "training/tests/test_features.py"],
        "training/core/features/earth.py": ["training/tests/test_replay.py", "training/tests/test_features.py"],
        "training/core/features/kernel.py": ["training/tests/test_replay.py", "training/tests/test_features.py"],
        "training/core/features/present.py": ["training/tests/test_replay.py", "training/tests/test_features.py"],
        "training/core/features/tokens.py": ["training/tests/test_replay.py", "training/tests/test_features.py"],
        "training/core/features/zones.py": ["training/tests/test_replay.py", "training/tests/test_features.py"],
        "training/core/features/replay.py": ["training/tests/test_replay.py", "training/tests/test_features.py"],
    },
    "Splits": {"training/core/datasets/splits.py": ["training/tests/test_splits.py"]},
    "Policy and calibration": {
        "training/core/evaluation/policy.py": ["training/tests/test_policy.py"],
        "training/core/evaluation/calibration.py": ["training/tests/test_calibration.py"],
        "training/core/evaluation/fitting.py": ["training/tests/test_calibration.py"],
    },
}
# These have statements for PostgreSQL alone: what survives on SQLite is tried there, where there is a server.
ON_BOTH_DATABASES = {"scoring/worker/storage.py"}
# Compiled code would come from numba's cache, which knows nothing of the faults.
INTERPRETED = {f"training/core/features/{name}.py" for name in ("aggregates", "earth", "kernel", "present", "replay")}

# Cosmic Ray's operators. Of the many that it has for one sign, those whose fault a person could make.
OPERATORS = [
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "NumberReplacer",
    "ZeroIterationForLoop",
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_Invert",
    *(f"ReplaceComparisonOperator_{change}" for change in ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE")),
    *(f"ReplaceComparisonOperator_{change}" for change in ("GtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq")),
    *(f"ReplaceComparisonOperator_{change}" for change in ("Is_IsNot", "IsNot_Is")),
    *(f"ReplaceBinaryOperator_{change}" for change in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul")),
    *(f"ReplaceBinaryOperator_{change}" for change in ("Mod_Mul", "Pow_Mul", "BitOr_BitAnd", "BitAnd_BitOr")),
]

# Arguments of calls and classes that change nothing in code that keeps to its types.
WITHOUT_MEANING = {"frozen", "kw_only", "strict"}


@dataclass(frozen=True)
class Mutant:
    """The source of a module with one fault."""

    path: str
    source: str

    def __str__(self) -> str:
        before, after = (ROOT / self.path).read_text().splitlines(), self.source.splitlines()
        line = next(i for i, (was, is_now) in enumerate(zip(before, after, strict=False)) if was != is_now)
        return f"{self.path}:{line + 1}\n    - {before[line].strip()}\n    + {after[line].strip()}"


def mutants_of(path: str) -> Iterator[Mutant]:
    """All faults of a module but those that change nothing: in annotations and in arguments `WITHOUT_MEANING`."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / path).read_text()
    meaning = _meaning(source)
    for name in OPERATORS:
        operator, occurrence = get_operator(f"core/{name}")(), 0
        while (mutated := mutate_code(source, operator, occurrence)) is not None:
            with suppress(SyntaxError):  # some are no Python
                if _meaning(mutated) != meaning:
                    yield Mutant(path, mutated)
            occurrence += 1


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.arguments):  # by position or by name is no fault that a test could see
            node.args = node.posonlyargs + node.args + node.kwonlyargs
            node.defaults += [default for default in node.kw_defaults if default]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        if isinstance(node, ast.Call | ast.ClassDef):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in WITHOUT_MEANING]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
    return ast.dump(tree)


class _Faulty(importlib.machinery.SourceFileLoader, importlib.abc.MetaPathFinder):
    """Imports one module from a source other than its file's."""

    def __init__(self, mutant: Mutant) -> None:
        name = mutant.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        super().__init__(name, str(ROOT / mutant.path))
        self._source = mutant.source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec")


def _test(mutant: Mutant, tests: list[str], directory: str, database: str | None) -> None:
    """Run tests in this forked process, which ends with pytest's code."""
    import hypothesis
    import numba
    import pytest

    os.setsid()  # so that what the tests start can be ended with them
    with (Path(directory) / "output").open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    tempfile.tempdir = directory
    os.environ.pop("DATABASE_URL", None)
    if database:  # processes that run at the same time need one each
        os.environ["DATABASE_URL"] = f"{database}_{os.getpid()}"
    # The same examples for each fault, however busy the machine.
    hypothesis.settings.register_profile("mutants", deadline=None, database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    numba.config.DISABLE_JIT = mutant.path in INTERPRETED  # type: ignore[attr-defined]  # set when numba is imported
    sys.meta_path.insert(0, _Faulty(mutant))
    if not mutant.path.startswith("training/"):
        _train_once(Path(directory).with_name("trained"))
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported", *tests])
    sys.stdout.flush()
    os._exit(code)


def _train_once(kept: Path) -> None:
    """Let the tests in this process have the models that an earlier one has trained."""
    from training.core.bundle import Bundle, load_bundle
    from training.tests import support

    train = support.train

    def remember(**arguments: Any) -> Bundle:
        asked = (arguments["config"], arguments["dataset"].schema.name, arguments.get("parent"))
        place = kept / hashlib.sha256(repr(asked).encode()).hexdigest()
        if not place.exists():
            bundle = train(**arguments)
            shutil.copytree(bundle.path, place / bundle.version)
        [copy] = place.iterdir()
        path = shutil.copytree(copy, arguments["bundles_dir"] / copy.name, dirs_exist_ok=True)
        return load_bundle(path, signing_key=arguments["signing_key"])

    support.train = remember


class _Run:
    """A forked process that runs tests on a mutant."""

    def __init__(self, mutant: Mutant, tests: list[str], timeout_s: float, database: str | None = None) -> None:
        self.mutant, self.ends_at = mutant, time.monotonic() + timeout_s
        self._directory = tempfile.TemporaryDirectory(prefix="fraudsite-mutant-", ignore_cleanup_errors=True)
        self.process = ForkProcess(target=_test, args=(mutant, tests, self._directory.name, database))
        self.process.start()

    def end(self) -> int | None:
        """Pytest's code; None when the tests took too long, which is another way to notice."""
        code = self.process.exitcode
        if code is None:
            os.killpg(self.process.pid or 0, signal.SIGKILL)
            self.process.join()
        self.output = (Path(self._directory.name) / "output").read_text()
        self._directory.cleanup()
        return code


def survivors(
    mutants: list[Mutant], tests: list[str], timeout_s: float, database: str | None = None
) -> Iterator[Mutant]:
    """The mutants that no test fails on, tried as many at a time as there are cores. `database` is the URL of a
    PostgreSQL to use in place of SQLite."""
    waiting, running = mutants[::-1], list[_Run]()
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            running.append(_Run(waiting.pop(), tests, timeout_s, database))
        connection.wait([run.process.sentinel for run in running], timeout=1)
        now = time.monotonic()
        for run in [run for run in running if not run.process.is_alive() or run.ends_at < now]:
            running.remove(run)
            code = run.end()
            if code is None:  # which a busy machine can do, too
                print(f"  took too long: {run.mutant}", flush=True)
            elif code == 0:
                yield run.mutant


def try_module(path: str, tests: list[str], sample: int | None) -> tuple[int, int]:
    """Print what survived of a module. Returns how many mutants were killed, and how many there were."""
    began = time.monotonic()
    untouched = _Run(Mutant(path, (ROOT / path).read_text()), tests, 600)
    untouched.process.join(600)
    if untouched.end() != 0:
        sys.exit(f"The tests of {path} fail without any fault:\n{untouched.output}")
    timeout_s = 30 + 5 * (time.monotonic() - began)
    mutants = list(mutants_of(path))
    if sample is not None and sample < len(mutants):
        mutants = random.Random(0).sample(mutants, sample)  # noqa: S311
    if path in ON_BOTH_DATABASES:
        remaining = list(survivors(mutants, tests, timeout_s))
        with server() as url:
            shown = _show(survivors(remaining, tests, 2 * timeout_s, url) if url else remaining)
    else:
        shown = _show(survivors(mutants, tests, timeout_s))
    killed = len(mutants) - shown
    took = time.monotonic() - began
    print(f"{path}: {killed} of {len(mutants)} killed, {killed / len(mutants):.0%}, in {took:.0f} s", flush=True)
    return killed, len(mutants)


def _show(remaining: Iterable[Mutant]) -> int:
    """Print the mutants, and return how many there are."""
    shown = 0
    for mutant in remaining:
        shown += 1
        print(f"  survived: {mutant}", flush=True)
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description="Put faults into the code, and run its tests.")
    parser.add_argument("module", nargs="*", help="files or folders; without any, all that are listed here")
    parser.add_argument("--sample", type=int, help="how many faults of each module to try, drawn at random")
    arguments = parser.parse_args()
    known = [path for modules in AREAS.values() for path in modules]
    for name in arguments.module:
        if not any(path.startswith(name) for path in known):
            parser.error(f"{name} is none of the modules that are tried: {', '.join(known)}")
    multiprocessing.set_start_method("fork")
    os.chdir(ROOT)
    os.environ["BUNDLE_SIGNING_KEY"] = "the same for all that share bundles"
    # What takes longest to import, once for all.
    import keras  # noqa: F401
    import pandas  # noqa: F401
    import sklearn  # noqa: F401

    killed, tried = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="fraudsite-mutants-") as directory:
        Path(directory).chmod(0o711)  # a superuser's PostgreSQL runs as another user, and lives below
        tempfile.tempdir = directory
        for area, modules in AREAS.items():
            for path, tests in modules.items():
                if not arguments.module or path.startswith(tuple(arguments.module)):
                    counts = try_module(path, tests, arguments.sample)
                    killed[area] += counts[0]
                    tried[area] += counts[1]
    for area in tried:
        print(f"{area}: {killed[area]} of {tried[area]} killed, {killed[area] / tried[area]:.0%}")
    return int(any(killed[area] < ENOUGH * tried[area] for area in tried))


if __name__ == "__main__":
    sys.exit(main())
