"""The seed system's protocol over ten seeds: `python benchmarks/seed_protocol.py` after `manage.py ingest`.

One split (random_state 42), ten initialisations. Finished seeds are kept in VAR_DIR/seed_protocol.json, so that an
interrupted run goes on where it stopped. Prints a Markdown table.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
django.setup()

import numpy as np
from django.conf import settings

from training import configuration
from training.datasets import storage
from training.evaluation import METRIC_NAMES, PUBLISHED
from training.pipeline import train
from training.schema import load_schema

SEEDS = 10


def main() -> None:
    kept = settings.VAR_DIR / "seed_protocol.json"
    results: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    schema = load_schema("ulb")
    config = configuration.read(overrides={"split.protocol": "seed", "evaluation.bootstrap_resamples": 0})
    features, labels, report = storage.read(settings.DATASETS_DIR / config["data"]["parquet"], schema)
    for seed in range(SEEDS):
        if str(seed) in results:
            continue
        config["model"]["seed"] = seed
        with tempfile.TemporaryDirectory() as directory:
            bundle = train(
                config=config,
                schema=schema,
                features=features,
                labels=labels,
                report=report,
                bundles_dir=Path(directory),
                signing_key=settings.BUNDLE_SIGNING_KEY,
                on_epoch=lambda epoch, logs: None,
            )
        test = bundle.metrics["test"]
        results[str(seed)] = {
            key: test[key]["value"] if isinstance(test[key], dict) else test[key] for key in METRIC_NAMES
        }
        kept.write_text(json.dumps(results))
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    print("| test rows | seed system | mean of ten seeds | standard deviation | lowest | highest |")
    print("| --- | --- | --- | --- | --- | --- |")
    for key, name in METRIC_NAMES.items():
        values = np.array([result[key] for result in results.values()])
        published = f"{PUBLISHED[key]:.4f}" if key in PUBLISHED else ""
        print(
            f"| {name} | {published} | {values.mean():.4f} | {values.std(ddof=1):.5f} "
            f"| {values.min():.4f} | {values.max():.4f} |"
        )


if __name__ == "__main__":
    main()
