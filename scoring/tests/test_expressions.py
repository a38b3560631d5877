"""Which expressions may be written in a policy, and what their authors are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.decisions import Decision
from scoring.policies.checking import expression_faults, faults
from scoring.policies.document import Control, Document, Rule, Segment
from scoring.policies.names import names_of
from training.core.schema import load_schema

PAYMENTS = load_schema("payments")
NAMES = names_of(PAYMENTS, Document(constants={"limit": 5.0}), ["stolen"])


@pytest.mark.parametrize(
    "source",
    [
        "amount > 500",
        "amount > 500.5 && fraud_score >= 0.1",
        "amount * 2.0 > limit",
        'device in ["DE", "FR"]',
        'device == "DE" || !has_device',
        "on_stolen",
        "event_time.getHours() < 6 && event_time.getDayOfWeek() == 0",
        'event_time > timestamp("2026-01-01T00:00:00Z")',
        'category.startsWith("g") || category.matches("^a.*")',
        "amount > 10 ? fraud_score > 0.5 : fraud_score > 0.9",
        "category.size() > 3",
        "amount in [1, 2, 3]",
        "-amount < -5",
    ],
)
def test_a_condition_over_the_names_of_the_schema_is_accepted(source):
    assert expression_faults(source, NAMES) == []


@pytest.mark.parametrize(
    ("source", "column", "told"),
    [
        ("amnt > 5", 1, "There is no amnt. Did you mean amount?"),
        ("amount > 5 && cuntry == 1", 15, "There is no cuntry"),
        ("amount * 2 > 5", 8, "2.0"),
        ('amount > "5"', 8, "> does not go with a number and a text"),
        ("device > 3", 8, "a text and a whole number"),
        ("amount", 1, "not a condition"),
        ("", 1, "Write a condition"),
        ("amount >", 9, "ends too early"),
        ("amount = 5", 8, "Compare with =="),
        ("amount > 5 and true", 12, "Write &&"),
        ("has(device)", 4, "has_"),
        ("device == null", 8, "has_"),
        ("[1, 2].exists(x, x > amount)", 15, "There is no x"),
        ('category.matches("(")', 18, "no regular expression"),
        ('category == ".matches(" && category.matches("""(""")', 45, "no regular expression"),
        ("category.matches(device)", 10, "a text in quotes"),
        ("category.matches('a' + device)", 10, "a text in quotes"),
        (r'category.matches("\\p{L}{50}")', 1, "may take 2. Repeat less"),
        ("(" * 40 + "amount > 5" + ")" * 40, 1, "nested too deeply"),
        ('event_time == "2026"', 12, "a time and a text"),
        ("1 / 0 > 1", 1, "division by zero"),
        ("__import__('os').system('true')", 11, "There is no"),
        ("amount > 5; amount", 11, "out of place"),
        ("eval('1')", 5, "There is no eval"),
        ("true" + " || true" * 200, 1, "at most 1000 characters"),
        ("(" * 400 + "true" + ")" * 400, 1, ""),
    ],
)
def test_a_fault_is_named_at_its_place_with_a_remedy(source, column, told):
    [fault, *_] = expression_faults(source, NAMES)
    assert (fault.line, fault.column) == (1, column)
    assert told in fault.message


def test_a_group_of_a_backtest_is_a_number_a_truth_or_a_text():
    for source in ("1.5", "1 + 1", '"a"', "true"):
        assert expression_faults(source, NAMES, is_condition=False) == []
    [fault] = expression_faults("[1]", NAMES, is_condition=False)
    assert (fault.line, fault.column) == (1, 1)
    assert "Make a number or a text of it." in fault.message


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("amount > 5 &&\n  amnt > 1", 2, 3),
        ('amount > 5 &&\ncategory.matches("(")', 2, 18),
        ('\ncategory.matches("(")', 2, 18),
    ],
)
def test_a_fault_on_a_later_line_is_named_by_its_line_and_its_place_in_it(source, line, column):
    [fault] = expression_faults(source, NAMES)
    assert (fault.line, fault.column) == (line, column)


@given(st.text(max_size=60))
def test_no_text_breaks_the_check(source):
    for fault in expression_faults(source, NAMES):
        assert fault.message
        assert fault.line >= 1
        assert fault.column >= 1


def found(**parts):
    return {fault.where: fault.message for fault in faults(Document(**parts), PAYMENTS, ["stolen"])}


def test_each_fault_of_a_policy_is_named_with_its_part(settings):
    settings.POLICY_RULES_LIMIT = 2
    rules = [
        Rule(name=name, when=when, action=Decision.BLOCK)
        for name, when in [("a", "amount"), ("a", "true"), ("B c", "true")]
    ]
    segments = [Segment(name="s", when="nope", review=0.9, block=0.5)]
    assert found(rules=rules, segments=segments).keys() == {
        "rules", "rules.0.when", "rules.1.name", "rules.2.name", "segments.0.when", "segments.0.block",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"review": 0.0}, "review"),
        ({"block": 1.5}, "block"),
        ({"review": 0.5, "block": 0.4}, "block"),
        ({"challenge": 0.6, "review": 0.5}, "review"),
        ({"appetite": "hungry"}, "appetite"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": float("nan")}, "capacity"),
        ({"constants": {"far": float("inf")}}, "constants.far"),
        ({"control": Control(share=0.01, max_amount=float("nan"), seed="any")}, "control.max_amount"),
        ({"constants": {"amount": 1.0}}, "constants.amount"),
        ({"constants": {"No": 1.0}}, "constants.No"),
    ],
)
def test_thresholds_are_in_order_and_names_are_free(parts, where):
    assert where in found(**parts)


def test_an_empty_policy_has_no_faults():
    assert found() == {}
    assert found(capacity=1) == {}
