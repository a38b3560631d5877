"""A policy from a draft to the decisions of a running worker, and back."""

import json
import time
from datetime import timedelta
from io import StringIO

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload, soon, submission
from scoring.decisions import Decision
from scoring.lists import changes
from scoring.lists.changes import Addition
from scoring.models import (
    Client,
    PolicyChange,
    PolicyList,
    PolicyVersion,
    Prediction,
    RefusalCount,
    RefusalOfClientCount,
    Review,
    RuleCount,
    RuleOfClientCount,
)
from scoring.policies import versions
from scoring.policies.document import Document, Rule, State
from scoring.retention import counts as old_counts
from scoring.tests.test_async import await_result
from scoring.worker import batches, policies, predictor, rule_counts

ACTIVE = State.ACTIVE


@pytest.fixture
def run(tmp_path):
    """Run `manage.py policy`, with a document as its file."""

    def call(action, document=None, **options):
        out = StringIO()
        arguments = [action]
        if document is not None:
            path = tmp_path / "policy.json"
            path.write_bytes(document if isinstance(document, bytes) else msgspec.json.encode(document))
            arguments.append(str(path))
        call_command("policy", *arguments, stdout=out, **options)
        return out.getvalue()

    return call


def rules(*written):
    return Document(rules=[Rule(name=name, when=when, action=action, state=ACTIVE) for name, when, action in written])


LARGE = rules(("large", "Amount > 100", Decision.BLOCK))


def is_by(version):
    return lambda answer: answer["policy_version"] == version


@pytest.fixture
def follower(worker, post):
    """The running worker, which has let go of the test's policies at its end: tests of others share it."""
    yield worker
    if versions.live("ulb"):
        versions.roll_back(schema="ulb", by="ada")
    soon(lambda: post(seed_payload()).json(), is_by(None))


def test_a_running_worker_decides_by_a_policy_soon_after_it_goes_live_and_not_after_a_rollback(
    follower, acme_api, post, run
):
    assert "decides from now on" in run("activate", LARGE, reason="A test.")
    soon(lambda: post(seed_payload()).json(), is_by(1))
    answer = post(seed_payload(Amount=500.0, transaction_id="large")).json()
    parts = ("decision", "alert", "policy_version", "basis", "rules", "lists", "degraded")
    assert {name: answer[name] for name in parts} == {
        "decision": "block", "alert": True, "policy_version": 1, "basis": "rule", "rules": ["large"], "lists": [],
        "degraded": None,
    }  # fmt: skip
    stored = Prediction.objects.get(pk=answer["id"])
    assert stored.policy == PolicyVersion.objects.get()
    assert stored.evidence["rules"] == [
        {"rule": "large", "action": "block", "state": "active", "values": {"Amount": 500.0}}
    ]
    assert Review.objects.get().pk == stored.pk
    assert (
        post(seed_payload(Amount=500.0, transaction_id="large")).content
        == json.dumps(answer, separators=(",", ":")).encode()
    )
    later = await_result(acme_api, post(seed_payload(Amount=500.0), Prefer="respond-async")["Location"]).json()
    assert (later["decision"], later["rules"]) == ("block", ["large"])
    assert post(seed_payload()).json()["decision"] == "approve"
    assert "No policy" in run("rollback")
    answer = soon(lambda: post(seed_payload(Amount=500.0)).json(), is_by(None))
    assert (answer["decision"], answer["policy_version"], answer["basis"]) == ("approve", None, "score")


def test_a_challenge_is_answered_and_is_no_alert(follower, post, run):
    run("activate", rules(("step_up", "Amount > 100", Decision.CHALLENGE)))
    answer = soon(lambda: post(seed_payload(Amount=500.0)).json(), lambda answer: answer["rules"] == ["step_up"])
    assert (answer["decision"], answer["alert"]) == ("challenge", False)
    assert not Review.objects.filter(pk=answer["id"]).exists()


