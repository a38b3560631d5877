"""A schema of one's own, added word for word as docs/features.md says, and schemas that do not exist."""

import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command

from training import registry
from training.core import configuration, schema
from training.core.exceptions import ConfigurationError
from training.models import ModelVersion
from training.tests.support import store_made_up_dataset

QUICK = ["model.epochs=2", "model.batch_size=128", "evaluation.bootstrap_resamples=0", "policy.review_precision=0.1"]
PAGE = (site.BASE_DIR / "docs" / "features.md").read_text()


@pytest.fixture
def toll(tmp_path, monkeypatch, settings):
    """The schema of the page, in a copy of the shipped schemas' directory. Gives the commands of the page."""
    [declared] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    [recipe] = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "--schema toll" in block]
    directory = shutil.copytree(schema.SCHEMAS_DIR, tmp_path / "schemas")
    (directory / "toll.toml").write_text(declared)
    monkeypatch.setattr(schema, "SCHEMAS_DIR", directory)
    schema.schema_names.cache_clear()
    schema.load_schema.cache_clear()
    settings.DATASETS_DIR, settings.BUNDLES_DIR = tmp_path / "datasets", tmp_path / "models"
    store_made_up_dataset(settings.DATASETS_DIR)  # what a schema of one's own was once mistaken for
    monkeypatch.chdir(tmp_path)
    yield [shlex.split(line, comments=True)[1:] for line in recipe.splitlines() if line.startswith("manage.py")]
    schema.schema_names.cache_clear()
    schema.load_schema.cache_clear()


def tolls(rows=2000):
    random = np.random.default_rng(0)
    fraud = random.random(rows) < 0.1
    return pd.DataFrame(
        {
            "id": [f"passage-{number}" for number in range(rows)],
            "passed_at": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows) * 3000, unit="s"),
            "plate": [f"p-{number}" for number in random.integers(0, 40, rows)],
            "toll": np.where(fraud, random.uniform(200, 500, rows), random.uniform(1, 50, rows)).round(2),
            "fraud": fraud.astype(np.int8),
        }
    )


@pytest.mark.django_db
def test_the_recipe_of_the_docs_trains_on_the_rows_of_that_schema(toll):
    tolls().to_parquet("payments.parquet")
    ingest, train = toll
    call_command(*ingest)
    call_command(*train, *[part for setting in QUICK for part in ("--set", setting)])
    champion = registry.champion("toll")
    assert champion.schema == "toll"
    assert registry.load(champion).description.data.rows == 2000
    assert not ModelVersion.objects.filter(schema="ulb").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["train", "tune", "evaluate", "ingest", "simulate"])
def test_a_misspelt_schema_is_refused_with_the_name_that_is_meant(command, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path
    options = {"api_key": "k"} if command == "simulate" else {}
    with pytest.raises(CommandError, match=r"no schema 'ulbb'\. Did you mean ulb\? Known schemas: handbook, ulb"):
        call_command(command, schema="ulbb", **options)
    assert not ModelVersion.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("action", ["list", "history", "live", "rollback"])
def test_the_register_knows_no_misspelt_schema_either(action):
    with pytest.raises(CommandError, match="Did you mean handbook"):
        call_command("models", action, schema="handbok")


@pytest.mark.parametrize("way", ["argument", "override", "file"])
def test_a_schema_is_named_in_three_ways_and_its_own_configuration_is_read(way, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nschema = "handbook"\n')
    read = {
        "argument": lambda: configuration.chosen("handbook", None, {}),
        "override": lambda: configuration.chosen(None, None, {"data.schema": "handbook"}),
        "file": lambda: configuration.chosen(None, file, {}),
    }[way]()
    assert (read.data.schema, read.data.parquet) == ("handbook", "handbook/transactions.parquet")
    assert read.split.protocol == ("stratified" if way == "file" else "time")


def test_two_schemas_at_once_are_refused(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nschema = "handbook"\n')
    for named, config, override in (("ulb", None, "handbook"), ("ulb", file, None), (None, file, "ulb")):
        with pytest.raises(ConfigurationError, match="Two schemas are named"):
            configuration.chosen(named, config, {"data.schema": override} if override else {})


def test_a_file_that_names_no_schema_goes_with_any(tmp_path):
    file = tmp_path / "best.toml"
    file.write_text("[model]\ndropout = 0.5\n")
    assert configuration.chosen("handbook", file, {}).data.schema == "handbook"
    assert configuration.chosen(None, file, {}).data.schema == "ulb"
