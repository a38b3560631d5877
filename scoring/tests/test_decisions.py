import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.decisions import Decision, FallbackRules, Thresholds

SCORES = st.floats(0, 1)


@given(st.lists(SCORES), SCORES, SCORES)
def test_raising_the_threshold_never_adds_alerts(scores, one, other):
    def alerts(threshold):
        return sum(Thresholds(threshold).decide(score) != Decision.APPROVE for score in scores)

    assert alerts(max(one, other)) <= alerts(min(one, other))


@given(SCORES, SCORES, SCORES)
def test_a_riskier_score_never_gets_a_milder_decision(one, other, threshold):
    severity = [Decision.APPROVE, Decision.REVIEW, Decision.BLOCK]
    policy = Thresholds(threshold, (1 + threshold) / 2)
    assert severity.index(policy.decide(max(one, other))) >= severity.index(policy.decide(min(one, other)))


def test_without_a_block_threshold_nothing_is_blocked():
    assert Thresholds(0.5).decide(1.0) == Decision.REVIEW


@pytest.mark.parametrize(
    ("fraud_score", "decision"),
    [(0.0, "approve"), (0.4999, "approve"), (0.5, "review"), (0.8999, "review"), (0.9, "block"), (1.0, "block")],
)
def test_a_score_that_is_a_threshold_has_reached_it(fraud_score, decision):
    assert Thresholds(0.5, 0.9).decide(fraud_score) == decision


@pytest.mark.parametrize(("amount", "decision"), [(0, "approve"), (99.99, "approve"), (100, "review"), (1e6, "review")])
def test_rules_leave_large_amounts_to_a_person_and_block_nothing(amount, decision):
    assert FallbackRules(review_amount=100).decide(amount) == decision
