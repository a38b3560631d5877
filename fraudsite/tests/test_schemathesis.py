"""The live API holds what its OpenAPI document says, as schemathesis finds with all of its checks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scoring.clients import keys

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 10


@pytest.mark.usefixtures("champion", "handbook_champion")
def test_no_check_finds_anything(site, acme, tmp_path):
    _, key = keys.create(client=acme, calls_per_s=0, rows_per_s=0)
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "--config-file", str(CONFIGURATION), "run", f"{site}/api/v1/schema", "--no-color"]
    options = ["--checks=all", "--phases=examples,coverage,fuzzing", f"--max-examples={EXAMPLES}", "--seed=1"]
    header = ["--header", f"Authorization: Bearer {key}"]
    ended = subprocess.run(
        [*command, *options, *header], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
