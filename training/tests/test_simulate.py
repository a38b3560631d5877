"""What `manage.py simulate` refuses before it sends anything; what it sends is tested with a real site."""

import pytest
from django.core.management import CommandError, call_command


def refusal(**options):
    with pytest.raises(CommandError) as refused:
        call_command("simulate", **{"api_key": "fs_key", "count": 1} | options)
    return str(refused.value)


def test_it_needs_an_api_key(monkeypatch):
    monkeypatch.delenv("FRAUDSITE_API_KEY", raising=False)
    assert "create_api_key" in refusal(api_key=None)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": -1.0}, {"rate": float("nan")}, {"concurrency": 0}])
def test_pace_and_concurrency_must_be_positive(options):
    assert "must be positive" in refusal(**options)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_fraud_lies_between_0_and_1(share):
    assert "--fraud-rate must lie between 0 and 1" in refusal(fraud_rate=share)


@pytest.mark.django_db
def test_it_needs_a_champion():
    assert "No model has been promoted to champion" in refusal()


def test_it_needs_the_dataset_of_the_champion(champion, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path
    assert "manage.py ingest" in refusal()
