"""Dataset schemas. Each is declared once, in `training/schemas/<name>.toml` or in a directory of one's own.

Ingest, the predict endpoint, its OpenAPI document, training and drift all use the same declaration. `values` has the
values of a request, `kinds` what they may be, and `training.core.features.declaration` what is computed of them.
"""

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import msgspec
import numpy as np

from training.core import places
from training.core.card_numbers import holds_card_number, names_verification_code
from training.core.exceptions import SchemaInvalid, did_you_mean
from training.core.features import declaration
from training.core.features.declaration import MOST_DAYS, Age, Calendar, Computed, Distance, Entity, Point, Velocity
from training.core.schema import files, values
from training.core.schema.files import FileForm
from training.core.schema.kinds import codes
from training.core.schema.kinds.kind import Kind
from training.core.schema.store import Store, read_text
from training.core.schema.values import Field, Value

# A request may have these in addition to the declared fields.
TRANSACTION_ID, EVENT_TIME = "transaction_id", "event_time"
# Further columns of a dataset whose amounts were converted: what they were, and whether the rate was too old.
SENT_AMOUNT, RATE_STALE = "sent_amount", "rate_stale"
MOST_DECIMALS = 8
EVENT_TIME_UNITS = ("s", "ms", "us", "ns", "min", "h", "d")
Declared = TypeVar("Declared")
# msgspec's words for the types of values in TOML, and ours.
WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


