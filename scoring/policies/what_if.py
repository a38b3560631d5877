"""What other thresholds would do: counts of transactions and frauds by bins of the score, for the page that moves them.

The page's script adds the bins up, so a threshold moves without a call. Counts are of live transactions, or of the test
rows of the champion.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from django.db.models import Count, F, Sum
from django.db.models.functions import Coalesce
from msgspec import Struct

from scoring.decisions import Thresholds
from scoring.models import Label, Prediction
from scoring.policies.bins import COUNT, bins_of, edges, nearest
from scoring.policies.document import APPETITES, Document, PolicyInvalid, Segment
from scoring.policies.models import PolicyVersion, ScoreCount
from scoring.policies.score_counts import grouped
from scoring.reviews import verdicts
from training import registry
from training.models import ModelVersion

NAMES = ("review", "block", "challenge")
# With fewer known frauds, the test rows of the champion say more.
FEWEST_FRAUDS = 20
DAY_S = 86_400


class Group(Struct, array_like=True):
    """Transactions with one fate: their number, the frauds among them, and these frauds' amounts, summed and squared.
    The squares give the interval of a sum of money."""

    rows: int = 0
    frauds: int = 0
    amount: float = 0.0
    square: float = 0.0

    def add(self, rows: int, frauds: int = 0, amount: float = 0.0, square: float = 0.0) -> None:
        self.rows += rows
        self.frauds += frauds
        self.amount += amount
        self.square += square


class Part(Struct):
    """The transactions of a segment, or of what has none, whose name is empty.

    `bins` are groups by the bin of their score, `fixed` those that lists or rules decided about, by decision. `own` are
    the live thresholds as bins, None where they are the policy's or, in the policy, where there is none.
    """

    name: str
    own: dict[str, int | None]
    bins: dict[int, Group] = {}
    fixed: dict[str, Group] = {}

    def group(self, decided: str, number: int) -> Group:
        if decided:
            return self.fixed.setdefault(decided, Group())
        return self.bins.setdefault(number, Group())


class Counted(Struct):
    """What the page counts with. `days` is None if it is not known how many days the rows are, `displaced` how many
    rows were decided before the policy had its segments and count as those without one."""

    parts: list[Part]
    edges: list[float]
    days: float | None
    since: datetime | None = None
    until: datetime | None = None
    displaced: int = 0
    has_amounts: bool = True

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self._groups())

    @property
    def frauds(self) -> int:
        return sum(group.frauds for group in self._groups())

    def _groups(self) -> Iterable[Group]:
        return (group for part in self.parts for groups in (part.bins, part.fixed) for group in groups.values())


def of_live(champion: ModelVersion, document: Document, since: datetime, until: datetime) -> Counted:
    """The transactions that the champion scored from `since`, before `until`, which are whole hours or now. What has no
    label counts as legitimate."""
    parts = _parts(champion, document)
    of_period = {"model_version": champion, "created_at__gte": since, "created_at__lt": until}
    moments = Prediction.objects.filter(**of_period).order_by("created_at").values_list("created_at", flat=True)
    first, last = moments.first(), moments.last()
    days = max((last - first).total_seconds(), 60.0) / DAY_S if first and last else None
    counted = Counted(list(parts.values()), edges(), days, first, last)
    # The numbers of the policies with these segments: what they said about a transaction still holds.
    same = {
        version.number
        for version in PolicyVersion.objects.filter(schema=champion.schema)
        if _segments(version.document) == [(part.name, part.when) for part in document.segments]
    }

    def part_of(number: int, segment: str) -> Part:
        return parts[segment if number in same else ""]

    hours = ScoreCount.objects.filter(model_version=champion, hour__gte=since, hour__lt=until)
    counts: dict[tuple[int, str, str], Counter[str]] = defaultdict(Counter)
    for number, segment, decided, found in hours.values_list("number", "segment", "decided", "counts"):
        counts[number, segment, decided].update(found)
    for (number, segment, decided), found in counts.items():
        for number_of_bin, rows in found.items():
            part_of(number, segment).group(decided, int(number_of_bin)).add(rows)
            counted.displaced += rows if document.segments and number not in same else 0
    for number, segment, decided, number_of_bin, *sums in _frauds(champion, since, until):
        group = part_of(number, segment).group(decided, number_of_bin)
        group.add(0, *sums)
        group.rows = max(group.rows, group.frauds)  # the latest minute may not have been counted yet
    return counted


def of_test_rows(champion: ModelVersion, document: Document) -> Counted | None:
    """The rows that the champion was tested on, without segments; None if its bundle has none.

    Raises:
        BundleRefused: its bundle cannot be read.
    """
    bundle = registry.load(champion)
    rows = bundle.scored.get("test")
    if rows is None:
        return None
    has_amounts = not np.isnan(rows.amounts).any()
    bins, fraud = bins_of(rows.scores), rows.labels == 1
    amounts = np.where(fraud, rows.amounts.astype(np.float64), 0.0) if has_amounts else np.zeros(len(bins))
    sums = [np.bincount(bins, weights, minlength=COUNT) for weights in (None, fraud, amounts, amounts**2)]
    part = _parts(champion, document)[""]
    for number in np.flatnonzero(sums[0]).tolist():
        count, frauds, amount, square = (each[number].item() for each in sums)
        part.group("", number).add(count, int(frauds), amount, square)
    return Counted([part], edges(), bundle.description.days.get("test"), has_amounts=has_amounts)


def changed(document: Document, moves: Mapping[str, Mapping[str, float | None]], capacity: float | None) -> Document:
    """A policy with these thresholds in place of its own. `moves` are by segment, "" for the policy; a threshold is the
    one that shall hold, whatever the appetite.

    Raises:
        PolicyInvalid: there is no such segment or threshold.
    """
    if unknown := moves.keys() - {"", *(segment.name for segment in document.segments)}:
        raise PolicyInvalid(f"The policy has no segment {', '.join(sorted(unknown))} any more. Load the page again.")
    if {name for part in moves.values() for name in part} - set(NAMES):
        raise PolicyInvalid(f"A threshold is one of {', '.join(NAMES)}.")
    factor = 1 / APPETITES[document.appetite]

    def before_appetite(value: float | None) -> float | None:
        return value if value is None or factor == 1 else Thresholds(review=value).times(factor).review

    written = {part: {name: before_appetite(value) for name, value in of.items()} for part, of in moves.items()}
    segments = [msgspec.structs.replace(segment, **written.get(segment.name, {})) for segment in document.segments]
    return msgspec.structs.replace(document, segments=segments, capacity=capacity, **written.get("", {}))


def _parts(champion: ModelVersion, document: Document) -> dict[str, Part]:
    of_model = Thresholds(champion.review_threshold, champion.block_threshold)
    factor = APPETITES[document.appetite]

    def own(part: Segment | Thresholds, factor: float) -> dict[str, int | None]:
        values = {name: getattr(part, name) for name in NAMES}
        return {
            name: None if value is None else nearest(Thresholds(review=value).times(factor).review)
            for name, value in values.items()
        }

    policy = Part("", own(document.thresholds(of_model), 1.0))
    return {"": policy} | {segment.name: Part(segment.name, own(segment, factor)) for segment in document.segments}


def _segments(content: Any) -> list[tuple[str, str]]:
    return [(part.get("name", ""), part.get("when", "")) for part in content.get("segments", [])]


def _frauds(champion: ModelVersion, since: datetime, until: datetime) -> Any:
    """The known frauds by policy, segment, decision and bin: their number, and their amounts summed and squared."""
    of = "transaction__prediction__"
    # Frauds are few and predictions many, so the query has to begin with the index of frauds by time: a label is
    # younger than its prediction. No index has these two expressions, so no database begins with predictions.
    model, at = (Coalesce(F(f"{of}{name}"), F(f"{of}{name}")) for name in ("model_version", "created_at"))
    labels = verdicts.newest(Label.objects.filter(verdict=True, created_at__gte=since))
    frauds = labels.annotate(model=model, at=at).filter(model=champion.pk, at__gte=since, at__lt=until)
    amount = F("transaction__amount")
    keys = ("number", "segment", "decided", "bin")
    sums = {"frauds": Count("*"), "amount": Sum(amount), "square": Sum(amount * amount)}
    return grouped(frauds, of).order_by().values_list(*keys).annotate(**sums)
