"""What a review costs, if nobody says otherwise."""

from training import registry
from training.core.exceptions import BundleRefused

_review_costs: dict[str, float] = {}


def of_review(schema: str) -> float:
    """What a review costs by the policy that chose the champion's threshold; 0 if that is not known."""
    champion = registry.champion_or_none(schema)
    if champion is None:
        return 0.0
    if champion.pk not in _review_costs:  # a bundle never changes, and checking one takes longer than the page
        try:
            _review_costs[champion.pk] = float(registry.load(champion).description.policy.review_cost)
        except BundleRefused:
            return 0.0
    return _review_costs[champion.pk]