@dataclass(frozen=True)
class Schema:
    """A dataset's declaration.

    `features` are the values and `entities` the identifiers of a request. `points` are pairs of values. `calendar`,
    `ages`, `distances` and `velocity` are the computed features. `amount` names the feature that is the amount, which
    has `amount_decimals`; `time` names the feature that is the time, or is "event_time". `label` is the column to learn
    (1 fraud, 0 legitimate), never part of a request; it is known `label_delay_days` after the transaction. `past_days`
    is how far back the event time of a request may lie. `card` names the entity that is blocked after a fraud.

    Amounts in several currencies are in that of the feature `amount_currency`, and are converted to the base currency,
    the unit of the amount, before anything else is made of them. Its bounds are those of the converted amount.

    For raw files, `file` is their form and `source` maps our column names to other names in the file. `event_time_unit`
    is the unit of event times that are numbers, since 1970 or the `origin` of the form, and `event_time_format` the
    `strptime` format of those that are texts other than ISO 8601.
    """

    name: str
    title: str
    features: tuple[Field, ...]
    amount: str
    time: str
    label: str
    past_days: int
    amount_decimals: int = 2
    amount_currency: str = ""
    label_delay_days: float = 0.0
    card: str = ""
    entities: tuple[Entity, ...] = ()
    points: tuple[Point, ...] = ()
    calendar: tuple[Calendar, ...] = ()
    ages: tuple[Age, ...] = ()
    distances: tuple[Distance, ...] = ()
    velocity: tuple[Velocity, ...] = ()
    file: FileForm = field(default_factory=FileForm)
    source: dict[str, str] = field(default_factory=dict)
    event_time_unit: str = ""
    event_time_format: str = ""

    def __hash__(self) -> int:
        return hash(self.hash)  # which is computed once; a hash of all fields would be for each cache look-up

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The values of a request, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def place_of(self) -> dict[str, int]:
        """The place of each value of a request among these, by its name."""
        return {name: place for place, name in enumerate(self.feature_names)}

    @cached_property
    def kind_of(self) -> dict[str, Kind]:
        """The kind of each value of a request, by its name."""
        return {feature.name: feature.of_kind for feature in self.features}

    @cached_property
    def concealed_features(self) -> list[tuple[int, Field]]:
        """The values of a request that are stored in another form, with their places."""
        return [(place, feature) for place, feature in enumerate(self.features) if feature.is_concealed]

    @cached_property
    def entity_names(self) -> tuple[str, ...]:
        """All entities, in order; each transaction has a token of each."""
        return tuple(entity.name for entity in self.entities)

    @cached_property
    def has_texts(self) -> bool:
        """Whether some values of a request are no numbers, may be missing, or are stored in another form."""
        return any(not one.is_number or one.optional or one.is_concealed for one in self.features)

    @cached_property
    def identifier_names(self) -> tuple[str, ...]:
        """The entities whose identifiers are in a request, in order; others are made of these and of values."""
        return tuple(entity.name for entity in self.entities if not entity.of)

    @cached_property
    def derived(self) -> tuple[Computed, ...]:
        """The computed features, in order."""
        return (*self.calendar, *self.ages, *self.distances, *self.velocity)

    @cached_property
    def derived_names(self) -> tuple[str, ...]:
        """The names of the computed features, in order."""
        return tuple(feature.name for feature in self.derived)

    @cached_property
    def inputs(self) -> tuple[Field | Computed, ...]:
        """The inputs of the model, in order: values of the request, then computed features."""
        return (*(feature for feature in self.features if feature.is_input), *self.derived)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The names of the model's inputs, in order."""
        return tuple(feature.name for feature in self.inputs)

    @cached_property
    def optional_inputs(self) -> frozenset[str]:
        """The names of the inputs whose value may be missing."""
        return frozenset(each.name for each in self.inputs if declaration.may_be_missing(each, self))

    @cached_property
    def personal_names(self) -> frozenset[str]:
        """The values that are personal, and the ages that tell one."""
        concealed = frozenset(each.name for each in self.features if each.is_concealed)
        return concealed | {age.name for age in self.ages if age.of in concealed}

    @cached_property
    def is_plain(self) -> bool:
        """Whether the model's inputs are the values of a request, without computed features and histories."""
        return not self.derived and not self.entities

    @property
    def has_ids(self) -> bool:
        """Whether stored rows have transaction ids, so that equal rows are different transactions."""
        return self.time == EVENT_TIME

    @cached_property
    def amount_index(self) -> int:
        """The index of the amount among the values of a request."""
        return self.feature_names.index(self.amount)

    @property
    def currency(self) -> str:
        """The unit of the amount, and the base currency of amounts in several."""
        return self.features[self.amount_index].unit

    @cached_property
    def sent_features(self) -> tuple[Field, ...]:
        """`features` as they are sent: an amount that is to be converted has no bounds yet."""
        if not self.amount_currency:
            return self.features
        unbounded = replace(self.features[self.amount_index], minimum=None, maximum=None)
        return tuple(unbounded if field.name == self.amount else field for field in self.features)

    @cached_property
    def currency_index(self) -> int:
        """The index, among the values of a request, of the currency of its amount."""
        return self.feature_names.index(self.amount_currency)

    @cached_property
    def hash(self) -> str:
        """SHA-256, as hex, of everything that matters to a model or a client: all but the forms of raw files."""
        declared = _declared(self)
        for of_raw_file in ("file", "source", "event_time_unit", "event_time_format"):
            declared.pop(of_raw_file, None)
        return hashlib.sha256(json.dumps(declared, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def encode(self, rows: Sequence[Sequence[Value]]) -> np.ndarray:
        """Encode stored values of `n` requests, in the order of `features`: [n, len(features)] float64. See
        `training.core.schema.values.encode`."""
        return values.encode(self.features, rows)

    def amount_of(self, values: Sequence[Value]) -> float:
        """The amount among the stored values of a request."""
        return cast(float, values[self.amount_index])

    def amount_minor(self, amounts: np.ndarray) -> np.ndarray:
        """Amounts [n] float64 as whole minor units, [n] int64.

        >>> load_schema("handbook").amount_minor(np.array([57.16]))
        array([5716])
        """
        return np.rint(amounts * 10**self.amount_decimals).astype(np.int64)


def _declared(declaration: Any) -> dict[str, Any]:
    """A declaration as a dictionary. Defaults are left out, so that a new field does not change old schemas' hashes."""
    declared = {}
    for part in fields(declaration):
        value = getattr(declaration, part.name)
        default = part.default_factory() if part.default_factory is not MISSING else part.default
        if value != default:
            if isinstance(value, tuple):
                value = [_declared(item) if is_dataclass(item) else item for item in value]
            declared[part.name] = value
    return declared


# The repeatable tables of a schema's file: their field of `Schema`, and their type.
LISTS: dict[str, tuple[str, type]] = {
    "feature": ("features", Field),
    "entity": ("entities", Entity),
    "point": ("points", Point),
    "calendar": ("calendar", Calendar),
    "age": ("ages", Age),
    "distance": ("distances", Distance),
    "velocity": ("velocity", Velocity),
}

# What `parse_schema` makes of tables before it makes the schema.
_MADE = {"file", *(field_name for field_name, _ in LISTS.values())}


def read_schema(path: Path) -> Schema:
    """Read a schema's file, whose name is the schema's.

    Raises:
        SchemaInvalid: it cannot be read, is not in UTF-8, has an invalid declaration, or a name that no schema can
            have.
    """
    if not places.NAME.fullmatch(path.stem):
        raise SchemaInvalid(f"{path.name}: the name of a schema has {places.NAME_RULE}. Rename the file.")
    return parse_schema(path.stem, read_text(path))


def parse_schema(name: str, text: str) -> Schema:
    """Parse the text of a schema's file.

    Raises:
        SchemaInvalid: it is not TOML, lacks or misspells a name, or has an invalid declaration.
    """
    try:
        declared = tomllib.loads(text)
        lists: dict[str, Any] = {
            field_name: tuple(_made(kind, table, f"[[{key}]] ") for table in _tables(key, declared.pop(key, [])))
            for key, (field_name, kind) in LISTS.items()
        }
        [form] = _tables("file", [declared.pop("file", {})])
        lists["file"] = _made(FileForm, form, "[file] ")
        schema = _made(Schema, {"name": name} | lists | declared)
        _check(schema)
    except (ValueError, RecursionError, SchemaInvalid) as error:  # a number of 5,000 digits is a ValueError, too
        raise SchemaInvalid(f"Schema {name}: {error}") from error
    return schema


def _tables(key: str, declared: Any) -> list[dict[str, Any]]:
    if not isinstance(declared, list) or not all(isinstance(table, dict) for table in declared):
        raise SchemaInvalid(f"{key}: write it as {'[file]' if key == 'file' else f'[[{key}]]'}, a table")
    return declared


def _made(kind: type[Declared], table: dict[str, Any], where: str = "") -> Declared:
    parts = {part.name: part for part in fields(kind)}  # type: ignore[arg-type]  # mypy cannot bound it to dataclasses
    where = f"{where}{table['name']}: " if where and "name" in table else where
    for name in table.keys() - parts:
        written = {part: key for key, (part, _) in LISTS.items()}
        hint = did_you_mean(name, [written.get(part, part) for part in parts])
        raise SchemaInvalid(f"{where}there is no {name}.{hint}")
    missing = [
        name
        for name, part in parts.items()
        if name not in table and part.default is MISSING and part.default_factory is MISSING
    ]
    if missing:
        raise SchemaInvalid(f"{where}{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing")
    types = get_type_hints(kind)
    return kind(**{name: _typed(name, value, types[name], where) for name, value in table.items()})


def _typed(name: str, value: Any, wanted: Any, where: str) -> Any:
    """A value of a declaration that is of the type of its field. It stays as it is written, as the hash is made of it,
    but a list becomes a tuple."""
    if name in _MADE:
        return value
    if isinstance(value, float) and not isfinite(value):
        raise SchemaInvalid(f"{where}{name}: give a finite number, not {value}")
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        expected = str(error).split(",")[0]
        needed = " or ".join(word for part, word in WORDS.items() if re.search(rf"\b{part}\b", expected))
        raise SchemaInvalid(f"{where}{name}: give {needed}, not {value!r}") from error
    return tuple(value) if isinstance(value, list) else value


def _check(schema: Schema) -> None:
    values.check(schema.features)
    requested = (*schema.feature_names, *schema.identifier_names)
    made = (entity.name for entity in schema.entities if entity.of)
    names = (*requested, *made, *(feature.name for feature in (*schema.derived, *schema.points)), schema.label)
    names += (SENT_AMOUNT, RATE_STALE) if schema.amount_currency else ()
    reserved = {TRANSACTION_ID, EVENT_TIME, "deadline_ms", "schema"}
    for name, count in Counter(names).items():
        if count > 1 or name in reserved or not (name and name.isprintable()):
            fault = "taken twice" if count > 1 else "reserved" if name in reserved else "not printable"
            raise SchemaInvalid(f"the name {name!r} is {fault}")
    for name in requested:
        if names_verification_code(name) or holds_card_number(name):
            raise SchemaInvalid(f"the name {name!r} is one of card data, which calls refuse. Choose another name")
    if schema.amount not in schema.feature_names:
        hint = did_you_mean(schema.amount, schema.feature_names)
        raise SchemaInvalid(f"amount names no feature: {schema.amount!r}.{hint}")
    amount = schema.features[schema.amount_index]
    if schema.amount_currency:
        _check_currency(schema, amount)
    if amount.kind not in ("number", "integer") or amount.optional:
        raise SchemaInvalid(f"{amount.name}: the amount is a number or an integer, and not optional")
    bounds = {"amount_decimals": MOST_DECIMALS, "past_days": MOST_DAYS, "label_delay_days": MOST_DAYS}
    for name, highest in bounds.items():
        if not 0 <= getattr(schema, name) <= highest:
            raise SchemaInvalid(f"{name} is 0 to {highest:,}, not {getattr(schema, name)}")
    if schema.card and schema.card not in schema.entity_names:
        hint = did_you_mean(schema.card, schema.entity_names)
        raise SchemaInvalid(f"card names no entity: {schema.card!r}.{hint}")
    if schema.time not in (*schema.feature_names, EVENT_TIME):
        hint = did_you_mean(schema.time, (*schema.feature_names, EVENT_TIME))
        raise SchemaInvalid(f"time is a feature or event_time, not {schema.time!r}.{hint}")
    if not schema.input_names:
        raise SchemaInvalid("it declares nothing that a model could take")
    if schema.derived and schema.time != EVENT_TIME:
        raise SchemaInvalid('computed features need time = "event_time"')
    if unknown := schema.source.keys() - {*requested, schema.label, TRANSACTION_ID, EVENT_TIME}:
        hint = did_you_mean(min(unknown), {*names, TRANSACTION_ID, EVENT_TIME})
        raise SchemaInvalid(f"source: no such column of ours: {', '.join(sorted(unknown))}.{hint}")
    if schema.event_time_unit and schema.event_time_unit not in EVENT_TIME_UNITS:
        raise SchemaInvalid(f"event_time_unit is one of {', '.join(EVENT_TIME_UNITS)}, not {schema.event_time_unit!r}")
    if schema.event_time_unit and schema.event_time_format:
        raise SchemaInvalid("event_time_unit is for numbers and event_time_format for texts: declare one")
    files.check(schema.file)
    declaration.check(schema)


def _check_currency(schema: Schema, amount: Field) -> None:
    named = {field.name: field for field in schema.features}.get(schema.amount_currency)
    if named is None:
        hint = did_you_mean(schema.amount_currency, schema.feature_names)
        raise SchemaInvalid(f"amount_currency names no feature: {schema.amount_currency!r}.{hint}")
    if named.kind != "currency" or named.optional:
        raise SchemaInvalid(f"{named.name}: the currency of amounts is of the kind currency, and not optional")
    if amount.kind != "number" or amount.unit not in codes.currencies():
        raise SchemaInvalid(
            f"{amount.name}: an amount in several currencies is a number, and its unit the currency to which it is "
            f"converted, such as EUR, not {amount.unit!r}"
        )
    if schema.amount_decimals != codes.decimals_of(amount.unit):
        raise SchemaInvalid(f"amount_decimals is {codes.decimals_of(amount.unit)}, as {amount.unit} has so many")
    if schema.time != EVENT_TIME:
        raise SchemaInvalid('amount_currency needs time = "event_time", as rates hold from a time on')


# The schemas that this process has read.
loaded = Store(parse_schema)


def schema_names() -> tuple[str, ...]:
    return loaded.names


def look_in(directory: Path | None) -> None:
    """Have schemas of one's own in this directory, and their training configurations in its folder `configs`."""
    places.own = directory
    loaded.forget()


def load_schema(name: str) -> Schema:
    """Read a schema by name.

    Raises:
        SchemaNotFound: there is no file of that name in `places.schema_dirs()`.
        SchemaInvalid: the file has an invalid declaration, or the name of a schema of the package.
    """
    return loaded.load(name)
