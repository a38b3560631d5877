"""Alerts open once, are acknowledged, resolve, and are told: to whom, when, and how often."""

import json
from datetime import timedelta
from itertools import count

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from monitoring.alerts import acting, clock, evaluating, sending, telling
from monitoring.alerts.measures import gauges
from monitoring.alerts.measures.base import Subject
from monitoring.alerts.models import (
    Alert,
    AlertEvent,
    AlertMessage,
    AlertNotice,
    AlertRoute,
    AlertRule,
    AlertSample,
    AlertSilence,
)
from monitoring.tasks import delete_old_alert_rows, evaluate_alerts, send_alerts

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
State, Kind = Alert.State, AlertEvent.Kind
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def no_alarm_of_the_machine(monkeypatch):
    """The gauges see what the test says, one value by schema, and nothing of the machine that runs it."""
    seen = {"disk_free": {"ulb": 0.5}}
    for name in gauges.GAUGES:
        monkeypatch.setitem(
            gauges.GAUGES,
            name,
            lambda _, name=name: ((Subject(schema), value, "") for schema, value in seen.get(name, {}).items()),
        )
    return seen


@pytest.fixture
def waiting(no_alarm_of_the_machine):
    """Hours that the oldest review waits, by schema: a rule fires at 48 and clears at 24."""
    AlertRule.objects.exclude(measure="review_age").update(is_on=False)
    AlertRule.objects.filter(measure="review_age").update(lasts_min=0, calm_min=0)
    no_alarm_of_the_machine["review_age"] = ages = {"ulb": 1.0}
    return ages


@pytest.fixture
def route(db):
    return AlertRoute.objects.create(name="On call", kind="email", address="ops@example.com, lead@example.com")


@pytest.fixture
def later():
    """Evaluates a minute later each time, or so much later."""
    begin, minutes = timezone.now().replace(second=5), count()

    def evaluate(after=timedelta()):
        nonlocal begin
        begin += after
        now = begin + next(minutes) * MINUTE
        evaluating.evaluate(now=now)
        sending.send_due(now=now)
        return now

    return evaluate


def told():
    return [message.subject for message in mail.outbox]


def test_an_alert_fires_is_told_and_resolves(waiting, route, later):
    later()
    assert not Alert.objects.exists()
    waiting["ulb"] = 50.0
    fired_at = later()
    alert = Alert.objects.get()
    assert (alert.state, alert.schema, alert.shown, alert.fired_at) == (State.FIRING, "ulb", "50 h", fired_at)
    waiting["ulb"] = 30.0  # between both levels
    later()
    alert.refresh_from_db()
    assert (alert.state, alert.shown) == (State.FIRING, "30 h")
    waiting["ulb"] = 2.0
    resolved_at = later(HOUR)
    alert.refresh_from_db()
    assert (alert.state, alert.resolved_at) == (State.RESOLVED, resolved_at)
    assert told() == [
        "[Fraudsite] Fired: Reviews wait too long (ulb)",
        "[Fraudsite] Resolved: Reviews wait too long (ulb)",
    ]
    [first, _] = mail.outbox
    assert first.to == ["ops@example.com", "lead@example.com"]
    assert f"at {fired_at:%Y-%m-%d %H:%M} UTC: 50 h" in first.body
    assert f"/admin/monitoring/alert/{alert.pk}/change/" in first.body
    assert "/admin/runbooks/#review_age" in first.body


def test_each_subject_of_a_rule_has_an_alert_of_its_own(waiting, later):
    waiting.update(ulb=50.0, handbook=60.0, shop=1.0)
    later()
    later()
    assert sorted(Alert.objects.values_list("schema", flat=True)) == ["handbook", "ulb"]


def test_a_rule_of_one_schema_leaves_the_others_alone(waiting, later):
    AlertRule.objects.filter(measure="review_age").update(schema="handbook")
    waiting.update(ulb=50.0, handbook=60.0)
    later()
    assert [alert.schema for alert in Alert.objects.all()] == ["handbook"]


def test_a_rule_is_judged_once_in_each_step_however_many_schedulers_there_are(waiting, route):
    waiting["ulb"] = 50.0
    now = timezone.now().replace(second=10)
    first, second = evaluating.evaluate(now=now), evaluating.evaluate(now=now + timedelta(seconds=20))
    assert (len(first), second) == (1, [])
    assert evaluating.evaluate(now=now + MINUTE) != []
    assert Alert.objects.count() == AlertEvent.objects.count() == AlertNotice.objects.count() == 1


