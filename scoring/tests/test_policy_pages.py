"""Policies and backtests in the admin: who may do what, drafting, two who edit at once, and the editor."""

import msgspec
import pytest
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload
from scoring.decisions import Decision
from scoring.lists import changes
from scoring.lists.changes import Addition
from scoring.models import Backtest, PolicyVersion, RuleCount
from scoring.policies import backtests, versions
from scoring.policies.document import Document, Rule, Segment, State
from scoring.policies.forms import PARTS
from scoring.tests.test_backtests import score

LARGE = Rule(name="large", when="Amount > 100", action=Decision.REVIEW, state=State.ACTIVE)
DOCUMENT = Document(
    block=0.9,
    rules=[LARGE],
    segments=[Segment(name="small", when="Amount < 5", review=0.8)],
    constants={"limit": 5.0, "home": "DE", "strict": True},
)


def address(name, *arguments):
    return reverse(f"admin:scoring_policyversion_{name}", args=arguments)


def filled(document, **changes):
    """What the form of a document sends."""
    sent = {"review": "", "block": "", "challenge": "", "appetite": document.appetite, "seed": "", "revision": "1"}
    for name in ("review", "block", "challenge"):
        sent[name] = "" if getattr(document, name) is None else str(getattr(document, name))
    rows = {
        "rules": [msgspec.to_builtins(rule) for rule in document.rules],
        "segments": [msgspec.to_builtins(part) | {"ORDER": index + 1} for index, part in enumerate(document.segments)],
        "constants": [{"name": name, "value": value} for name, value in document.constants.items()],
    }
    for name in PARTS:
        sent |= {f"{name}-TOTAL_FORMS": len(rows[name]), f"{name}-INITIAL_FORMS": 0}
        for index, row in enumerate(rows[name]):
            sent |= {f"{name}-{index}-{key}": "" if value is None else value for key, value in row.items()}
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in (sent | changes).items()}


@pytest.fixture
def draft(champion):
    return versions.draft(schema="ulb", by="rita")


@pytest.fixture
def editor(client, rita):
    client.force_login(rita)
    return client


def test_a_risk_manager_drafts_writes_and_makes_a_policy_live(editor, champion):
    response = editor.post(address("draft", "ulb"))
    version = PolicyVersion.objects.get()
    assert response.url == address("change", version.pk)
    page = editor.get(response.url)
    assert b"Save and make live" in page.content
    response = editor.post(response.url, filled(DOCUMENT, act="activate", reason="Too much fraud"), follow=True)
    assert "decides from now on" in response.content.decode()
    version.refresh_from_db()
    assert (version.state, versions.content(version)) == ("live", DOCUMENT)
    edited, activated = version.changes.order_by("pk")[1:]
    assert {(change.by, change.reason) for change in (edited, activated)} == {("rita", "Too much fraud")}


def test_a_policy_is_written_as_its_form_shows_it(editor, draft):
    versions.edit(draft, DOCUMENT, revision=1, by="rita")
    page = editor.get(address("change", draft.pk)).content.decode()
    for shown in ("Amount &gt; 100", 'value="0.9"', 'value="large"', 'value="DE"', 'value="true"', 'value="0.8"'):
        assert shown in page
    assert "rule large: when" in page  # beside what is live


def test_constants_are_saved_as_the_form_shows_them_to_the_last_digit_and_with_their_type(editor, draft):
    constants: dict[str, bool | float | str]
    constants = {"limit": 1234567.89, "tiny": 1e-7, "code": "5411", "word": "true", "name": "nan", "far": "1e999"}
    versions.edit(draft, Document(constants=constants), revision=1, by="rita")
    page = editor.get(address("change", draft.pk)).context["forms"]
    shown = {form["name"].value(): form["value"].value() for form in page.sets["constants"].initial_forms}
    editor.post(address("change", draft.pk), filled(Document(review=0.4, constants=shown), act="save", revision="2"))
    draft.refresh_from_db()
    assert versions.content(draft) == Document(review=0.4, constants=constants)


def test_a_reason_may_have_any_characters(editor, draft):
    editor.post(address("change", draft.pk), filled(DOCUMENT, act="save", reason="a\0b 😀"))
    assert draft.changes.latest("pk").reason == "ab 😀"


