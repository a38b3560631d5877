"""`manage.py choose_threshold`: another threshold, without training."""

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command

from training.core import configuration
from training.core.evaluation import policy

pytestmark = pytest.mark.django_db


def choose(version, *options):
    call_command("choose_threshold", version.pk, *options)
    version.refresh_from_db()


def test_a_precision_is_attained_on_validation_rows(champion, bundle, mel, capsys):
    choose(champion, "--precision", "0.5", "--user", "mel")
    validation = bundle.scored["validation"]
    alerts = validation.scores >= champion.review_threshold
    assert validation.labels[alerts].mean() >= 0.5
    assert champion.review_threshold < bundle.review_threshold
    assert "Review threshold from" in capsys.readouterr().out


def test_alerts_a_day_are_so_many_at_most(champion, bundle, mel):
    days = bundle.description.days["validation"]
    choose(champion, "--alerts-per-day", "100", "--user", "mel")
    alerts = (bundle.scored["validation"].scores >= champion.review_threshold).sum()
    assert alerts <= 100 * days < alerts + 2


def test_a_cost_chooses_what_the_policy_would(champion, bundle, mel):
    choose(champion, "--cost", "12", "--user", "mel")
    asked = configuration.read(overrides={"policy.choose": "cost", "policy.review_cost": 12.0}).policy
    expected = policy.review_threshold(asked, bundle.scored["validation"], days=None)
    assert champion.review_threshold == expected


def test_the_history_says_who_changed_what_and_why(champion, mel):
    before = champion.review_threshold
    choose(champion, "--precision", "0.5", "--user", "mel")
    (entry,) = LogEntry.objects.all()
    assert (entry.user, entry.object_id) == (mel, champion.pk)
    change = (
        f"Review threshold from {before} to {champion.review_threshold} (precision of 0.5 or more, on validation rows)"
    )
    assert change in entry.change_message


def test_the_block_threshold_is_lifted_where_it_would_lie_below(champion, mel):
    champion.block_threshold = champion.review_threshold = 0.01
    champion.save()
    choose(champion, "--precision", "1", "--user", "mel")
    assert champion.block_threshold == champion.review_threshold > 0.01


def test_a_dry_run_says_and_changes_nothing(champion, capsys):
    before = champion.review_threshold
    choose(champion, "--precision", "0.5", "--dry-run")
    output = capsys.readouterr().out
    assert all(word in output for word in ("now", "chosen", "recall", "alerts per day", "cost per 1,000"))
    assert champion.review_threshold == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "0.5"], "--user"),
        (["--precision", "0.5", "--user", "nobody"], "--user"),
        (["--precision", "1.5", "--user", "mel"], "policy.review_precision must lie between"),
        (["--cost", "1e8", "--user", "mel"], "alerts cost more than they save"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(champion, mel, options, message):
    before = champion.review_threshold
    with pytest.raises(CommandError, match=message):
        choose(champion, *options)
    champion.refresh_from_db()
    assert champion.review_threshold == before


def test_a_version_that_does_not_exist_is_said_so(mel):
    with pytest.raises(CommandError, match="no model version"):
        call_command("choose_threshold", "nothing", "--precision", "0.5", "--user", "mel")