def test_two_evaluations_at_the_very_same_time_open_one_alert_and_tell_it_once(waiting, route):
    """The second judges the same steps, as it read them before the first wrote anything."""
    waiting["ulb"] = 50.0
    now = timezone.now()
    evaluating.evaluate(now=now, everything=True)
    rule = AlertRule.objects.get(measure="review_age")
    measure = evaluating.all_of_them()["review_age"]
    condition = evaluating.condition_of(rule, measure)
    [(subject, series)] = measure.series(evaluating.Scope(), now - HOUR, now).items()
    judged = evaluating.judge(series, condition)
    assert evaluating._fire(rule, measure, subject, judged, condition, now) is None
    alert = Alert.objects.get()
    assert evaluating.resolve(alert, now=now)
    assert not evaluating.resolve(alert, now=now)
    assert [event.kind for event in alert.events.all()] == [Kind.FIRED, Kind.RESOLVED]


def test_what_is_acknowledged_is_told_once_with_the_note_and_not_again(waiting, route, later, settings):
    waiting["ulb"] = 50.0
    now = later()
    acting.acknowledge(Alert.objects.get(), by="otto", note="Calling the team.", now=now)
    with pytest.raises(acting.AlertRefused):
        acting.acknowledge(Alert.objects.get(), by="ada", note="Me too.", now=now)
    later(HOUR)
    later(timedelta(hours=settings.ALERT_REPEAT_H))
    assert told() == [
        "[Fraudsite] Fired: Reviews wait too long (ulb)",
        "[Fraudsite] Acknowledged: Reviews wait too long (ulb)",
    ]
    assert "by otto: Calling the team." in mail.outbox[1].body
    waiting["ulb"] = 1.0
    later(HOUR)
    assert told()[2:] == ["[Fraudsite] Resolved: Reviews wait too long (ulb)"]


def test_what_nobody_acknowledges_is_told_again_after_a_while(waiting, route, later, settings):
    waiting["ulb"] = 50.0
    later()
    later(timedelta(hours=settings.ALERT_REPEAT_H - 1))
    assert len(told()) == 1
    later(HOUR)
    assert told()[1:] == ["[Fraudsite] Still fires: Reviews wait too long (ulb)"]


def test_a_silence_keeps_quiet_and_then_tells_what_still_fires(waiting, route, later):
    now = later()
    silence = AlertSilence.objects.create(schema="ulb", starts_at=now, ends_at=now + HOUR, note="Moving", by="otto")
    waiting.update(ulb=50.0, handbook=50.0)
    later()
    assert Alert.objects.count() == 2
    assert told() == ["[Fraudsite] Fired: Reviews wait too long (handbook)"]
    later(silence.ends_at - now)
    assert told()[1:] == ["[Fraudsite] Still fires: Reviews wait too long (ulb)"]


def test_what_ends_within_its_silence_is_told_to_nobody(waiting, route, later):
    now = later()
    rule = AlertRule.objects.get(measure="review_age")
    AlertSilence.objects.create(rule=rule, starts_at=now, ends_at=now + HOUR, note="Moving", by="otto")
    waiting["ulb"] = 50.0
    later()
    waiting["ulb"] = 1.0
    later(2 * HOUR)
    assert Alert.objects.get().state == State.RESOLVED
    assert told() == []


def test_a_storm_is_one_message_with_the_severest_first(waiting, route, later, settings):
    later()
    rule = AlertRule.objects.get(measure="review_age")
    AlertRule.objects.create(
        name="Far too long", measure="review_age", severity="critical", schema="s07", fires_at=99.0, clears_at=50.0
    )
    waiting.update({f"s{number:02}": 100.0 for number in range(80)})
    later()
    assert told() == ["[Fraudsite] Fired: Far too long (s07), and 80 more"]
    assert mail.outbox[0].body.count("Fired: ") == telling.LINES_LIMIT
    assert "And 31 more" in mail.outbox[0].body
    waiting.update({f"s{number:02}": 1.0 for number in range(80)})
    later()
    assert len(told()) == 1  # within ALERT_GROUP_S
    later(timedelta(seconds=settings.ALERT_GROUP_S))
    assert told()[1:] == ["[Fraudsite] Resolved: Far too long (s07), and 80 more"]
    assert rule.alerts.filter(resolved_at=None).count() == 0


def test_a_route_hears_of_its_severities_and_schemas(waiting, later):
    for name, severity, schemas in (("all", "info", []), ("worst", "critical", []), ("other", "info", ["handbook"])):
        AlertRoute.objects.create(
            name=name, kind="email", address=f"{name}@example.com", severity=severity, schemas=schemas
        )
    waiting["ulb"] = 50.0
    later()
    assert [message.to for message in mail.outbox] == [["all@example.com"]]


