"""What the pages of schemas show: the declaration, what is usual of each value, and how models go with the file.

Figures come from the champion's bundle, and from its latest predictions; nothing here reads a whole table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import accumulate

from django.db.models import Sum
from django.utils import timezone

from monitoring.rollups.counting import ALL_CLIENTS, SCORED
from monitoring.rollups.models import Span, TrafficRollup
from scoring.models import Prediction
from scoring.pages.display import number
from training import registry
from training.core.exceptions import BundleRefused, SchemaNotFound
from training.core.features import typical
from training.core.features.declaration import Computed, Velocity
from training.core.features.typical import Typical
from training.core.schema import Field, Schema, comparison
from training.models import ModelVersion, Stage

# The latest predictions of the champion, of which missing values are counted; with fewer nothing is shown.
LATEST, FEWEST = 1_000, 50
COUNTED_DAYS = 30
SHOWN_VALUES = 4
# A value is missing strangely often if it is so in more than twice the share of the training rows and this much more.
STRANGE = 0.05


@dataclass(frozen=True)
class Value:
    """A field or a computed feature. `usual` says what most training rows have. `box` are positions from 0 to 100 of
    quantiles between 1 % and 99 %: 25 %, the width to 75 %, and the median. `bars` are the values of a category, each
    with its place and width in a bar of 100."""

    name: str
    kind: str
    bounds: str
    description: str
    notes: Sequence[str]
    missing: str = ""
    lately: str = ""
    is_strange: bool = False
    usual: str = ""
    box: tuple[str, str, str] | None = None
    bars: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True)
class Model:
    """A version and the declaration that it was trained under: `obstacles` are why it does not serve the file."""

    version: ModelVersion
    hash: str
    is_same: bool = False
    obstacles: Sequence[str] = ()
    fault: str = ""

    @property
    def serves(self) -> bool:
        return not (self.fault or self.obstacles)


@dataclass(frozen=True)
class Change:
    """The file against the champion: `differences`, and the entities whose histories become `stale`."""

    differences: Sequence[str]
    obstacles: Sequence[str]
    stale: Sequence[str]


@dataclass(frozen=True)
class Measured:
    """What is known of values: of training rows, and the shares that are missing in the latest transactions."""

    of: Mapping[str, Typical] = field(default_factory=dict)
    lately: Mapping[str, float] = field(default_factory=dict)


def transactions() -> dict[str, int]:
    """How many transactions each schema had in the last `COUNTED_DAYS` days, by the roll-ups."""
    since = timezone.now() - timedelta(days=COUNTED_DAYS)
    rows = TrafficRollup.objects.filter(span=Span.DAY, client=ALL_CLIENTS, answer=SCORED, start__gt=since).order_by()
    return dict(rows.values("schema").annotate(count=Sum("transactions")).values_list("schema", "count"))


def models_of(name: str, now: Schema | None, *, all_stages: bool = True) -> list[Model]:
    """The versions of a schema, the champion first; without `all_stages` those at work."""
    rows = ModelVersion.objects.filter(schema=name)
    rows = rows if all_stages else rows.filter(stage__in=[Stage.CHAMPION, Stage.SHADOW])
    order = [Stage.CHAMPION, Stage.SHADOW, Stage.CANDIDATE, Stage.RETIRED]
    return [_model(row, now) for row in sorted(rows, key=lambda row: order.index(Stage(row.stage)))]


def declaration_of(version: ModelVersion) -> Schema | None:
    """What a version was trained under; None if that is not known here."""
    try:
        return registry.declaration(version)
    except (BundleRefused, SchemaNotFound):
        return None


def _model(row: ModelVersion, now: Schema | None) -> Model:
    try:
        declared = registry.declaration(row)
    except (BundleRefused, SchemaNotFound) as error:
        return Model(row, "", fault=str(error))
    obstacles = comparison.obstacles(declared, now) if now else ["there is no valid file"]
    return Model(row, declared.hash, is_same=bool(now and now.hash == declared.hash), obstacles=obstacles)


def change_of(champions: Schema, now: Schema) -> Change:
    """What taking over a model of the declaration `now` would change."""
    return Change(
        comparison.differences(champions, now),
        comparison.obstacles(champions, now),
        comparison.stale_histories(champions, now),
    )


def measured(champion: ModelVersion | None) -> Measured:
    """What the champion's bundle and its latest predictions say of values."""
    if champion is None:
        return Measured()
    try:
        of = registry.load(champion).description.typical
    except BundleRefused:
        of = {}
    rows = Prediction.objects.filter(model_version=champion).order_by("-created_at")
    latest = list(rows.values_list("transaction__fields", flat=True)[:LATEST])
    if len(latest) < FEWEST:
        return Measured(of)
    names = {name for row in latest for name in row}
    return Measured(of, {name: sum(row.get(name) is None for row in latest) / len(latest) for name in names})


