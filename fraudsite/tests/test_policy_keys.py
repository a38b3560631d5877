"""Policies, backtests and lists by keyboard alone, in a real browser: what has the focus is always to be seen."""

import httpx
import pytest
from django.urls import reverse
from playwright.sync_api import expect

from fraudsite.testing import fraudulent_payload
from fraudsite.tests.test_browser import WIDTHS, Visitor
from scoring.clients import keys
from scoring.models import Backtest, ListEntry, PolicyList
from scoring.policies import versions
from scoring.policies.document import State
from scoring.tests.test_policy_pages import DOCUMENT, address

MOST_STEPS = 150
# Whether the middle of what has the focus is seen, and not something that lies over it.
IS_SEEN = """() => {
  const focused = document.activeElement, box = focused.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return top !== null && (focused.contains(top) || top.contains(focused) && top !== document.body);
}"""
FOCUSED = """() => {
  const focused = document.activeElement;
  if (focused === document.body) return "";
  return focused.tagName === "BUTTON" ? focused.textContent.trim() : focused.name || focused.textContent.trim();
}"""


class Typist(Visitor):
    """A person without a mouse. `hidden` is what could not be seen while it had the focus."""

    hidden: list[str]

    def open(self, path):
        self.page.goto(path)
        self.hidden = []
        return self

    def step(self):
        self.page.keyboard.press("Tab")
        focused = self.page.evaluate(FOCUSED)
        if focused and not self.page.evaluate(IS_SEEN):
            self.hidden.append(focused)
        return focused

    def go_to(self, name):
        """Press Tab until this has the focus."""
        for _ in range(MOST_STEPS):
            if self.step() == name:
                return self
        raise AssertionError(f"Tab never came to {name}")

    def write(self, name, text):
        self.go_to(name).page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def press(self, name):
        self.go_to(name).page.keyboard.press("Enter")


@pytest.fixture
def draft(champion):
    version = versions.draft(schema="ulb", by="rita")
    versions.edit(version, DOCUMENT, revision=1, by="rita")
    return version


@pytest.mark.parametrize("width", [*WIDTHS, 390])
def test_nothing_lies_over_what_has_the_focus(browser, site, rita, draft, width):
    visitor = Typist(browser, site, width).log_in(rita)
    for page in (
        address("change", draft.pk),
        address("what_if", "ulb"),
        reverse("admin:scoring_policylist_add"),
        reverse("admin:scoring_policyversion_changelist"),
    ):
        visitor.open(page)
        steps = 0
        while visitor.step() and steps < MOST_STEPS:
            steps += 1
        assert steps > 5
        assert visitor.hidden == [], page


def test_a_rule_is_written_and_made_live_by_keyboard(browser, site, rita, draft):
    visitor = Typist(browser, site, 1024).log_in(rita).open(address("change", draft.pk))
    visitor.write("rules-1-name", "huge")
    visitor.write("rules-1-when", "Amount > 9000")
    visitor.page.keyboard.press("Escape")  # closes the names that the editor offers
    visitor.write("reason", "A wave of stolen cards")
    visitor.press("Save and make live")
    expect(visitor.page.locator(".messagelist")).to_contain_text("decides from now on")
    draft.refresh_from_db()
    [rule] = [rule for rule in versions.content(draft).rules if rule.name == "huge"]
    assert (draft.state, rule.when, rule.state) == ("live", "Amount > 9000", State.DRAFT)
    assert visitor.complaints == []


def test_a_draft_is_backtested_by_keyboard(browser, site, rita, draft, acme):
    _, key = keys.create(client=acme)
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{site}/predict", json=fraudulent_payload(Amount=200), headers=headers, timeout=10)
    assert answer.status_code == 200
    visitor = Typist(browser, site, 1024).log_in(rita).open(address("change", draft.pk))
    visitor.press("Save and backtest 30 days")
    expect(visitor.page.get_by_text("1 transaction", exact=False).first).to_be_visible()
    assert Backtest.objects.count() == 1
    assert visitor.complaints == []


def test_a_card_is_put_on_a_list_by_keyboard(browser, site, rita, champion):
    visitor = Typist(browser, site, 1024).log_in(rita).open(reverse("admin:scoring_policylist_add"))
    visitor.go_to("subject").page.keyboard.press("ArrowDown")
    visitor.write("name", "stolen")
    visitor.press("_save")
    expect(visitor.page.locator(".messagelist")).to_contain_text("stolen")
    assert PolicyList.objects.get().name == "stolen"
    assert ListEntry.objects.count() == 0
