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


@pytest.mark.parametrize("options", [{"days": 1.0}, {"speed": 2.0}, {"labels": 0.0}, {"past": 1.0}, {"repeat": True}])
def test_options_of_recorded_times_are_refused_for_a_schema_without_event_times(options):
    assert f"--{next(iter(options))}: ulb has no event times" in refusal(**options)


@pytest.mark.parametrize("options", [{"rate": 1.0}, {"fraud_rate": 0.5}, {"seed": 1}])
def test_what_only_drawn_rows_read_is_refused_for_a_schema_with_event_times(options):
    assert "handbook has event times, so its rows are sent at these times" in refusal(schema="handbook", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days": 30.0}, "--days must be at least 0 and less than 30"),
        ({"days": -1.0}, "--days must be"),
        ({"days": float("nan")}, "--days must be"),
        ({"speed": 0.0}, "--speed must be positive"),
        ({"labels": -1.0}, "--labels must be at least 0"),
        ({"past": -1.0}, "--past must be at least 0"),
    ],
)
def test_recorded_times_begin_in_the_past_and_go_forward(options, message):
    assert message in refusal(schema="handbook", **options)


def test_an_unknown_schema_is_told():
    assert "Known schemas: handbook, " in refusal(schema="moon")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:port", "nowhere"])
def test_an_address_where_nobody_answers_is_named(champion, url):
    assert refusal(url=url).startswith("--url: ")
