"""The names that expressions may use, with their types."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from scoring.policies.document import Document
from training.core.schema import EVENT_TIME, Schema

FRAUD_SCORE = "fraud_score"
# Whether an optional value is there, and whether the transaction is on a list.
HAS, ON = "has_", "on_"
# Words of CEL that are no names.
RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Type(StrEnum):
    """The type of a name, as messages call it."""

    NUMBER = "number"
    TEXT = "text"
    TRUTH = "truth value"
    TIME = "time"
    TEXTS = "list of texts"


@dataclass(frozen=True)
class Name:
    """A name, what it stands for, and whether it may be absent."""

    name: str
    type: Type
    description: str
    optional: bool = False


def names_of(schema: Schema, document: Document, lists: Iterable[str] = ()) -> dict[str, Name]:
    """The names that expressions of a policy of this schema may use. `lists` are the names of the schema's lists.

    Of two that are equal the first counts: the score and the time, then names of the schema, then others. One that is
    no name in CEL is left out.
    """
    found = [
        Name(FRAUD_SCORE, Type.NUMBER, "The calibrated score, from 0 to 1"),
        Name(EVENT_TIME, Type.TIME, "The time of the transaction, UTC"),
        *(
            Name(
                field.name,
                _type_of(field.kind),
                f"{field.description} ({field.unit})" if field.unit not in ("", "1") else field.description,
                field.optional,
            )
            for field in schema.features
        ),
        *(
            Name(feature.name, Type.NUMBER, feature.description, feature.name in schema.optional_inputs)
            for feature in schema.derived
        ),
    ]
    found += [Name(HAS + name.name, Type.TRUTH, f"Whether {name.name} is there") for name in found if name.optional]
    found += [Name(ON + name, Type.TRUTH, f"Whether the transaction is on the list {name}") for name in lists]
    found += [
        Name(name, _type_of_constant(value), f"A constant: {value}") for name, value in document.constants.items()
    ]
    names: dict[str, Name] = {}
    for name in found:
        if IDENTIFIER.fullmatch(name.name) and name.name not in RESERVED:
            names.setdefault(name.name, name)
    return names


def _type_of(kind: str) -> Type:
    if kind == "boolean":
        return Type.TRUTH
    return Type.NUMBER if kind in ("number", "integer", "latitude", "longitude") else Type.TEXT


def _type_of_constant(value: bool | float | str) -> Type:
    return Type.TRUTH if isinstance(value, bool) else Type.TEXT if isinstance(value, str) else Type.NUMBER


def taken(schema: Schema) -> Mapping[str, Name]:
    """The names that a constant may not have."""
    return names_of(schema, Document())