def test_two_constants_of_one_name_are_refused_and_none_is_lost(editor, draft):
    sent = filled(DOCUMENT, act="save") | {"constants-1-name": "limit"}
    assert "There are two of the name limit" in editor.post(address("change", draft.pk), sent).content.decode()
    draft.refresh_from_db()
    assert versions.content(draft) == Document()


def test_a_draft_with_faults_is_saved_shows_them_at_their_place_and_does_not_go_live(editor, draft):
    faulty = Document(rules=[LARGE, Rule(name="typo", when="amnt > 5", action=Decision.BLOCK, state=State.ACTIVE)])
    editor.post(address("change", draft.pk), filled(faulty, act="activate"))
    draft.refresh_from_db()
    assert (draft.state, versions.content(draft)) == ("draft", faulty)
    page = editor.get(address("change", draft.pk)).content.decode()
    assert "1 faults" in page or "There is no amnt. Did you mean Amount?" in page
    assert page.index("typo") < page.index("There is no amnt") < page.index("Segments")


def test_a_form_that_is_no_policy_keeps_what_was_written(editor, draft):
    page = editor.post(address("change", draft.pk), filled(DOCUMENT, act="save", review="much"))
    assert page.status_code == 200
    assert "Nothing was saved" in page.content.decode()
    assert "Amount &gt; 100" in page.content.decode()
    draft.refresh_from_db()
    assert versions.content(draft) == Document()


def test_the_second_of_two_who_save_at_once_sees_the_difference_and_loses_nothing(editor, draft):
    versions.edit(draft, Document(review=0.3), revision=1, by="ada")
    page = editor.post(address("change", draft.pk), filled(DOCUMENT, act="save"))
    text = page.content.decode()
    assert "Somebody else has saved" in text
    assert "rule large: when" in text
    assert 'name="revision" value="2"' in text
    draft.refresh_from_db()
    assert versions.content(draft) == Document(review=0.3)
    editor.post(address("change", draft.pk), filled(DOCUMENT, act="save", revision="2"))
    draft.refresh_from_db()
    assert versions.content(draft) == DOCUMENT


def test_a_removed_rule_is_gone_and_segments_keep_their_places(editor, draft):
    segments = [Segment(name="one", when="Amount < 5"), Segment(name="two", when="Amount < 9")]
    document = Document(rules=[LARGE], segments=segments)
    sent = filled(document, act="save") | {
        "rules-0-DELETE": "on", "rules-INITIAL_FORMS": 1, "segments-0-ORDER": 2, "segments-1-ORDER": 1,
    }  # fmt: skip
    versions.edit(draft, document, revision=1, by="rita")
    editor.post(address("change", draft.pk), sent | {"revision": "2"})
    draft.refresh_from_db()
    content = versions.content(draft)
    assert (content.rules, [part.name for part in content.segments]) == ([], ["two", "one"])


def test_where_approval_is_required_the_author_proposes_and_another_makes_it_live(editor, client, draft, ada, settings):
    settings.POLICY_APPROVAL_REQUIRED = True
    page = address("change", draft.pk)
    assert b"Save and make live" not in editor.get(page).content
    editor.post(page, filled(DOCUMENT, act="propose"))
    refused = editor.post(page, {"act": "activate"}, follow=True)
    assert "A second person has to approve" in refused.content.decode()
    client.force_login(ada)
    client.post(page, {"act": "activate", "reason": "Fine"})
    draft.refresh_from_db()
    assert draft.state == "live"


def test_a_rollback_is_one_click(editor, draft):
    versions.edit(draft, DOCUMENT, revision=1, by="rita")
    versions.activate(draft, by="rita")
    assert "Roll back to the model alone" in editor.get(address("change", draft.pk)).content.decode()
    answer = editor.post(address("change", draft.pk), {"act": "rollback", "reason": "Too strict"}, follow=True)
    assert "The model alone decides again" in answer.content.decode()
    assert versions.live("ulb") is None


