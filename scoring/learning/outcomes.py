"""What became of decisions, as known at a time, and how many transactions each known outcome stands for.

The one rule for trainings and for metrics on matured labels. An outcome is known if a label says it, or if an approved
transaction is old enough that a fraud would have been reported: then it is legitimate. Of an alert that nobody
labelled, and of a dispute that is not settled, the outcome is not known.

Nobody complains about what was blocked, so known outcomes of would-be alerts are too few, and each stands for 1/π of
them (Horvitz and Thompson, A Generalization of Sampling Without Replacement, 1952). π is the chance that the outcome
of such an alert becomes known: p + (1 − p) · q, where p is its propensity to be let through by the control group, and q
the share of the other alerts that somebody labelled. Without any such labels that is 1/p, and with all of them 1.

A fraud that only an analyst found in the random sample of approved traffic stands for one over its chance to be drawn,
as the sample finds that share of the frauds that nobody reports.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from scoring.decisions import Decision
from scoring.models import Label
from scoring.policies.evidence import Draw
from scoring.reviews import verdicts

KEYS_AT_ONCE = 5_000


class Outcome(NamedTuple):
    """Whether a transaction was fraud, whether somebody said so, and how many transactions it stands for."""

    is_fraud: bool
    is_labelled: bool
    weight: float


@dataclass
class Coverage:
    """Of would-be alerts that the control group could have and did not let through: how many there are, and how many
    have a label, by what was decided."""

    alerts: Counter[str] = field(default_factory=Counter)
    labelled: Counter[str] = field(default_factory=Counter)

    def add(self, alerts: Iterable[tuple[Hashable, Draw]], known: Mapping[Any, bool | None]) -> None:
        for key, draw in alerts:
            self.alerts[draw.would] += 1
            self.labelled[draw.would] += known.get(key) is not None

    def weight(self, draw: Draw) -> float:
        labelled = self.labelled[draw.would] / self.alerts[draw.would] if self.alerts[draw.would] else 0.0
        return 1 / (draw.propensity + (1 - draw.propensity) * labelled)


def outcome(
    decision: str,
    verdict: bool | None,
    *,
    is_disputed: bool,
    draw: Draw | None,
    coverage: Coverage,
    sampled: float = 1.0,
) -> Outcome | None:
    """The outcome of a decision that is old enough for one; None if it is not known.

    `verdict` is what its labels say, and `is_disputed` whether it has labels of which none holds. `sampled` is the
    chance with which an approved transaction was drawn for the random sample that alone found its fraud, else 1.
    """
    if verdict is None and (is_disputed or decision != Decision.APPROVE):
        return None
    return Outcome(bool(verdict), verdict is not None, (coverage.weight(draw) if draw else 1.0) / sampled)


def known(keys: Collection[UUID], at: datetime | None = None) -> dict[UUID, bool | None]:
    """What was known at a time of these transactions: see `verdicts.known`."""
    found: dict[UUID, bool | None] = {}
    ordered = list(keys)
    for first in range(0, len(ordered), KEYS_AT_ONCE):
        part = ordered[first : first + KEYS_AT_ONCE]
        found |= verdicts.known(Label.objects.filter(transaction__pk__among=part), at)
    return found
