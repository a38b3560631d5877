"""The reasons and notes of decisions on alerts, and the list of reasons that the team edits."""

from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.urls import reverse

from scoring.models import Label, Review, ReviewReason
from scoring.reviews import labelling

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")
REASONS = reverse("admin:scoring_reviewreason_changelist")
NEW_REASON = reverse("admin:scoring_reviewreason_add")


def address_of(review):
    return reverse("admin:scoring_review_change", args=[review.pk])


def text(response):
    return unescape(response.content.decode())


def kept():
    return list(Label.objects.order_by("pk").values_list("is_fraud", "code", "reason"))


@pytest.fixture
def stolen():
    return ReviewReason.objects.create(code="stolen", meaning="The card was stolen", is_fraud=True)


@pytest.fixture
def at_work(client, alice):
    client.force_login(alice)
    return client


@pytest.fixture
def rita():
    """A risk manager."""
    user = User.objects.create_user("rita", is_staff=True)
    user.groups.add(Group.objects.get(name="Risk manager"))
    return user


def test_a_decision_keeps_its_reason_and_its_note_with_the_label(at_work, alert, stolen):
    review = alert(0.9)
    assert "The card was stolen" in text(at_work.get(address_of(review)))
    at_work.post(address_of(review), {"decide": "fraud", "code": "stolen", "note": " The holder called. "})
    assert kept() == [(True, "stolen", "The holder called.")]
    page = text(at_work.get(address_of(review)))
    assert "stolen: The holder called." in page
    found = text(at_work.get(reverse("admin:scoring_label_changelist"), {"code": "stolen"}))
    assert "1 label" in found


def test_a_decision_needs_no_reason_unless_the_team_wants_one(at_work, alert, stolen, settings):
    first, second = alert(0.9), alert(0.8)
    at_work.post(address_of(first), {"decide": "fraud"})
    settings.REVIEW_REASON_REQUIRED = True
    refused = at_work.post(address_of(second), {"decide": "fraud"}, follow=True)
    assert "Choose a reason from the list. Nothing was changed." in text(refused)
    assert refused.redirect_chain[-1][0] == address_of(second)
    assert kept() == [(True, "", "")]
    at_work.post(address_of(second), {"decide": "fraud", "code": "stolen"})
    assert kept()[1:] == [(True, "stolen", "")]


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ({"is_fraud": False}, {}),
        ({"is_active": False}, {}),
        ({}, {"code": "unknown"}),
        ({}, {"code": "\0"}),
        ({"needs_note": True}, {"note": " "}),
        ({}, {"note": "4111 1111 1111 1111"}),
        ({}, {"note": "x" * 1_001}),
    ],
    ids=["other label", "inactive", "unknown", "NUL", "no note", "card number", "long note"],
)
def test_a_reason_or_note_that_does_not_fit_changes_nothing(at_work, alert, stolen, change, sent):
    ReviewReason.objects.update(**change)
    review = alert(0.9)
    page = text(at_work.post(address_of(review), {"decide": "fraud", "code": "stolen"} | sent, follow=True))
    assert 'class="error"' in page
    assert kept() == []
    assert Review.objects.get().state == "open"


def test_many_alerts_are_decided_with_one_reason_and_a_refusal_asks_again(at_work, alert, stolen):
    ReviewReason.objects.update(needs_note=True)
    keys = [str(alert(score).pk) for score in (0.9, 0.8)]
    asked = {"action": "confirm_fraud", "_selected_action": keys}
    assert "The card was stolen" in text(at_work.post(QUEUE, asked))
    sent = asked | {"confirmed": "yes", "code": "stolen"}
    again = text(at_work.post(QUEUE, sent))
    assert "“The card was stolen” needs one" in again
    assert '<option value="stolen" data-for="fraud" data-needs-note selected>' in again
    assert kept() == []
    at_work.post(QUEUE, sent | {"note": "Both at one shop."})
    assert kept() == [(True, "stolen", "Both at one shop.")] * 2


def test_only_reasons_for_the_label_are_offered_for_many(at_work, alert, stolen):
    keys = [str(alert(0.9).pk)]
    page = text(at_work.post(QUEUE, {"action": "mark_legitimate", "_selected_action": keys}))
    assert "The card was stolen" not in page


def test_who_decides_second_has_the_note_kept_in_the_history(at_work, alert, mel):
    review = alert(0.9)
    labelling.close_review(review=review, is_fraud=False, reviewer=mel)
    at_work.post(address_of(review), {"decide": "fraud", "note": "The holder called."})
    assert kept() == [(False, "", "")]
    told = LogEntry.objects.get(object_id=str(review.pk)).get_change_message()
    assert told == "Labelled fraud: The holder called. (too late: it was closed already)"


def test_a_risk_manager_edits_the_list_of_reasons_but_not_the_code_that_labels_keep(client, rita):
    client.force_login(rita)
    made = {"code": "travel", "meaning": "The holder travels", "is_fraud": "False", "is_active": "on", "position": "1"}
    assert client.post(NEW_REASON, made).status_code == 302
    reason = ReviewReason.objects.get()
    assert (reason.code, reason.is_fraud, reason.is_active) == ("travel", False, True)
    page = reverse("admin:scoring_reviewreason_change", args=[reason.pk])
    client.post(page, made | {"code": "other", "meaning": "On a journey"})
    reason.refresh_from_db()
    assert (reason.code, reason.meaning) == ("travel", "On a journey")
    assert client.post(reverse("admin:scoring_reviewreason_delete", args=[reason.pk])).status_code == 403


@pytest.mark.parametrize("person", ["alice", "mel"])
def test_others_see_the_list_of_reasons_and_cannot_edit_it(client, person, request, stolen):
    client.force_login(request.getfixturevalue(person))
    assert client.get(REASONS).status_code == 200
    assert client.get(NEW_REASON).status_code == 403