@pytest.mark.parametrize(("who", "may"), [("alice", False), ("mel", False), ("rita", True), ("ada", True)])
def test_everybody_sees_policies_and_only_some_change_them(client, draft, request, who, may):
    client.force_login(request.getfixturevalue(who))
    page = client.get(address("change", draft.pk))
    assert page.status_code == 200
    assert (b'value="save"' in page.content) is may
    assert client.get(address("changelist")).status_code == 200
    assert client.post(address("change", draft.pk), filled(DOCUMENT, act="activate")).status_code == (
        302 if may else 403
    )
    assert client.post(address("draft", "ulb")).status_code == (302 if may else 403)
    draft.refresh_from_db()
    assert (draft.state == "live") is may


def test_a_page_of_a_policy_that_cannot_be_read_says_so(editor, draft):
    PolicyVersion.objects.update(document={"rulez": []})
    page = editor.get(address("change", draft.pk))
    assert page.status_code == 200
    assert "rulez" in page.content.decode()


@pytest.mark.parametrize("act", ["", "explode", "send_back"])
def test_an_action_that_is_not_there_changes_nothing(editor, draft, act):
    assert editor.post(address("change", draft.pk), {"act": act}).status_code == 302
    draft.refresh_from_db()
    assert draft.state == "draft"


def test_the_editor_is_told_the_faults_of_what_is_written(editor, draft):
    told = editor.post(address("check", draft.pk), {"expression": "Amount > 5 && amnt"}).json()
    assert told["faults"][0] | {"where": ""} == {
        "where": "", "message": "There is no amnt. Did you mean Amount?", "line": 1, "column": 15,
    }  # fmt: skip
    assert editor.post(address("check", draft.pk), {"expression": "Amount > 5"}).json() == {"faults": []}


def test_the_editor_shows_the_latest_transactions_that_match(editor, draft, acme):
    keys = score(acme, *[seed_payload(Amount=amount) for amount in (10.0, 150.0, 200.0)])
    page = editor.post(address("matches", draft.pk), {"expression": "Amount > 100"}).content.decode()
    assert "2 of the latest 3 transactions match" in page
    assert keys[1] in page
    assert keys[0] not in page
    assert "There is no amnt" in editor.post(address("matches", draft.pk), {"expression": "amnt > 1"}).content.decode()


def test_nobody_learns_a_personal_value_from_what_matches_without_the_permission(client, mel, db):
    draft = versions.draft(schema="payments", by="rita")
    client.force_login(mel)
    for source in ('email == "x"', "has_email"):
        page = client.post(address("matches", draft.pk), {"expression": source}).content.decode()
        assert "personal values, which you may not see" in page


def test_the_page_of_a_backtest_shows_its_progress_then_its_result(editor, draft, acme):
    keys = score(acme, seed_payload(Amount=500.0), seed_payload())
    versions.edit(draft, DOCUMENT, revision=1, by="rita")
    response = editor.post(address("change", draft.pk), filled(DOCUMENT, act="backtest", revision="2"))
    backtest = Backtest.objects.get()
    assert response.url == reverse("admin:scoring_backtest_change", args=[backtest.pk])
    assert "Waits for a worker" in editor.get(response.url).content.decode()
    assert editor.get(reverse("admin:scoring_backtest_progress", args=[backtest.pk])).json()["active"] is True
    backtests.perform(backtest.pk)
    page = editor.get(response.url).content.decode()
    assert "2 transactions" in page
    assert keys[0] in page
    assert editor.get(reverse("admin:scoring_backtest_progress", args=[backtest.pk])).json()["active"] is False


