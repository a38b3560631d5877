"""The whole suite on SQLite, and again on PostgreSQL where it can be had: `make test`, with pytest's arguments. What
cannot differ there runs once: see `fraudsite.tests.databases`. Tests that tell how long things take come one by one;
the others come first, as many at a time as there are cores.

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
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fraudsite.tests import postgresql


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


def run(database: str, environment: dict[str, str], arguments: list[str]) -> tuple[int, str]:
    """Run pytest, in two parts. Returns its code, the first that is not 0, and a line about both."""
    cores = os.cpu_count() or 1
    parts = {f"{cores} at a time": ["-m", "not alone", "-n", str(cores)], "one by one": ["-m", "alone"]}
    codes, counts = [], Counter[str]()
    for name, selection in parts.items():
        print(f"\nThe tests on {database}, {name}", flush=True)
        # Tests start hundreds of processes, and each would compile our modules anew if bytecode were not kept.
        left_out = {"DATABASE_URL", "PYTHONDONTWRITEBYTECODE"}
        ours = {name: value for name, value in os.environ.items() if name not in left_out} | environment
        with tempfile.TemporaryDirectory(prefix="fraudsite-report-") as directory:
            report = Path(directory) / "report.xml"
            command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *selection, *arguments]
            codes.append(subprocess.run(command, env=ours).returncode)
            if report.exists():
                suite = ElementTree.parse(report).getroot()[0].attrib  # noqa: S314, this file is of our own making
                counts += Counter({kind: int(suite[kind]) for kind in ("tests", "failures", "errors", "skipped")})
        if codes[-1] == pytest.ExitCode.INTERRUPTED:
            break
    # The chosen tests may all be in one of the two parts.
    ran = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED] or codes
    code = next((code for code in ran if code), 0)
    bad = counts["failures"] + counts["errors"]
    passed = counts["tests"] - bad - counts["skipped"]
    summary = f"{passed} passed, {bad} failed, {counts['skipped']} skipped"
    return code, f"{database}: {summary}{', interrupted' * (code == pytest.ExitCode.INTERRUPTED)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
