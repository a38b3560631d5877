"""Why a transaction has its score: what a worker finds out, and what is stored with an alert."""

import msgspec


class Explanation(msgspec.Struct, frozen=True):
    """What made a score, in logits. `base` is the logit of an ordinary transaction, `contributions` are what each input
    of the model adds to it, by name, raising or lowering, and `residual` is what rounding leaves: together they are
    the logit of the score. See `training.core.families.Calibrated.explain`."""

    base: float
    residual: float
    contributions: dict[str, float]

    @property
    def logit(self) -> float:
        return self.base + sum(self.contributions.values()) + self.residual

    def by_strength(self) -> list[tuple[str, float]]:
        """The contributions, the strongest in either direction first."""
        return sorted(self.contributions.items(), key=lambda named: -abs(named[1]))
