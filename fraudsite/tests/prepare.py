"""Fills a deployment, in a process of its own: tables, a model, a key, rows.jsonl to post. Prints the key."""

import json
import sys
from pathlib import Path

import django

django.setup()

from django.conf import settings
from django.core.management import call_command

from scoring import services
from scoring.models import Client
from training import registry
from training.schema import load_schema
from training.tests.support import made_up_rows, tiny_bundle


def main(directory: Path) -> None:
    call_command("migrate", verbosity=0)
    bundle = tiny_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY)
    registry.register(bundle, promote=True)
    # One in six hundred is fraud, about as in life.
    features, _ = made_up_rows(rows=1200, frauds=2, seed=1)
    names = load_schema(settings.DEFAULT_SCHEMA).feature_names
    rows = [json.dumps(dict(zip(names, row, strict=True))) for row in features.tolist()]
    (directory / "rows.jsonl").write_text("\n".join(rows) + "\n")
    _, key = services.create_api_key(client=Client.objects.create(name="Acme"))
    print(key)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
