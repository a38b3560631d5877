"""A schema of one's own, added word for word as docs/features.md says, and schemas that do not exist."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command

from training import registry
from training.core import configuration
from training.core.exceptions import ConfigurationError, SchemaInvalid, SchemaNotFound
from training.core.schema import load_schema, schema_names
from training.models import ModelVersion
from training.tests.support import store_made_up_dataset

QUICK = ["model.epochs=2", "model.batch_size=128", "evaluation.bootstrap_resamples=0", "policy.review_precision=0.1"]
PAGE = (site.BASE_DIR / "docs" / "features.md").read_text()


@pytest.fixture
def toll(tmp_path, monkeypatch, settings, own_schemas):
    """The schema of the page, in a directory outside of the package. Gives the commands of the page."""
    [declared] = [block for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("title =")]
    [recipe] = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "--schema toll" in block]
    (own_schemas / "toll.toml").write_text(declared)
    settings.DATASETS_DIR, settings.BUNDLES_DIR = tmp_path / "datasets", tmp_path / "models"
    store_made_up_dataset(settings.DATASETS_DIR)  # what a schema of one's own was once mistaken for
    monkeypatch.chdir(tmp_path)
    return [shlex.split(line, comments=True)[1:] for line in recipe.splitlines() if line.startswith("manage.py")]


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
    check, ingest, train = toll
    call_command(*check)
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
    with pytest.raises(CommandError, match=r"no schema 'ulbb'\. Did you mean ulb\? Known schemas: handbook, .*ulb"):
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


DECLARED = """
title = "Payments"
time = "event_time"
amount = "amount"
label = "fraud"
past_days = 30
[[feature]]
name = "amount"
unit = "EUR"
minimum = 0.0
maximum = 500.0
description = "The amount."
"""


def test_a_schema_of_ones_own_has_its_training_configuration_beside_it(own_schemas):
    (own_schemas / "shop.toml").write_text(DECLARED)
    (own_schemas / "configs").mkdir()
    for name in ("shop", "shop-time", "shop-mine", "shop-eu"):
        (own_schemas / "configs" / f"{name}.toml").write_text(f"[model]\nepochs = {len(name)}\n")
    (own_schemas / "shop-eu.toml").write_text(DECLARED)
    assert {"shop", "shop-eu", "ulb", "handbook"} <= set(schema_names())
    assert configuration.chosen("shop", None, {}).model.epochs == len("shop")
    assert configuration.chosen("shop", None, {"split.protocol": "time"}).model.epochs == len("shop-time")
    assert [path.stem for path in configuration.recipes_of("shop")] == ["shop", "shop-mine", "shop-time"]


def test_a_schema_with_the_name_of_one_of_the_package_is_refused(own_schemas):
    (own_schemas / "ulb.toml").write_text(DECLARED)
    with pytest.raises(SchemaInvalid, match=r"ulb\.toml has the name of a schema of the package\. Rename it"):
        load_schema("ulb")


@pytest.mark.parametrize("name", ["my shop", "läden", "a.b", "s" * 33])
def test_a_schema_whose_name_the_database_cannot_hold_is_refused(own_schemas, name):
    (own_schemas / f"{name}.toml").write_text(DECLARED)
    with pytest.raises(SchemaInvalid, match="letters, digits, - and _, at most 32 of them"):
        load_schema(name)


def test_what_an_editor_leaves_in_the_directory_is_no_schema(own_schemas):
    (own_schemas / ".#shop.toml").symlink_to("nobody@nowhere")
    (own_schemas / "shop.toml~").write_text(DECLARED)
    assert not any("shop" in name for name in schema_names())


@pytest.mark.parametrize("name", ["../schemas/shop", "configs/shop", "/etc/shop", ""])
def test_a_name_leads_to_no_file_elsewhere(own_schemas, name):
    (own_schemas / "shop.toml").write_text(DECLARED)
    with pytest.raises(SchemaNotFound):
        load_schema(name)
