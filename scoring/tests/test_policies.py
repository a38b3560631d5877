"""What a policy decides: the precedence of lists, rules and thresholds, segments, appetite and absent values."""

import itertools
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import training.tests
from scoring.decisions import Decision, Thresholds
from scoring.policies.document import APPETITES, Document, PolicyInvalid, Rule, Segment, State, parse
from scoring.policies.engine import Policy
from scoring.policies.evidence import Basis, Degraded, read
from scoring.policies.expressions import Case, Outcome
from scoring.policies.lists import HeldList, HeldLists, PastList
from training.core.schema import load_schema, read_schema

HANDBOOK, PAYMENTS = load_schema("handbook"), load_schema("payments")
SHOP = read_schema(Path(training.tests.__file__).parent / "fixtures" / "shop.toml")
OF_MODEL = Thresholds(0.5, 0.9)
ALLOW, REVIEW, BLOCK = Decision.APPROVE, Decision.REVIEW, Decision.BLOCK


def rule(action, when="amount > 100", state=State.ACTIVE, name="rule"):
    return Rule(name=name, when=when, action=action, state=state)


def held(action, *members, name="cards", **limits):
    return HeldList(name, action, True, 0, members=dict.fromkeys(members, math.inf), **limits)


def decide(document=None, score=0.1, *, lists=(), schema=HANDBOOK, tokens=("card", "terminal"), derived=None, **values):
    policy = Policy(schema, OF_MODEL, document, lists=HeldLists(schema, lists))
    given = {"amount": 150.0} | values
    case = Case([given.get(name) for name in schema.feature_names], tokens, 1.8e9)
    [decided] = policy.decide([case], [derived or [1.0] * len(schema.derived)], [score])
    return decided


def test_without_a_policy_the_thresholds_of_the_model_decide():
    assert [decide(score=score).decision for score in (0.1, 0.5, 0.95)] == [ALLOW, REVIEW, BLOCK]
    assert decide(score=0.5).evidence is None


PARTS = [None, Decision.APPROVE, Decision.CHALLENGE, Decision.REVIEW, Decision.BLOCK]


@pytest.mark.parametrize(("listed", "ruled", "score"), list(itertools.product(PARTS, PARTS, (0.1, 0.5, 0.95))))
def test_lists_come_before_rules_and_rules_before_the_score(listed, ruled, score):
    document = Document(rules=[rule(ruled)] if ruled else [])
    decided = decide(document, score, lists=[held(listed, "card")] if listed else [])
    expected = listed or ruled or OF_MODEL.decide(score)
    assert decided.decision == expected
    if listed or ruled:
        assert decided.evidence.basis == (Basis.LIST if listed else Basis.RULE)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(PARTS[1:], PARTS[1:])))
def test_of_several_rules_and_of_several_lists_the_strictest_decides(one, other):
    strictest = max(one, other, key=list(Decision).index)
    rules = Document(rules=[rule(one, name="one"), rule(other, name="other")])
    assert decide(rules).decision == strictest
    assert decide(lists=[held(one, "card", name="one"), held(other, "card", name="other")]).decision == strictest


@given(
    st.floats(0, 1),
    st.lists(st.sampled_from(list(Decision)), max_size=3),
    st.lists(st.sampled_from(list(Decision)), max_size=3),
)
def test_a_stricter_rule_or_list_never_makes_a_decision_milder_than_its_own_action(score, ruled, listed):
    rules = [rule(action, name=f"rule{i}") for i, action in enumerate(ruled)]
    lists = [held(action, "card", name=f"list{i}") for i, action in enumerate(listed)]
    decision = decide(Document(rules=rules), score, lists=lists).decision
    order = list(Decision).index
    assert all(order(decision) >= order(action) for action in (listed or ruled))


def test_an_allow_list_counts_up_to_its_amount():
    friends = [held(ALLOW, "card", max_amount=100.0)]
    assert decide(score=0.95, lists=friends, amount=100.0).decision == ALLOW
    assert decide(score=0.95, lists=friends, amount=100.01).decision == BLOCK


