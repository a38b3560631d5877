"""docs/own-data.md, followed word for word: from a file to a scored transaction."""

import json
import re
import shlex
from contextlib import chdir

import numpy as np
import pandas as pd
from django.conf import settings as site
from django.core.management import call_command

from fraudsite.testing import web_server, worker_environment
from scoring.clients import keys
from scoring.models import Label, Prediction
from training.core import schema

PAGE = (site.BASE_DIR / "docs" / "own-data.md").read_text()
QUICK = ("xgboost.epochs=10", "evaluation.bootstrap_resamples=0")
ROWS = 1_500


def payments() -> pd.DataFrame:
    random = np.random.default_rng(0)
    fraud = random.random(ROWS) < 0.1
    return pd.DataFrame(
        {
            "id": [f"p-{number}" for number in range(ROWS)],
            "paid_at": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) * 8_000, unit="s"),
            "card": [f"c-{number}" for number in random.integers(0, 100, ROWS)],
            "merchant": [f"Bakery {number}" for number in random.integers(0, 30, ROWS)],
            "category": random.choice(["food", "travel", "games"], ROWS),
            "country": random.choice(["DE", "FR"], ROWS),
            "amount": random.lognormal(np.where(fraud, 5, 3), 0.7).round(2),
            "fraud": fraud.astype(int),
        }
    )


def test_the_guide_leads_from_a_file_to_a_score(worker, acme, acme_api, settings, tmp_path, capsys):
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    draft, check, ingest, train, simulate, curl = [shlex.split(line)[1:] for line in lines]
    payments().to_csv(tmp_path / "payments.csv", index=False)
    try:
        with chdir(tmp_path):
            call_command(*draft)
            call_command(*check)
            call_command(*ingest)
            call_command(*train, *(part for setting in QUICK for part in ("--set", setting)))
        # The first call has the worker compile.
        settings.PREDICT_DEADLINE_MS = 60_000
        body = json.loads(curl[curl.index("-d") + 1])
        answer = acme_api.post("/predict", body, content_type="application/json")
        assert answer.status_code == 200, answer.content
        _, key = keys.create(client=acme)
        with web_server(worker_environment()) as url:
            capsys.readouterr()
            call_command(*simulate, "--url", url, "--api-key", key, "--await-ready", "60")
            summary = capsys.readouterr().out.splitlines()[-1]
            assert summary.startswith("50 answered in ")
            assert summary.endswith("failed: none")
        assert 0 <= answer.json()["fraud_score"] <= 1
        assert Prediction.objects.filter(transaction__schema="shop").count() == 51
        assert Label.objects.count() < 50, "those of the last week are not known yet"
    finally:
        for path in settings.SCHEMAS_DIR.rglob("shop.toml"):
            path.unlink()
        schema.look_in(settings.SCHEMAS_DIR)