def test_a_rule_that_cannot_be_calculated_leaves_the_decision_to_the_score_and_says_so(follower, post, run):
    when = "1 / (event_time.getDate() - event_time.getDate() + (Amount > 100 ? 0 : 1)) > 5"
    run("activate", rules(("faulty", when, Decision.BLOCK)))
    answer = soon(lambda: post(fraudulent_payload(Amount=500.0)).json(), lambda answer: answer["degraded"] == "rule")
    assert (answer["basis"], answer["degraded"], answer["alert"]) == ("score", "rule", True)
    assert post(seed_payload()).json()["degraded"] is None


def test_lists_that_cannot_be_read_leave_the_decision_to_the_rest_and_answers_say_so(follower, post):
    amounts = changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada")
    corrupt = changes.add_one(amounts, Addition("many"), by="ada")
    changes.add_one(amounts, Addition("777.5"), by="ada")
    gone = PolicyList.objects.create(schema="ulb", name="gone", about="colour", action="block", author="ada")
    answer = soon(lambda: post(seed_payload(Amount=777.5)).json(), lambda answer: answer["lists"] == ["amounts"])
    assert (answer["decision"], answer["basis"], answer["degraded"]) == ("block", "list", "list")
    answer = post(seed_payload()).json()
    assert (answer["decision"], answer["basis"], answer["degraded"]) == ("approve", "score", "list")
    changes.take_off(amounts, [corrupt.pk], by="ada")
    changes.remove(gone)
    changes.remove(amounts)
    assert soon(lambda: post(seed_payload()).json(), lambda answer: not answer["degraded"])["degraded"] is None


def test_a_policy_whose_model_is_gone_leaves_the_decision_to_lists_and_the_amount_and_says_so(
    follower, champion, post, run, settings
):
    settings.FALLBACK_POLICY = "rules"
    amounts = changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada")
    changes.add_one(amounts, Addition("12.5"), by="ada")
    run("activate", LARGE)
    soon(lambda: post(seed_payload()).json(), is_by(1))
    type(champion).objects.filter(pk=champion.pk).update(stage="retired")
    answer = soon(lambda: post(seed_payload(Amount=50.0)).json(), lambda answer: answer["degraded"] == "worker")
    assert (answer["decision"], answer["basis"], answer["degraded"]) == ("approve", "fallback", "worker")
    answer = post(seed_payload(Amount=12.5)).json()
    assert (answer["decision"], answer["basis"], answer["degraded"]) == ("block", "list", "worker")
    type(champion).objects.filter(pk=champion.pk).update(stage="champion")
    answer = soon(lambda: post(seed_payload(Amount=500.0)).json(), is_by(1))
    assert (answer["rules"], answer["degraded"]) == (["large"], None)
    changes.remove(amounts)


@pytest.mark.django_db
def test_a_live_policy_that_cannot_be_read_leaves_the_policy_before_it_in_force(champion, caplog):
    version = versions.draft(schema="ulb", by="ada", content=LARGE)
    versions.activate(version, by="ada")
    before = policies.current(champion, None)
    broken = PolicyVersion.objects.create(schema="ulb", number=2, document={"rule": 1}, based_on=version)
    PolicyVersion.objects.filter(pk=version.pk).update(state="retired")
    PolicyVersion.objects.filter(pk=broken.pk).update(state="live")
    degraded = policies.current(champion, before)
    assert (degraded.document, degraded.number, degraded.degraded) == (LARGE, 1, "policy")
    assert policies.current(champion, degraded) is degraded
    alone = policies.current(champion, None)
    assert (alone.document, alone.degraded) == (Document(), "policy")
    assert caplog.text.count("is refused") == 1


