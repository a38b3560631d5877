"""The seed system's training beside ours of the same network: `python -m benchmarks.training_time` after `ingest`.

Both are whole processes that run in turn: imports, reading, the seed system's split, the scaler, fitting with early
stopping, the scores of the test rows. The peer reads CSV and fits with Keras's own loop; ours reads Parquet, and writes
a signed bundle with its plots. Memory is the peak of the process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import pandas as pd

from training.core import configuration
from training.core.datasets import parquet_path, storage
from training.core.schema import load_schema

ROOT = Path(__file__).parent.parent
# Seconds, processor seconds, megabytes at the most, AUPRC.
Run = tuple[float, float, float, Any]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--parquet", type=Path, default=parquet_path(ROOT / "var/datasets", "ulb"), help="of `ingest`")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ours", type=int, metavar="SEED", help="one run of ours, as this program starts it itself")
    options = parser.parse_args()
    if options.ours is not None:
        print(json.dumps({"auprc": ours(options.parquet, options.ours)}))
        return
    from benchmarks.stand import table  # takes half a second to load, which is not ours to pay

    with tempfile.TemporaryDirectory() as directory:
        csv = Path(directory) / "creditcard.csv"
        pd.read_parquet(options.parquet).to_csv(csv, index=False)
        imports = "import keras, pandas, sklearn.model_selection; print('{\"auprc\": null}')"
        ways = {
            "imports alone, which both need": ["-c", imports],
            "the seed system's recipe": ["benchmarks/peers/seed_recipe.py", str(csv)],
            "ours": ["-m", "benchmarks.training_time", "--parquet", str(options.parquet), "--ours"],
        }
        runs: dict[str, list[Run]] = {name: [] for name in ways}
        for seed in range(options.seeds):
            for name, command in ways.items():
                runs[name].append(run([sys.executable, *command, str(seed)]))
                print(f"seed {seed}, {name}: {runs[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
    rows = []
    for name, figures in runs.items():
        wall, processor, memory, auprc = zip(*figures, strict=True)
        quality = "" if None in auprc else f"{mean(auprc):.3f}" + (f" ± {stdev(auprc):.3f}" if len(auprc) > 1 else "")
        rows.append([name, f"{median(wall):.1f}", f"{median(processor):.1f}", f"{max(memory):.0f}", quality])
    print(table(["", "s", "processor s", "memory MB", "AUPRC on test"], rows))
    turns = list(zip(*runs.values(), strict=True))
    whole = median(own[0] / peer[0] for _, peer, own in turns)
    rest = median((own[0] - imports[0]) / (peer[0] - imports[0]) for imports, peer, own in turns)
    print(
        f"\nOurs takes {whole:.2f} of the seed recipe's time; apart from the imports, {rest:.2f} "
        f"(medians of {len(turns)} turns)."
    )


def run(command: list[str]) -> Run:
    """Run one side."""
    began = time.perf_counter()
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert started.stdout is not None
    output = started.stdout.read()
    _, status, used = os.wait4(started.pid, 0)
    seconds = time.perf_counter() - began
    assert status == 0, command
    # Linux counts kilobytes, macOS bytes.
    megabytes = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return seconds, used.ru_utime + used.ru_stime, megabytes, json.loads(output)["auprc"]


def ours(parquet: Path, seed: int) -> float:
    from training.core.pipeline import train

    overrides = {"split.protocol": "seed", "model.architecture": "mlp", "model.seed": seed}
    config = configuration.read(overrides=overrides | {"evaluation.bootstrap_resamples": 0})
    with tempfile.TemporaryDirectory() as directory:
        bundle = train(
            config=config,
            dataset=storage.read(parquet, load_schema("ulb")),
            bundles_dir=Path(directory),
            signing_key="benchmark",
            on_epoch=lambda epoch, logs: None,
        )
    auprc = bundle.metrics["test"].auprc
    assert auprc is not None
    return auprc.value


if __name__ == "__main__":
    main()