def test_an_alert_of_a_rule_that_is_turned_off_is_resolved(waiting, later):
    waiting["ulb"] = 50.0
    later()
    AlertRule.objects.update(is_on=False)
    later()
    alert = Alert.objects.get()
    assert alert.state == State.RESOLVED
    assert alert.events.last().note == "The rule was turned off."


def test_an_alert_of_which_nothing_is_measured_any_more_stays_for_a_day(waiting, later):
    waiting["ulb"] = 50.0
    later()
    del waiting["ulb"]
    later(2 * HOUR)
    assert Alert.objects.get().is_open
    later(timedelta(days=1))
    assert not Alert.objects.get().is_open


def test_a_clock_that_jumps_ahead_and_back_stops_nothing(waiting, route, later):
    later()
    ahead = timezone.now() + timedelta(days=3)
    evaluating.evaluate(now=ahead)
    waiting["ulb"] = 50.0
    later()
    assert told() == ["[Fraudsite] Fired: Reviews wait too long (ulb)"]


def test_a_message_that_was_claimed_under_a_clock_ahead_is_sent_all_the_same(waiting, route, later):
    waiting["ulb"] = 50.0
    now = later()
    AlertMessage.objects.update(state="pending", due_at=now + timedelta(days=2))
    sending.send_due(now=now + MINUTE)
    assert len(told()) == 2


@pytest.mark.parametrize("hours", [-30, 30])
def test_on_postgresql_alerts_go_by_the_clock_of_the_database(waiting, monkeypatch, hours):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has the clock of its machine.")
    true = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: true + timedelta(hours=hours))
    assert abs(clock.now() - true) < MINUTE


def test_a_rule_that_cannot_be_judged_holds_no_other_up(waiting, route, later, monkeypatch, caplog):
    rule = AlertRule.objects.create(name="Broken", measure="disk_free", fires_at=0.9, clears_at=0.95)

    def read(*_):
        raise OSError("The disk is gone.")

    measure = evaluating.all_of_them()["disk_free"]
    broken = evaluating.all_of_them() | {"disk_free": type(measure)(**{**vars(measure), "read": read})}
    monkeypatch.setattr(evaluating, "all_of_them", lambda: broken)
    waiting["ulb"] = 50.0
    later()
    assert Alert.objects.filter(rule=rule).count() == 0
    assert told() == ["[Fraudsite] Fired: Reviews wait too long (ulb)"]
    assert "Broken was not judged: The disk is gone." in caplog.text


def test_the_tasks_judge_and_send(waiting, route, settings):
    waiting["ulb"] = 50.0
    evaluate_alerts()
    send_alerts()
    assert told() == ["[Fraudsite] Fired: Reviews wait too long (ulb)"]
    AlertSample.objects.update(minute=timezone.now() - timedelta(days=settings.COUNTS_RETENTION_DAYS + 1))
    delete_old_alert_rows()
    assert not AlertSample.objects.exists()
    assert Alert.objects.exists()


def test_what_was_told_is_not_told_again_when_its_message_is_deleted(waiting, route, later, settings):
    waiting["ulb"] = 50.0
    later()
    waiting["ulb"] = 1.0
    later(HOUR)
    assert len(told()) == 2
    AlertMessage.objects.update(finished_at=timezone.now() - timedelta(days=settings.COUNTS_RETENTION_DAYS + 1))
    delete_old_alert_rows()
    assert not AlertMessage.objects.exists()
    later(HOUR)
    assert len(told()) == 2
    assert not AlertNotice.objects.exists()


def test_a_mail_server_that_is_not_set_is_said_and_tried_again(waiting, route, later, settings):
    settings.EMAIL_BACKEND = sending.SMTP
    waiting["ulb"] = 50.0
    later()
    message = AlertMessage.objects.get()
    assert (message.state, message.attempts) == ("pending", 1)
    assert message.fault == "EMAIL_HOST is not set, so no e-mail can be sent."
    later(timedelta(hours=settings.ALERT_RETRY_H))
    assert AlertMessage.objects.order_by("created_at").first().state == "dead"


def test_the_command_judges_everything_and_prints_what_fires(waiting, capsys):
    waiting.update(ulb=50.0, handbook=3.0)
    call_command("check_alerts", no_color=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "FIRES Reviews wait too long; ulb; 50 h; beyond the level",
        "      Reviews wait too long; handbook; 3 h; calm",
        "2 looked at, 1 of them fires.",
    ]


def test_what_messages_tell_is_data(waiting, route, later):
    waiting["ulb"] = 50.0
    later()
    [line] = AlertMessage.objects.get().lines
    assert json.dumps(line)
    assert (line["event"], line["severity"], line["schema"], line["value"]) == ("fired", "warning", "ulb", "50 h")