def test_an_entry_of_a_list_ends_when_it_expires():
    blocked = held(BLOCK)
    blocked.members = {"card": 1.8e9 + 1}
    assert decide(lists=[blocked]).decision == BLOCK
    blocked.members = {"card": 1.8e9}
    assert decide(lists=[blocked]).decision == ALLOW


@pytest.mark.parametrize(
    ("times", "was_on_it"),
    [
        ((99.0, 101.0, math.inf), True),
        ((100.0, 101.0, math.inf), True),  # added at the moment of the decision
        ((100.5, 101.0, math.inf), False),
        ((99.0, 100.0, math.inf), False),  # removed at that moment
        ((99.0, 101.0, 90.5), True),
        ((99.0, 101.0, 90.0), False),  # expired at the moment of the event
    ],
)
def test_a_transaction_was_on_a_list_from_an_entrys_addition_until_its_removal_or_expiry(times, was_on_it):
    of_card, of_amount = PastList("cards", BLOCK, True, 0), PastList("amounts", BLOCK, False, HANDBOOK.amount_index)
    of_card.put("card", 1.0, 2.0, math.inf)  # an earlier entry of the same card
    of_card.put("card", *times)
    of_amount.put(150.0, *times)
    values = [150.0 if name == "amount" else None for name in HANDBOOK.feature_names]
    case = Case(values, ("card", "terminal"), 90.0, decided_at=100.0)
    assert (of_card.has(case), of_amount.has(case)) == (was_on_it, was_on_it)
    other = Case([None] * len(values), ("other", "card"), 90.0, decided_at=100.0)
    assert not of_card.has(other)
    assert not of_amount.has(other)


def test_a_missing_entity_or_value_is_on_no_list():
    assert decide(lists=[held(BLOCK, "card")], tokens=("", "terminal")).decision == ALLOW
    optional = next(feature.name for feature in PAYMENTS.features if feature.optional)
    of_value = HeldList("values", BLOCK, False, PAYMENTS.feature_names.index(optional), members={"a": math.inf})
    tokens = [""] * len(PAYMENTS.entities)
    assert decide(lists=[of_value], schema=PAYMENTS, tokens=tokens, **{optional: "a"}).decision == BLOCK
    assert decide(lists=[of_value], schema=PAYMENTS, tokens=tokens).decision == ALLOW


def test_a_rule_may_ask_for_a_list_that_decides_nothing_itself():
    document = Document(rules=[rule(BLOCK, "on_cards && amount > 100")])
    assert decide(document, lists=[held(None, "card")]).decision == BLOCK
    assert decide(document, lists=[held(None, "another")]).decision == ALLOW


def test_a_shadow_rule_is_recorded_and_changes_nothing():
    decided = decide(Document(rules=[rule(BLOCK, state=State.SHADOW)]))
    assert decided.decision == ALLOW
    [matched] = decided.evidence.rules
    assert (matched.rule, matched.state, matched.values) == ("rule", "shadow", {"amount": 150.0})


def test_evidence_is_stored_without_what_is_empty_and_read_as_it_was():
    evidence = decide(Document(rules=[rule(BLOCK), rule(ALLOW, state=State.SHADOW, name="shadow")])).evidence
    content = msgspec.to_builtins(evidence)
    assert content.keys() == {"basis", "rules"}
    assert read(content) == evidence
    assert evidence.active_rules == ["rule"]
    assert read(None).basis == Basis.SCORE


@pytest.mark.parametrize("state", [State.DRAFT, State.RETIRED])
def test_drafts_and_retired_rules_are_not_evaluated(state):
    assert decide(Document(rules=[rule(BLOCK, state=state)])).evidence is None


def test_the_first_segment_that_matches_has_its_own_thresholds():
    segments = [
        Segment(name="large", when="amount > 100", review=0.2),
        Segment(name="all_others", when="true", block=0.3),
    ]
    large, small = (decide(Document(segments=segments), 0.3, amount=amount) for amount in (150.0, 50.0))
    assert (large.decision, large.threshold, large.evidence.segment) == (REVIEW, 0.2, "large")
    assert (small.decision, small.threshold, small.evidence.segment) == (BLOCK, 0.3, "all_others")


