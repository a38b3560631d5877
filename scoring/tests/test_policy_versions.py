"""A policy from a draft to the decisions of a running worker, and back."""

import json
import time
from io import StringIO

import msgspec
import pytest
from django.core.management import CommandError, call_command

from fraudsite.testing import fraudulent_payload, seed_payload
from scoring.decisions import Decision
from scoring.models import PolicyChange, PolicyVersion, Prediction, Review
from scoring.policies import versions
from scoring.policies.document import Document, Rule, State
from scoring.tests.test_async import await_result
from scoring.worker import policies, predictor

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


def wait(settings):
    time.sleep(settings.MODEL_REFRESH_S + 0.2)


def test_a_running_worker_decides_by_a_policy_soon_after_it_goes_live_and_not_after_a_rollback(
    worker, acme_api, post, run, settings
):
    assert "decides from now on" in run("activate", LARGE, reason="A test.")
    wait(settings)
    answer = post(seed_payload(Amount=500.0, transaction_id="large")).json()
    told = {
        name: answer[name] for name in ("decision", "alert", "policy_version", "basis", "rules", "lists", "degraded")
    }
    assert told == {
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
    wait(settings)
    answer = post(seed_payload(Amount=500.0)).json()
    assert (answer["decision"], answer["policy_version"], answer["basis"]) == ("approve", None, "score")


def test_a_challenge_is_answered_and_is_no_alert(worker, post, run, settings):
    run("activate", rules(("step_up", "Amount > 100", Decision.CHALLENGE)))
    wait(settings)
    answer = post(seed_payload(Amount=500.0)).json()
    assert (answer["decision"], answer["alert"]) == ("challenge", False)
    assert not Review.objects.exists()


def test_a_rule_that_cannot_be_calculated_leaves_the_decision_to_the_score_and_says_so(worker, post, run, settings):
    when = "1 / (event_time.getDate() - event_time.getDate() + (Amount > 100 ? 0 : 1)) > 5"
    run("activate", rules(("faulty", when, Decision.BLOCK)))
    wait(settings)
    answer = post(fraudulent_payload(Amount=500.0)).json()
    assert (answer["basis"], answer["degraded"]) == ("score", "rule")
    assert answer["alert"]
    assert post(seed_payload()).json()["degraded"] is None


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