@pytest.mark.django_db
def test_what_rules_matched_is_counted_by_minute_and_shown_on_the_page(champion, acme, client, rita, monkeypatch):
    monkeypatch.setattr(predictor, "_loaded", {})
    document = rules(
        ("large", "Amount > 100", Decision.REVIEW), ("faulty", "1 / (Amount > 0 ? 0 : 1) > 0", Decision.BLOCK)
    )
    version = versions.draft(schema="ulb", by="ada", content=document)
    PolicyVersion.objects.filter(pk=version.pk).update(state="live")  # the check would find the fault
    loaded = predictor.refresh("ulb")
    globex = Client.objects.create(name="Globex")
    for sender, amounts in ((acme, [10.0, 150.0]), (globex, [200.0])):
        batch = [submission(sender.pk, seed_payload(Amount=amount)) for amount in amounts]
        batches.score_batch(submissions=batch, predictor=loaded, started_at=time.time())
        rule_counts.flush(loaded.policy)
    counted = RuleCount.objects.values("rule").annotate(
        of=Sum("decided"), matched=Sum("matched"), failed=Sum("failed")
    ).order_by("rule").values_list("rule", "of", "matched", "failed")  # fmt: skip
    assert list(counted) == [("faulty", 3, 0, 3), ("large", 3, 2, 0)]
    of_clients = RuleOfClientCount.objects.values_list("client", "rule", "decided", "matched", "failed")
    assert set(of_clients) == {
        *((acme.pk, "", 2, 0, 0), (acme.pk, "faulty", 0, 0, 2), (acme.pk, "large", 0, 1, 0)),
        *((globex.pk, "", 1, 0, 0), (globex.pk, "faulty", 0, 0, 1), (globex.pk, "large", 0, 1, 0)),
    }
    client.force_login(rita)
    page = client.get(reverse("admin:scoring_policyversion_change", args=[version.pk])).content.decode()
    assert "What its rules matched in the last 24 hours" in page


@pytest.mark.django_db
def test_the_page_of_a_policy_reads_counts_of_rules_and_no_evidence_of_transactions(champion, client, rita):
    version = versions.draft(schema="ulb", by="rita", content=LARGE)
    versions.activate(version, by="rita")
    minute = timezone.now().replace(second=0, microsecond=0)
    RuleCount.objects.create(
        minute=minute, policy=version, rule="large", decided=90_000, matched=10_000, absent=0, failed=0
    )
    client.force_login(rita)
    with CaptureQueriesContext(connection) as captured:
        page = client.get(reverse("admin:scoring_policyversion_change", args=[version.pk])).content.decode()
    assert "<td>10000</td>" in page
    assert not [query["sql"] for query in captured if '"evidence"' in query["sql"]]


@pytest.mark.django_db
def test_old_counts_are_deleted_in_steps_and_newer_ones_kept(champion, settings, monkeypatch):
    monkeypatch.setattr(old_counts, "STEP", 2)
    settings.COUNTS_RETENTION_DAYS = 30
    version = versions.draft(schema="ulb", by="ada")
    for days in (29, 31, 32, 33):
        minute = timezone.now() - timedelta(days=days)
        counts = dict.fromkeys(("decided", "matched", "absent", "failed"), 1)
        RuleCount.objects.create(minute=minute, policy=version, rule="large", **counts)
        RuleOfClientCount.objects.create(minute=minute, client=1, policy=version, rule="large", **counts)
        RefusalCount.objects.create(minute=minute, status=400, kind="Invalid", count=1)
        RefusalOfClientCount.objects.create(minute=minute, client=1, status=400, kind="Invalid", count=1)
    old_counts.delete_old_counts()
    kinds = (RuleCount, RuleOfClientCount, RefusalCount, RefusalOfClientCount)
    assert [kind.objects.count() for kind in kinds] == [1, 1, 1, 1]


@pytest.mark.django_db
def test_thresholds_of_the_model_move_with_the_model(champion, monkeypatch):
    monkeypatch.setattr(predictor, "_loaded", {})
    versions.activate(versions.draft(schema="ulb", by="ada", content=LARGE), by="ada")
    assert predictor.refresh("ulb").policy.thresholds.review == champion.review_threshold
    type(champion).objects.update(review_threshold=0.01)
    policy = predictor.refresh("ulb").policy
    assert (policy.thresholds.review, policy.document) == (0.01, LARGE)