def test_a_score_between_the_thresholds_is_challenged():
    assert decide(Document(challenge=0.3), 0.4).decision == Decision.CHALLENGE
    assert decide(Document(challenge=0.3), 0.5).decision == REVIEW


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_a_more_cautious_appetite_never_makes_a_decision_milder(score, review):
    document = {name: Document(review=review, challenge=review / 2, appetite=name) for name in APPETITES}
    cautious, balanced, bold = (list(Decision).index(decide(document[name], score).decision) for name in APPETITES)
    assert cautious >= balanced >= bold


def test_absent_values_keep_a_rule_from_matching_and_are_counted():
    for when in ('device != "DE"', '!(device == "DE")', 'device in ["DE"]'):
        policy = Policy(PAYMENTS, OF_MODEL, Document(rules=[rule(BLOCK, when)]))
        case = Case([None] * len(PAYMENTS.feature_names), [""] * len(PAYMENTS.entities), 0.0)
        [decided] = policy.decide([case], [[math.nan] * len(PAYMENTS.derived)], [0.1])
        assert (decided.decision, decided.evidence) == (ALLOW, None)
        assert [(name, outcome.value) for _, name, outcome in policy.tally.take().outcomes] == [("rule", "absent")]


def test_the_other_side_of_an_or_makes_up_for_an_absent_value():
    optional = next(feature.name for feature in PAYMENTS.features if feature.optional and feature.is_number)
    document = Document(rules=[rule(BLOCK, f"{optional} > 1 || amount > 100")])
    assert decide(document, schema=PAYMENTS, tokens=[""] * len(PAYMENTS.entities)).decision == BLOCK


def test_a_rule_asks_with_has_whether_a_value_is_there():
    optional = next(feature.name for feature in PAYMENTS.features if feature.optional and feature.is_number)
    document = Document(rules=[rule(BLOCK, f"!has_{optional}")])
    tokens = [""] * len(PAYMENTS.entities)
    assert decide(document, schema=PAYMENTS, tokens=tokens).decision == BLOCK
    assert decide(document, schema=PAYMENTS, tokens=tokens, **{optional: 1.0}).decision == ALLOW


@pytest.mark.parametrize("missing", [math.nan, None])
def test_a_missing_computed_feature_is_absent_too(missing):
    name = next(feature.name for feature in PAYMENTS.derived if feature.name in PAYMENTS.optional_inputs)
    place = PAYMENTS.derived_names.index(name)
    there = [1.0] * len(PAYMENTS.derived)
    absent = [*there[:place], missing, *there[place + 1 :]]
    for when, of_absent, of_there in [(f"!({name} > 1e9)", ALLOW, BLOCK), (f"!has_{name}", BLOCK, ALLOW)]:
        document = Document(rules=[rule(BLOCK, when)])
        tokens = [""] * len(PAYMENTS.entities)
        decided = [decide(document, schema=PAYMENTS, tokens=tokens, derived=each) for each in (absent, there)]
        assert [each.decision for each in decided] == [of_absent, of_there], when


def test_each_decision_is_counted_once_for_its_client_with_what_became_of_each_rule():
    policy = Policy(HANDBOOK, OF_MODEL, Document(rules=[rule(BLOCK), rule(BLOCK, "amount > 1000", name="larger")]))
    cases = [Case([150.0], ("card", "terminal"), 1.8e9, client=client) for client in (1, 2, 2)]
    for _ in range(2):  # the counts that were taken are not in the next ones
        policy.decide(cases, [[1.0] * len(HANDBOOK.derived)] * 3, [0.1] * 3)
        taken = policy.tally.take()
        assert taken.decided == {1: 1, 2: 2}
        assert taken.outcomes == {(1, "rule", Outcome.MATCHED): 1, (2, "rule", Outcome.MATCHED): 2}
        assert taken.of_all() == {("rule", Outcome.MATCHED): 3}


