from hypothesis import given
from hypothesis import strategies as st

from scoring.decisions import Decision, Policy

SCORES = st.floats(0, 1)


@given(st.lists(SCORES), SCORES, SCORES)
def test_raising_the_threshold_never_adds_alerts(scores, one, other):
    def alerts(threshold):
        return sum(Policy(threshold).decide(score) != Decision.APPROVE for score in scores)

    assert alerts(max(one, other)) <= alerts(min(one, other))


@given(SCORES, SCORES, SCORES)
def test_a_riskier_score_never_gets_a_milder_decision(one, other, threshold):
    severity = [Decision.APPROVE, Decision.REVIEW, Decision.BLOCK]
    policy = Policy(threshold, (1 + threshold) / 2)
    assert severity.index(policy.decide(max(one, other))) >= severity.index(policy.decide(min(one, other)))


def test_without_a_block_threshold_nothing_is_blocked():
    assert Policy(0.5).decide(1.0) == Decision.REVIEW
