"""The whole suite on SQLite, and again on PostgreSQL where it can be had: `make test`, with pytest's arguments. What
cannot differ there runs once: see `fraudsite.tests.databases`. Tests that tell how long things take come one by one;
the others come first, one more at a time than there are cores, as many wait for processes of theirs.

If some tests fail, these are tried once more, one by one: many drive real processes, which a busy machine may hold up
for longer than they wait. The last lines name those that passed only then: each has a fault, or shows one of ours.

`TEST_DATABASE_URL` names a server to use, whose user may create databases; without it, a server of our own is started
if its programs are here. Where `CI=true`, being without one is a failure.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fraudsite.tests import postgresql

# One process that did not start fails all tests of a few files. More failures are no accident.
MOST_SECOND_TRIES = 50


def main(arguments: list[str]) -> int:
    """Run pytest once or twice, and say at the end how each went. Returns pytest's code, the first that is not 0."""
    # Ctrl-C is for pytest; here it would interrupt pytest's clean-up.
    signal.signal(signal.SIGINT, lambda *_: None)
    code, summary = run("SQLite", {}, arguments)
    codes, summaries = [code], [summary]
    if code != pytest.ExitCode.INTERRUPTED:
        with server() as url:
            code, summary = run("PostgreSQL", {"DATABASE_URL": url}, arguments) if url else without_server()
        codes.append(code)
        summaries.append(summary)
    print(*summaries, sep="\n")
    return next((code for code in codes if code), 0)


@contextmanager
def server() -> Iterator[str | None]:
    """A PostgreSQL's URL, or None where there is none."""
    if (given := os.environ.get("TEST_DATABASE_URL")) or (programs := postgresql.programs()) is None:
        yield given
    else:
        with postgresql.cluster(programs) as made:
            yield made.url


def without_server() -> tuple[int, str]:
    advice = "not run, there is no server here (install one, or set TEST_DATABASE_URL)"
    return int(os.environ.get("CI") == "true"), f"PostgreSQL: {advice}"


@dataclass
class Outcome:
    """What a run of pytest came to: its exit code, numbers of tests by outcome, and the names of those that failed."""

    code: int
    counts: Counter[str]
    failed: set[str]


def run(database: str, environment: dict[str, str], arguments: list[str]) -> tuple[int, str]:
    """Run pytest, in two parts. Returns its code, the first that is not 0, and lines about both."""
    several = str((os.cpu_count() or 1) + 1)
    # Slow tests stand together in their files: at the end, whoever is done takes half of what another still has.
    shared = ["-n", several, "--dist", "worksteal"]
    parts = {f"{several} at a time": ["-m", "not alone", *shared], "one by one": ["-m", "alone"]}
    codes, counts, unsteady = [], Counter[str](), set[str]()
    for name, selection in parts.items():
        print(f"\nThe tests on {database}, {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="fraudsite-report-") as directory:
            outcome = tests(Path(directory), environment, [*selection, *arguments])
            counts += outcome.counts
            if outcome.code == pytest.ExitCode.TESTS_FAILED and len(outcome.failed) <= MOST_SECOND_TRIES:
                print(f"\nThe tests on {database} that failed, once more", flush=True)
                again = tests(Path(directory), environment, ["-m", selection[1], "--last-failed", *arguments])
                unsteady |= outcome.failed - again.failed
                outcome.code = again.code
        codes.append(outcome.code)
        if outcome.code == pytest.ExitCode.INTERRUPTED:
            break
    # The chosen tests may all be in one of the two parts.
    ran = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED] or codes
    code = next((code for code in ran if code), 0)
    bad = counts["failures"] + counts["errors"] - len(unsteady)
    summary = f"{counts['tests'] - bad - counts['skipped']} passed, {bad} failed, {counts['skipped']} skipped"
    lines = [f"{database}: {summary}{', interrupted' * (code == pytest.ExitCode.INTERRUPTED)}"]
    return code, "\n".join(lines + [f"  passed only when tried again: {name}" for name in sorted(unsteady)])


def tests(directory: Path, environment: dict[str, str], arguments: list[str]) -> Outcome:
    """Run pytest, with its report and its memory of failures in a directory."""
    # Tests start hundreds of processes, and each would compile our modules anew if bytecode were not kept.
    left_out = {"DATABASE_URL", "PYTHONDONTWRITEBYTECODE"}
    ours = {name: value for name, value in os.environ.items() if name not in left_out} | environment
    report = directory / "report.xml"
    report.unlink(missing_ok=True)
    kept = [f"--junit-xml={report}", "-o", f"cache_dir={directory / 'cache'}"]
    code = subprocess.run([sys.executable, "-m", "pytest", *kept, *arguments], env=ours).returncode
    if not report.exists():
        return Outcome(code, Counter(), set())
    suite = ElementTree.parse(report).getroot()[0]  # noqa: S314, this file is of our own making
    counts = Counter({kind: int(suite.attrib[kind]) for kind in ("tests", "failures", "errors", "skipped")})
    bad = [
        case for case in suite.iter("testcase") if case.find("failure") is not None or case.find("error") is not None
    ]
    return Outcome(code, counts, {f"{case.attrib['classname']}::{case.attrib['name']}" for case in bad})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
