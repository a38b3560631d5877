"""The pages of alerts: what fires, acknowledging, silencing, rules with their preview, routes with a test."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from monitoring.alerts import runbooks
from monitoring.alerts.measures import all_of_them
from monitoring.alerts.measures.base import Subject, start_of
from monitoring.alerts.models import Alert, AlertRoute, AlertRule, AlertSample, AlertSilence
from scoring.tests.receivers import receiving
from scoring.webhooks import sealing

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
LIST = reverse("admin:monitoring_alert_changelist")


@pytest.fixture
def alert():
    rule, now = AlertRule.objects.get(key="review_age"), timezone.now()
    AlertSample.objects.bulk_create(
        AlertSample(
            measure="review_age",
            subject=Subject("ulb").key,
            minute=start_of(now - minutes * MINUTE, MINUTE),
            value=60.0 if minutes < 90 else 3.0,
        )
        for minutes in range(180)
    )
    return Alert.objects.create(
        rule=rule,
        subject=Subject("ulb").key,
        schema="ulb",
        severity="warning",
        began_at=now - 90 * MINUTE,
        fired_at=now - 80 * MINUTE,
        fired_value=60.0,
        value=60.0,
        shown="60 h",
        judged_at=now,
    )


def page_of(alert):
    return reverse("admin:monitoring_alert_change", args=[alert.pk])


def text(response):
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def act(client, alert, name, **values):
    return client.post(reverse(f"admin:monitoring_alert_{name}", args=[alert.pk]), values, follow=True)


def test_the_list_shows_what_is_open_and_on_request_the_rest(client, otto, alert):
    client.force_login(otto)
    assert "60 h" in text(client.get(LIST))
    Alert.objects.update(state="resolved", resolved_at=timezone.now())
    assert "60 h" not in text(client.get(LIST))
    assert "60 h" in text(client.get(LIST, {"state": "resolved"}))


def test_the_page_has_the_plot_with_its_level_and_where_it_fired_the_runbook_and_the_page_it_is_about(
    client, otto, alert
):
    client.force_login(otto)
    page = text(client.get(page_of(alert)))
    assert 'class="line"' in page
    assert "fires at 48 h" in page
    assert ">fired</text>" in page
    assert "An alert has waited for an analyst longer than the level." in page
    assert reverse("admin:scoring_review_changelist") in page


def test_an_operator_acknowledges_with_a_note_that_colleagues_read(client, otto, alert):
    client.force_login(otto)
    assert "Write a note for colleagues." in text(act(client, alert, "acknowledge", note=""))
    page = text(act(client, alert, "acknowledge", note="Two analysts are ill."))
    assert "Two analysts are ill." in page
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "otto")
    assert "Two analysts are ill." in LogEntry.objects.get().get_change_message()
    assert "acknowledged or resolved meanwhile" in text(act(client, alert, "acknowledge", note="Again."))


def test_a_silence_is_of_the_rule_and_its_schema_for_the_chosen_time(client, otto, alert):
    client.force_login(otto)
    page = text(act(client, alert, "silence", note="Known.", hours="24"))
    silence = AlertSilence.objects.get()
    assert (silence.rule, silence.schema, silence.by) == (alert.rule, "ulb", "otto")
    assert silence.ends_at - silence.starts_at == timedelta(hours=24)
    assert "Silenced until" in page


def test_an_alert_can_be_resolved_by_hand(client, otto, alert):
    client.force_login(otto)
    act(client, alert, "resolve", note="It was a drill.")
    alert.refresh_from_db()
    assert alert.state == "resolved"
    assert "resolved meanwhile" in text(act(client, alert, "resolve", note="Again."))


@pytest.mark.parametrize("person", ["alice", "audrey"])
def test_who_only_reads_sees_alerts_and_acts_on_none(client, request, alert, person):
    client.force_login(request.getfixturevalue(person))
    page = text(client.get(page_of(alert)))
    assert "Acknowledge</button>" not in page
    for name in ("acknowledge", "silence", "resolve"):
        assert act(client, alert, name, note="No.").status_code == 403
    assert not AlertSilence.objects.exists()


def rule_form(rule, **changes):
    names = ("name", "measure", "severity", "schema", "fires_at", "clears_at", "lasts_min", "calm_min", "min_samples")
    values = {name: getattr(rule, name) for name in (*names, "least_ratio", "no_data")}
    return values | {"is_on": "on", "client": "", "rule": rule.pk} | changes


def test_the_page_of_a_rule_tells_how_often_it_would_have_fired(client, otto, alert):
    client.force_login(otto)
    page = text(client.get(reverse("admin:monitoring_alertrule_change", args=[alert.rule.pk])))
    assert "Would have fired once in the last 14 days" in page
    assert 'class="open-alert"' in page


def test_another_level_is_tried_without_saving_it(client, otto, alert):
    client.force_login(otto)
    preview = reverse("admin:monitoring_alertrule_preview")
    page = text(client.post(preview, rule_form(alert.rule, fires_at="99", clears_at="50")))
    assert "Would never have fired in the last 14 days" in page
    alert.rule.refresh_from_db()
    assert alert.rule.fires_at == 48.0
    client.post(
        reverse("admin:monitoring_alertrule_change", args=[alert.rule.pk]),
        rule_form(alert.rule, fires_at="99", clears_at="50"),
    )
    alert.rule.refresh_from_db()
    assert alert.rule.fires_at == 99.0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"clears_at": "60"}, "It must not be above the level at which the alert fires."),
        ({"fires_at": "nan"}, "Enter a number."),
        ({"measure": "nothing"}, "Select a valid choice."),
        ({"lasts_min": "20000"}, "At most a week."),
        ({"least_ratio": "0.5"}, "At least 1."),
        ({"measure": "workers", "schema": "ulb", "fires_at": "0", "clears_at": "1"}, "all schemas together"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_remedy(client, otto, alert, changes, fault):
    client.force_login(otto)
    form = rule_form(alert.rule, **changes)
    assert fault in text(client.post(reverse("admin:monitoring_alertrule_change", args=[alert.rule.pk]), form))
    refused = client.post(reverse("admin:monitoring_alertrule_preview"), form, follow=True)
    assert fault in text(refused)


def test_a_rule_of_every_installation_is_turned_off_and_not_deleted(client, admin_user):
    client.force_login(admin_user)
    rule = AlertRule.objects.get(key="disk_free")
    assert client.get(reverse("admin:monitoring_alertrule_delete", args=[rule.pk])).status_code == 403
    own = AlertRule.objects.create(name="Own", measure="disk_free", fires_at=0.2, clears_at=0.3)
    client.post(reverse("admin:monitoring_alertrule_delete", args=[own.pk]), {"post": "yes"})
    assert not AlertRule.objects.filter(pk=own.pk).exists()


def add_route(client, **values):
    form = {"name": "On call", "severity": "warning", "is_on": "on"} | values
    return client.post(reverse("admin:monitoring_alertroute_add"), form, follow=True)


def test_a_webhook_route_shows_its_secret_once_and_signs_with_it(client, otto):
    client.force_login(otto)
    page = text(add_route(client, kind="webhook", address="https://example.com/hook"))
    route = AlertRoute.objects.get()
    secret = sealing.unseal(route.secret)
    assert secret in page
    assert secret not in route.secret
    assert secret not in text(client.get(reverse("admin:monitoring_alertroute_change", args=[route.pk])))
    rotated = text(client.post(reverse("admin:monitoring_alertroute_rotate", args=[route.pk])))
    route.refresh_from_db()
    assert sealing.unseal(route.secret) in rotated
    assert sealing.unseal(route.secret) != secret


@pytest.mark.parametrize(
    ("kind", "address", "fault"),
    [
        ("email", "nobody", "Enter a valid email address."),
        ("email", " , ", "Enter an e-mail address."),
        ("webhook", "http://example.com/hook", "must begin with https://"),
        ("chat", "https://169.254.169.254/latest", "not public"),
    ],
)
def test_an_address_that_cannot_be_is_refused(client, otto, kind, address, fault):
    client.force_login(otto)
    assert fault in text(add_route(client, kind=kind, address=address))
    assert not AlertRoute.objects.exists()


def test_a_test_is_sent_at_once_and_its_fault_shown(client, otto, settings):
    settings.WEBHOOK_PRIVATE_TARGETS = True
    client.force_login(otto)
    add_route(client, kind="email", address="ops@example.com")
    route = AlertRoute.objects.get()
    test = reverse("admin:monitoring_alertroute_test", args=[route.pk])
    assert "The test arrived." in text(client.post(test, follow=True))
    assert mail.outbox[-1].to == ["ops@example.com"]
    with receiving(lambda _: (500, {})) as receiver:
        AlertRoute.objects.update(kind="chat", address=receiver.url)
        assert "The test did not arrive: The receiver answered 500" in text(client.post(test, follow=True))


def test_only_who_may_change_a_route_sees_the_address_of_its_chat(client, audrey, otto):
    route = AlertRoute.objects.create(name="Chat", kind="chat", address="https://chat.example.com/services/T0/secret")
    page = reverse("admin:monitoring_alertroute_change", args=[route.pk])
    client.force_login(audrey)
    assert "T0/secret" not in text(client.get(page)) + text(
        client.get(reverse("admin:monitoring_alertroute_changelist"))
    )
    client.force_login(otto)
    assert "T0/secret" in text(client.get(page))


def test_every_measure_has_a_section_of_the_runbook_and_no_section_is_of_none(client, alice):
    assert runbooks.sections().keys() == all_of_them().keys()
    for measure, section in runbooks.sections().items():
        assert [part for part in ("What it means", "Look first", "What to do") if part not in section] == [], measure
    client.force_login(alice)
    page = text(client.get(reverse("runbooks")))
    assert 'id="client_silence"' in page
    assert "<script" not in runbooks.shown("<script>alert(1)</script>")


def test_a_silence_made_by_hand_names_who_made_it(client, otto):
    client.force_login(otto)
    now = timezone.now()
    form = {"note": "Christmas", "rule": "", "schema": "", "client": ""}
    times = {
        f"{name}_{part}": moment.strftime("%Y-%m-%d" if part == 0 else "%H:%M:%S")
        for name, moment in (("starts_at", now), ("ends_at", now - MINUTE))
        for part in (0, 1)
    }
    add = reverse("admin:monitoring_alertsilence_add")
    assert "It ends before it begins." in text(client.post(add, form | times))
    times["ends_at_0"] = (now + timedelta(days=1)).strftime("%Y-%m-%d")
    client.post(add, form | times)
    assert AlertSilence.objects.get().by == "otto"
