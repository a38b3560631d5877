"""`manage.py schema`: what is declared, which models serve it, and which histories are stale."""

import pytest
from django.core.management import CommandError, call_command

from scoring.models import History
from training.core.features import replay
from training.core.places import PACKAGE
from training.core.schema import load_schema

HANDBOOK = (PACKAGE / "schemas" / "handbook.toml").read_text()


def output_of(capsys, *words):
    call_command("schema", *words)
    return capsys.readouterr().out


@pytest.mark.django_db
def test_it_lists_every_schema_with_its_champion(own_schemas, handbook_champion, capsys):
    (own_schemas / "shop.toml").write_text(HANDBOOK.replace("the fraud detection handbook", "a shop"))
    lines = {line.split()[0]: line for line in output_of(capsys, "list").splitlines() if line.strip()}
    assert {"handbook", "shop", "ulb"} <= lines.keys()
    assert handbook_champion.version in lines["handbook"]
    assert "Transactions of a shop" in lines["shop"]
    assert str(own_schemas / "shop.toml") in lines["shop"]


@pytest.mark.django_db
def test_it_shows_what_a_schema_declares(capsys):
    shown = output_of(capsys, "check", "handbook")
    fields = [line.split() for line in shown.splitlines()]
    assert ["amount", "number", "0", "to", "1e+06", "EUR", "no", "yes", "Amount", "of", "the", "transaction."] in fields
    assert ["customer", "600", str(replay.event_bytes(load_schema("handbook"), "customer"))] in fields
    assert any(words[:2] == ["is_weekend", "calendar"] for words in fields)
    assert "No model yet: run `manage.py train --schema handbook`." in shown


@pytest.mark.django_db
def test_it_names_the_fault_of_each_schema_and_goes_on(own_schemas, capsys):
    (own_schemas / "shop.toml").write_text(HANDBOOK.replace('of = "weekday"', 'of = "wekday"'))
    with pytest.raises(CommandError, match="Schema shop: is_weekend: of is one of hour, weekday"):
        call_command("schema", "check")
    assert "ulb: valid, 30 inputs of the model." in capsys.readouterr().out


@pytest.mark.django_db
def test_a_change_is_compared_with_models_and_histories_before_it_is_in_place(tmp_path, handbook_champion, capsys):
    schema = load_schema("handbook")
    for number in range(3):
        events = replay.version(schema, "customer") + bytes(50)
        History.objects.create(token=f"{number}", schema="handbook", entity="customer", events=events, last_sequence=1)
    now = output_of(capsys, "check", "handbook")
    assert f"Model {handbook_champion} (champion): of this declaration." in now
    assert "Histories of customer: 3, none stale." in now
    changed = tmp_path / "handbook.toml"
    changed.write_text(HANDBOOK.replace("history_limit = 600", "history_limit = 700"))
    then = output_of(capsys, "check", str(changed))
    assert f"of another declaration ({schema.hash[:12]})" in then
    assert "Histories of customer: 3, 3 of them stale." in then
    assert "manage.py rebuild_histories --schema handbook" in then


@pytest.mark.django_db
def test_a_file_is_refused_whose_name_no_schema_can_have(tmp_path):
    (tmp_path / "my shop.toml").write_text(HANDBOOK)
    with pytest.raises(CommandError, match=r"my shop\.toml: the name of a schema has letters, digits"):
        call_command("schema", "check", str(tmp_path / "my shop.toml"))


@pytest.mark.django_db
def test_a_file_that_is_not_there_is_refused_by_name():
    with pytest.raises(CommandError, match=r"Schema shop: /nowhere/shop\.toml cannot be read: No such file"):
        call_command("schema", "check", "/nowhere/shop.toml")
