"""The latest drift of a model version as the page shows it: inputs by how far they moved, with their distributions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
from django.db.models import Subquery

from monitoring.drift.attribution import Added, Shift
from monitoring.drift.clock import of_the_clock
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.drift.shares import Moved
from monitoring.models import DriftDetail, DriftReport
from scoring import served
from training.models import ModelVersion

# Distributions are drawn of so many, the score among them.
DRAWN = 7
MISSING = "missing"
# What is nearer to 0 is the float next to it.
SMALLEST = 1e-30
# A bin with less than that, then and now, is between two neighbouring floats.
EMPTY = 1e-6


@dataclass(frozen=True)
class Bin:
    """A bin of a distribution, in words, with its shares among training rows and in recent traffic."""

    text: str
    before: float
    now: float


@dataclass(frozen=True)
class Input:
    """An input, or the score, with what it `added` to the score if that is known."""

    moved: Moved
    added: Added | None

    @property
    def name(self) -> str:
        return self.moved.name

    @property
    def level(self) -> str:
        """The drift of this one alone, as the status of a report."""
        if self.moved.psi >= PopulationStabilityIndex.STRONG:
            return DriftReport.Status.STRONG
        is_stable = self.moved.psi < PopulationStabilityIndex.MODERATE
        return DriftReport.Status.STABLE if is_stable else DriftReport.Status.MODERATE

    @property
    def bins(self) -> list[Bin]:
        """Its distribution: by values for a category, else by the bins of the index."""
        found = self.moved
        if not found.values:
            bins = [Bin(*each) for each in zip(_texts(found), found.before, found.now, strict=True)]
            return _told_apart([each for each in bins if max(each.before, each.now) >= EMPTY])
        shown = [Bin(value.text, value.before, value.now) for value in found.values]
        others = [Bin("unknown to the model", 0.0, found.unseen or 0.0)] if found.unseen else []
        missing = [Bin(MISSING, found.missing_before or 0.0, found.missing)] if found.missing is not None else []
        rest_before, rest = (max(0.0, 1 - sum(part)) for part in _shares([*shown, *others, *missing]))
        if max(rest, rest_before) > 1e-3:
            missing = [Bin("all others", rest_before, rest), *missing]
        return [*shown, *others, *missing]


@dataclass(frozen=True)
class Drift:
    """A version's drift: the report, its inputs by their index, the largest first and those of the `clock` last, the
    score, and the shift."""

    report: DriftReport
    inputs: list[Input]
    score: Input
    shift: Shift | None
    clock: set[str]

    def drawn(self, chosen: str = "") -> list[Input]:
        """Whose distributions are drawn: the chosen one, the score, and those that moved most or moved the score."""
        by_effect = sorted(self.inputs, key=lambda each: -abs(each.added.value) if each.added else 0.0)
        wanted = [each for each in self.inputs if each.name == chosen]
        order = [*wanted, self.score, *self.inputs[: DRAWN // 2], *by_effect[: DRAWN // 2], *self.inputs]
        return list({each.name: each for each in order}.values())[:DRAWN]


def of_version(version: ModelVersion) -> Drift | None:
    """None until drift was measured."""
    found = DriftDetail.objects.select_related("report").filter(pk=version.pk).first()
    if found is None:
        return None
    shift = msgspec.convert(found.shift, Shift) if found.shift else None
    moved = msgspec.convert(found.inputs, list[Moved])
    clock = of_the_clock(served.now().schemas.get(version.schema), found.report)
    ranked = sorted(moved, key=lambda each: (each.name in clock, -each.psi, each.name))
    inputs = [Input(each, shift.inputs.get(each.name) if shift else None) for each in ranked]
    return Drift(found.report, inputs, Input(msgspec.convert(found.score, Moved), None), shift, clock)


def over_time(version: ModelVersion, starts: Sequence[datetime], step: timedelta) -> list[DriftReport | None]:
    """The last report of a version in each step. An index leads to each, so that it costs the same whatever the number
    of reports."""
    reports = DriftReport.objects.filter(model_version=version).order_by("-created_at").values("pk")
    latest = [Subquery(reports.filter(created_at__gte=start, created_at__lt=start + step)[:1]) for start in starts]
    keys = ModelVersion.objects.filter(pk=version.pk).values_list(*latest).first() if latest else None
    found = DriftReport.objects.in_bulk([key for key in keys or () if key])
    return [found.get(key) for key in keys or ()]


def _texts(moved: Moved) -> list[str]:
    """The bins of a histogram in words. The last one of an input that may be missing is for what is missing."""
    edges = [_told(edge) for edge in (moved.edges if moved.missing is None else moved.edges[:-1])]
    texts = [f"below {edges[0]}"] if edges else ["all values"]
    # A frequent value has a bin of its own, up to the next float.
    texts += [low if low == high else f"{low} to {high}" for low, high in pairwise(edges)]
    texts += [f"from {edges[-1]}"] if edges else []
    return texts if moved.missing is None else [*texts, MISSING]


def _told_apart(bins: list[Bin]) -> list[Bin]:
    """Bins of which each has a text of its own: edges are told in four digits, which neighbours may share."""
    seen: Counter[str] = Counter()
    found = []
    for each in bins:
        seen[each.text] += 1
        number = seen[each.text]
        found.append(replace(each, text=f"{each.text} ({number})") if number > 1 else each)
    return found


def _told(edge: float) -> str:
    return f"{edge:.4g}" if abs(edge) > SMALLEST else "0"


def _shares(bins: list[Bin]) -> tuple[list[float], list[float]]:
    return [each.before for each in bins], [each.now for each in bins]
