"""Fills a deployment, in a process of its own: tables, a champion and a candidate, a key, rows.jsonl to post. Prints
the key.

With the words `handbook` and `payments` behind the directory also a champion and handbook.jsonl or payments.jsonl of
that schema.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import numpy as np
import pandas as pd

django.setup()

from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from scoring.clients import keys
from scoring.models import Client
from scoring.simulation import WEEK, body_of
from training import registry
from training.core.datasets import parquet_path, storage
from training.core.pipeline import train
from training.core.schema import EVENT_TIME, load_schema
from training.tests.support import made_up_rows, small_config, tiny_bundle, tiny_handbook_bundle

# As many as in the book's data.
CUSTOMERS, TERMINALS = 5_000, 10_000


def main(directory: Path, *further: str) -> None:
    call_command("migrate", verbosity=0)
    bundle = tiny_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY)
    registry.register(bundle, promote=True)
    other = tiny_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, **{"model.seed": 1})
    registry.register(other, promote=False)
    # One in six hundred is fraud, about as in life.
    features, _ = made_up_rows(rows=1200, frauds=2, seed=1)
    names = load_schema(settings.DEFAULT_SCHEMA).feature_names
    rows = [json.dumps(dict(zip(names, row, strict=True))) for row in features.tolist()]
    (directory / "rows.jsonl").write_text("\n".join(rows) + "\n")
    if "handbook" in further:
        registry.register(tiny_handbook_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY), promote=True)
        (directory / "handbook.jsonl").write_text("\n".join(map(json.dumps, terminal_payments(20_000))) + "\n")
    if "payments" in further:
        (directory / "payments.jsonl").write_text("\n".join(map(json.dumps, generated_payments(directory))) + "\n")
    _, key = keys.create(client=Client.objects.create(name="Acme"), calls_per_s=0, rows_per_s=0)
    print(key)


def generated_payments(directory: Path) -> Iterator[dict[str, Any]]:
    """Generate, ingest and train on transactions of the schema payments. Gives the bodies of the last ones.

    They keep their times, but whole weeks later: at the time of posting, cards would pay every few seconds, and most
    would be alerts.
    """
    raw, schema = directory / "payments.parquet", load_schema("payments")
    call_command("generate", output=raw, rows=300_000, days=60)
    call_command("ingest", schema=schema.name, source=str(raw))
    path = parquet_path(settings.DATASETS_DIR, schema.name)
    # Without years of histories more is unusual than in training: about one in a hundred is an alert, as of rows.jsonl.
    rare = {"policy.choose": "alerts_per_day", "policy.alerts_per_day": 7}
    quick = {"data.schema": schema.name, "model.epochs": 2} | rare
    bundle = train(
        config=small_config(**quick),
        dataset=storage.read(path, schema),
        bundles_dir=settings.BUNDLES_DIR,
        signing_key=settings.BUNDLE_SIGNING_KEY,
        on_epoch=lambda epoch, logs: None,
    )
    registry.register(bundle, promote=True)
    rows = storage.read_rows(path, schema)[0].tail(50_000)
    later = (pd.Timestamp(timezone.now()) - rows[EVENT_TIME].iloc[-1]) // WEEK * WEEK
    times = (rows[EVENT_TIME] + later).map(pd.Timestamp.isoformat)
    bodies = (body_of(schema, row) for row in rows.to_dict("records"))
    return (body | {EVENT_TIME: moment} for body, moment in zip(bodies, times, strict=True))


def terminal_payments(count: int) -> Iterator[dict[str, Any]]:
    """Bodies of the schema handbook, without an event time: they happen when they are posted."""
    random = np.random.default_rng(0)
    amounts = np.round(random.lognormal(3, 0.8, count), 2).tolist()
    customers, terminals = random.integers(CUSTOMERS, size=count), random.integers(TERMINALS, size=count)
    for amount, customer, terminal in zip(amounts, customers, terminals, strict=True):
        yield {"schema": "handbook", "amount": amount, "customer": f"c-{customer}", "terminal": f"t-{terminal}"}


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