def test_the_page_of_a_rule_tells_its_changes_across_versions_and_what_it_matched(client, mel, champion):
    first = versions.draft(schema="ulb", by="rita", content=Document(rules=[LARGE]))
    versions.activate(first, by="rita", reason="Try it")
    second = versions.draft(schema="ulb", by="ada")
    others = Rule(name="other", when="Amount > 1", action=Decision.REVIEW)
    versions.edit(second, Document(rules=[LARGE, others]), revision=1, by="ada", reason="Another rule")
    versions.edit(
        second,
        Document(rules=[msgspec.structs.replace(LARGE, state=State.RETIRED)]),
        revision=2,
        by="ada",
        reason="Old",
    )
    versions.activate(second, by="rita")
    minute = timezone.now()
    for version, matched in ((first, 30), (second, 12)):
        counts = {"decided": 100, "absent": 0, "failed": 0, "matched": matched}
        RuleCount.objects.create(minute=minute, policy=version, rule="large", **counts)
    client.force_login(mel)
    page = client.get(address("rule", "ulb", "large")).content.decode()
    assert '<span class="policy-state retired">retired</span>' in page
    assert "</svg> 42</td>" in page
    assert "Another rule" not in page
    told = [text for text in ("by rita", "Try it", "by ada", ": Old", "<del>active</del>") if text in page]
    assert told == ["by rita", "Try it", "by ada", ": Old", "<del>active</del>"]
    assert page.count("<b>Made live</b>") == 2
    assert client.get(address("rule", "nope", "large")).status_code == 403


def test_a_backtest_is_started_with_a_period_lists_and_groups_of_choice(editor, draft, acme):
    score(acme, seed_payload(Amount=777.5), seed_payload())
    row = changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="rita", is_draft=True)
    changes.add_one(row, Addition("777.5"), by="rita")
    page = reverse("admin:scoring_backtest_start", args=[draft.pk])
    assert "amounts" in editor.get(page).content.decode()
    today = timezone.now().date().isoformat()
    sent = {"since": today, "until": "9999-12-31", "lists": "now", "drafts": [row.pk], "by_expression": "Amount > 500"}
    assert "There is no Amout" in editor.post(page, sent | {"by_expression": "Amout"}).content.decode()
    response = editor.post(page, sent)
    backtests.perform(Backtest.objects.get().pk)
    shown = editor.get(response.url).content.decode()
    assert "as they are now, with the drafts amounts" in shown
    assert "on_amounts" in shown
    assert '<th scope="row">True</th>' in shown


def test_a_backtest_is_cancelled_on_its_page(editor, draft):
    editor.post(address("change", draft.pk), filled(DOCUMENT, act="backtest"))
    backtest = Backtest.objects.get()
    editor.post(reverse("admin:scoring_backtest_change", args=[backtest.pk]))
    backtest.refresh_from_db()
    assert backtest.state == "cancelled"


def test_reviews_and_predictions_tell_what_decided(client, alice, champion, acme):
    shadow = Rule(name="watched", when="Amount > 1", action=Decision.BLOCK, state=State.SHADOW)
    version = versions.draft(schema="ulb", by="rita", content=Document(rules=[LARGE, shadow]))
    versions.activate(version, by="rita")
    [key] = score(acme, fraudulent_payload(Amount=500.0))
    client.force_login(alice)
    for page in ("review", "prediction"):
        text = client.get(reverse(f"admin:scoring_{page}_change", args=[key])).content.decode()
        assert "By rules of" in text
        assert "ulb policy 1" in text
        assert "Amount 500" in text
        assert "a shadow rule, without effect" in text
    assert (
        '<span class="tag" title="A rule">large</span>'
        in client.get(reverse("admin:scoring_review_changelist")).content.decode()
    )


@pytest.mark.django_db(transaction=True)
def test_the_editor_completes_names_and_shows_faults_by_the_keyboard_alone(browser, rita, draft, site):
    page = browser.new_page()
    page.goto(f"{site}{reverse('admin:login')}")
    page.fill("#id_username", "rita")
    page.fill("#id_password", "rita-password")
    page.press("#id_password", "Enter")
    page.goto(f"{site}{address('change', draft.pk)}")
    page.fill("#id_rules-0-name", "large")
    area = page.locator("#id_rules-0-when")
    area.press_sequentially("Amou")
    page.wait_for_selector(".names:not([hidden])")
    area.press("Enter")
    area.press_sequentially(" >")
    page.get_by_text("The expression ends too early.").wait_for()
    area.press_sequentially(" 100")
    page.wait_for_selector("#id_rules-0-when[aria-invalid=false]")
    assert area.input_value() == "Amount > 100"
    area.press("Tab")  # the button that shows what matches
    page.keyboard.press("Enter")
    page.get_by_text("transactions match").wait_for()
