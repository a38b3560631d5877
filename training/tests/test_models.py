"""The command `models`: the register from a terminal."""

import pytest
from django.core.management import CommandError, call_command

from training import registry
from training.models import ModelVersion, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def versions(monkeypatch, bundle):
    """Two versions of one bundle."""
    monkeypatch.setattr(ModelVersion, "bundle_dir", bundle.path)
    return [ModelVersion.objects.create(version=name, schema="ulb", review_threshold=0.5) for name in ("old", "new")]


def models(capsys, *arguments):
    call_command("models", *arguments)
    return capsys.readouterr().out


def test_a_version_is_promoted_and_rolled_back(capsys, versions):
    output = models(capsys, "promote", "old")
    assert output.startswith("old: candidate → champion\n")
    assert "old decides from now on: workers take it up within" in output
    output = models(capsys, "promote", "new", "--reason", "More recall.", "--by", "mel")
    assert output.startswith("old: champion → retired\nnew: candidate → champion\nAUPRC on 800 test rows is +0.0000")
    assert "new decides from now on" in output
    assert "old scores nothing any more; its bundle is kept" in output
    assert models(capsys, "live") == "new\n"
    models(capsys, "rollback")
    assert registry.champion("ulb").pk == "old"
    history = models(capsys, "history")
    assert "Promoted. More recall." in history
    assert "mel" in history
    decided = [line.split() for line in history.splitlines() if line.split()[5:6] == ["champion"]]
    assert [version for _, _, _, version, *_ in decided] == ["old", "new", "old"]


def test_a_shadow_and_its_retirement(capsys, versions):
    models(capsys, "shadow", "new")
    assert ModelVersion.objects.get(pk="new").stage == Stage.SHADOW
    models(capsys, "retire", "new")
    listed = [line.split()[:2] for line in models(capsys, "list").splitlines()]
    assert sorted(line for line in listed if line[:1] in (["new"], ["old"])) == [
        ["new", "retired"],
        ["old", "candidate"],
    ]


def test_what_decided_before_the_first_promotion_is_nothing(capsys, versions):
    models(capsys, "promote", "old")
    assert models(capsys, "live", "--at", "2020-01-01T00:00") == "No version of ulb decided then.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "newer"], r"no version newer: see `manage\.py models list`"),
        (["rollback"], "No model has been promoted"),
        (["live", "--at", "noon"], "--at takes an ISO time"),
    ],
)
def test_a_refusal_says_what_to_do(versions, arguments, message):
    with pytest.raises(CommandError, match=message):
        call_command("models", *arguments)