def test_rules_use_computed_features_the_score_the_time_and_constants():
    name = next(feature.name for feature in HANDBOOK.derived)
    when = f"{name} == 1 && fraud_score > low && event_time.getFullYear() == 2027"
    assert decide(Document(rules=[rule(BLOCK, when)], constants={"low": 0.05})).decision == BLOCK


@pytest.mark.parametrize(("sent", "decision"), [(1.0, BLOCK), (0.0, ALLOW), (None, ALLOW)])
def test_a_rule_uses_a_field_of_yes_or_no_as_a_condition(sent, decision):
    tokens = [""] * len(SHOP.entities)
    document = Document(rules=[rule(BLOCK, "is_gift")])
    assert decide(document, schema=SHOP, tokens=tokens, is_gift=sent).decision == decision


def test_a_rule_that_cannot_be_calculated_does_not_match_and_the_answer_is_degraded():
    decided = decide(Document(rules=[rule(BLOCK, "1 / (event_time.getMonth() - event_time.getMonth()) > 0")]))
    assert (decided.decision, decided.evidence.degraded, decided.evidence.failed) == (ALLOW, Degraded.RULE, ["rule"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "not JSON"),
        ("[]", "Expected"),
        ('{"rule": []}', "rule"),
        ('{"rules": [{"name": "a", "when": "true", "action": "maybe"}]}', "maybe"),
        ('{"review": "high"}', "review"),
        ('{"rules": [{"name": "a", "when": "true", "action": "block", "state": "on"}]}', "on"),
    ],
)
def test_a_policy_with_wrong_names_or_types_is_refused(text, told):
    with pytest.raises(PolicyInvalid, match=told):
        parse(text)


COMPARED = st.one_of(
    st.tuples(
        st.sampled_from(["amount", "home_km", "birth_date", "fraud_score", "1.5", "-2", "limit"]),
        st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
        st.sampled_from(["amount", "card_count_1d", "0", "1.5", "3", "limit", "merchant_latitude"]),
    ),
    st.tuples(
        st.sampled_from(["device", "country", '"a && b"', '"DE"']),
        st.sampled_from(["==", "!="]),
        st.sampled_from(["device", "category", '"a && b"', "'DE'"]),
    ),
).map(" ".join)
OTHERWISE = [
    "on_cards",
    "has_device",
    "!on_cards",
    'country in ["DE"]',
    "amount > 0 ? true : false",
    "1.0 / 0.0 > amount",
]
CONDITIONS = st.recursive(
    st.one_of(COMPARED, COMPARED, st.sampled_from(OTHERWISE)),
    lambda part: st.tuples(part, st.sampled_from(["&&", "||", "\n&& "]), part).map(lambda parts: f"({''.join(parts)})"),
    max_leaves=4,
)
TRANSACTIONS = st.tuples(
    st.sampled_from([0.0, 1, 1.5, 3, None, 2.0**60]),
    st.sampled_from(["DE", "a && b", None]),
    st.sampled_from([0.0, 1.0, 3.0, math.nan, None]),
    st.sampled_from(["card", "other"]),
)


@given(st.lists(CONDITIONS, min_size=1, max_size=3), st.lists(TRANSACTIONS, min_size=20, max_size=20))
def test_many_transactions_at_once_are_decided_as_each_alone(conditions, transactions):
    rules = [rule(REVIEW, when, name=f"rule_{number}") for number, when in enumerate(conditions)]
    segments = [Segment(name="part", when=conditions[0], review=0.2)]
    document = Document(rules=rules, segments=segments, constants={"limit": 1.5})
    names, features = PAYMENTS.feature_names, PAYMENTS.derived_names
    rows = [
        (
            Case([{"amount": number, "birth_date": 1}.get(name, text) for name in names], (token,) * 5, 1.8e9),
            [computed] * len(features),
            0.3,
        )
        for number, text, computed, token in transactions
    ]
    told = []
    for parts in ([rows], [[row] for row in rows]):
        policy = Policy(PAYMENTS, OF_MODEL, document, lists=HeldLists(PAYMENTS, [held(None, "card")]))
        decided = [each for part in parts for each in policy.decide(*map(list, zip(*part, strict=True)))]
        told.append((decided, policy.tally))
    assert told[0] == told[1]