def fields_of(schema: Schema, known: Measured, *, personal: bool) -> list[Value]:
    """The fields of requests; values of personal ones are shown only if `personal`."""
    return [_field(each, known, shows=personal or each.name not in schema.personal_names) for each in schema.features]


def computed_of(schema: Schema, known: Measured, *, personal: bool) -> list[Value]:
    """The computed features."""
    return [
        _with_usual(
            Value(
                each.name,
                f"of {each.entity}" if isinstance(each, Velocity) else type(each).__name__.lower(),
                "",
                each.description,
                (),
            ),
            each,
            known.of.get(each.name),
            shows=personal or each.name not in schema.personal_names,
        )
        for each in schema.derived
    ]


def _field(each: Field, known: Measured, *, shows: bool) -> Value:
    notes = [
        note
        for note, holds in (
            ("optional", each.optional),
            ("personal", each.is_concealed),
            ("no input of the model", not each.is_input),
        )
        if holds
    ]
    unit = "" if each.unit == "1" else each.unit
    declares = each.of_kind.declares_bounds
    bounds = f"{number(each.lowest)} to {number(each.highest)} {unit}".strip() if declares else ""
    of, lately = known.of.get(each.name), known.lately.get(each.name)
    value = Value(
        each.name,
        each.kind,
        bounds,
        each.description,
        notes,
        missing=_percent(of.missing) if of else "",
        lately="" if lately is None else _percent(lately),
        is_strange=of is not None and lately is not None and lately > 2 * of.missing + STRANGE,
    )
    return _with_usual(value, each, of, shows=shows)


def _with_usual(value: Value, declared: Field | Computed, of: Typical | None, *, shows: bool) -> Value:
    if of is None or not (of.shares or of.quantiles):
        return value
    if not shows:
        return replace(value, usual="hidden")
    if of.shares:
        ranked = sorted(of.shares.items(), key=lambda item: -item[1])
        more = len(ranked) - SHOWN_VALUES
        told = ", ".join(f"{text} {_percent(share)}" for text, share in ranked[:SHOWN_VALUES])
        return replace(value, usual=told + (f", {more} more" if more > 0 else ""), bars=_bars(ranked))
    if typical.is_flag(declared):
        return replace(value, usual=f"yes in {_percent(of.mean)}", bars=_bars([("yes", of.mean)]))
    unit = getattr(declared, "unit", "")
    low, _, lower, median, upper, _, high = of.quantiles
    width = (high - low) or 1.0
    at, end, middle = (100 * (each - low) / width for each in (lower, upper, median))
    return replace(
        value,
        usual=_between(typical.quantity(lower, unit), typical.quantity(upper, unit)),
        box=(f"{at:.2f}", f"{end - at:.2f}", f"{middle:.2f}"),
    )


def _between(lower: str, upper: str) -> str:
    """Both ends of what is usual, with the unit once if it is the same.

    >>> _between("10.1 EUR", "39 EUR"), _between("3 h", "2 days"), _between("0", "0")
    ('10.1 to 39 EUR', '3 h to 2 days', 'mostly 0')
    """
    if lower == upper:
        return f"mostly {lower}"
    figure, _, unit = lower.partition(" ")
    return f"{figure if unit and upper.endswith(f' {unit}') else lower} to {upper}"


def _bars(shares: Sequence[tuple[str, float]]) -> list[tuple[str, str, str]]:
    places = [0.0, *accumulate(share for _, share in shares)]
    return [(text, f"{100 * at:.2f}", f"{100 * share:.2f}") for (text, share), at in zip(shares, places)]  # noqa: B905


def _percent(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"