@pytest.mark.django_db
class TestVersions:
    def test_a_policy_with_faults_does_not_go_live_and_leaves_no_draft(self, run):
        with pytest.raises(CommandError, match=r"rules.0.when line 1, column 1: There is no amnt") as refusal:
            run("activate", rules(("a", "amnt > 5", Decision.BLOCK), ("b", "Amount", Decision.BLOCK)))
        assert "rules.1.when line 1, column 1: The expression is a number" in str(refusal.value)
        assert not PolicyVersion.objects.exists()

    @pytest.mark.parametrize(("text", "told"), [(b"{", "not JSON"), (b'{"rulez": []}', "rulez")])
    def test_a_file_that_is_no_policy_is_refused(self, run, text, told):
        with pytest.raises(CommandError, match=told):
            run("check", text)

    def test_a_live_policy_is_shown_as_its_file(self, run):
        run("activate", LARGE)
        assert msgspec.json.decode(run("show"), type=Document) == LARGE

    def test_the_second_of_two_who_edit_at_once_is_told(self):
        version = versions.draft(schema="ulb", by="ada")
        versions.edit(version, LARGE, revision=1, by="ada")
        with pytest.raises(versions.EditedMeanwhile):
            versions.edit(version, Document(), revision=1, by="mel")
        version.refresh_from_db()
        assert versions.content(version) == LARGE

    def test_a_draft_of_a_policy_that_is_live_no_more_does_not_go_live(self):
        one, other = (versions.draft(schema="ulb", by="ada", content=LARGE) for _ in range(2))
        versions.activate(one, by="ada")
        with pytest.raises(versions.EditedMeanwhile, match="ulb policy 1 is live now"):
            versions.activate(other, by="ada")
        assert versions.live("ulb") == one

    def test_a_policy_that_was_live_is_not_edited(self):
        version = versions.draft(schema="ulb", by="ada", content=LARGE)
        versions.activate(version, by="ada")
        with pytest.raises(versions.WrongState, match="is live"):
            versions.edit(version, Document(), revision=1, by="ada")

    def test_a_second_person_approves_where_the_setting_asks_for_it(self, settings):
        settings.POLICY_APPROVAL_REQUIRED = True
        version = versions.draft(schema="ulb", by="ada", content=LARGE)
        with pytest.raises(versions.NeedsApproval):
            versions.activate(version, by="mel")
        versions.propose(version, by="ada")
        with pytest.raises(versions.NeedsApproval):
            versions.activate(version, by="ada")
        versions.activate(version, by="mel", reason="Looks right.")
        actions = list(PolicyChange.objects.filter(version=version).order_by("pk").values_list("action", "by"))
        assert actions == [("draft", "ada"), ("propose", "ada"), ("approve", "mel"), ("activate", "mel")]

    def test_a_rollback_brings_back_the_policy_before_with_its_thresholds(self):
        first = versions.draft(schema="ulb", by="ada", content=Document(review=0.3))
        versions.activate(first, by="ada")
        second = versions.draft(schema="ulb", by="ada", content=Document(review=0.7))
        versions.activate(second, by="ada")
        assert versions.roll_back(schema="ulb", by="mel", reason="Too few alerts.") == first
        assert versions.content(versions.live("ulb")).review == 0.3
        assert versions.roll_back(schema="ulb", by="mel") is None
        with pytest.raises(versions.WrongState, match="no live policy"):
            versions.roll_back(schema="ulb", by="mel")

    def test_a_proposed_policy_is_sent_back_or_discarded(self):
        version = versions.draft(schema="ulb", by="ada", content=LARGE)
        versions.propose(version, by="ada")
        with pytest.raises(versions.WrongState):
            versions.edit(version, Document(), revision=1, by="ada")
        versions.send_back(version, by="mel", reason="Why 100?")
        versions.edit(version, Document(), revision=1, by="ada")
        versions.discard(version, by="ada")
        with pytest.raises(versions.WrongState, match="discarded"):
            versions.activate(version, by="ada")
