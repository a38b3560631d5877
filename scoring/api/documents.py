"""The JSON Schemas of request bodies, made from the transaction schemas, for the OpenAPI document."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from django.conf import settings

from scoring.api.decoding import Body
from scoring.api.validation import TRANSACTION_ID_LIMIT
from training.core.schema import Field, Schema
from training.core.schema.kinds.kind import TEXT_LIMIT

# No control characters. Others that are not printable are refused, too, which no short pattern tells.
PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
ANYTHING = {
    "title": "Anything else",
    "description": "Whatever else stands in the list gets the problem that a call of its own would have had.",
}
# A JSON Schema or another part of the OpenAPI document.
Document = dict[str, Any]


def batch_document(schemas: Sequence[Schema], limit: int) -> Document:
    """The JSON Schema of a predict/batch body. A row that is no transaction is refused by itself: the list is not."""
    items = {"anyOf": [*(transaction_document(schema) for schema in schemas), ANYTHING]}
    rows = {"type": "array", "minItems": 1, "maxItems": limit, "items": items}
    return {
        "type": "object",
        "required": ["transactions"],
        "additionalProperties": False,
        "properties": {"transactions": rows},
    }


def request_document(schemas: Sequence[Schema]) -> Document:
    """The JSON Schema of a predict body."""
    return {"oneOf": [transaction_document(schema) for schema in schemas]}


def transaction_document(schema: Schema) -> Document:
    """The JSON Schema of a transaction of one schema."""
    values = {field.name: _value_document(field) for field in schema.sent_features}
    if schema.amount_currency:
        bounded = schema.features[schema.amount_index]
        values[schema.amount]["description"] = (
            f"{bounded.description} In the currency of {schema.amount_currency}, with no more decimals than it has. "
            f"Converted to {schema.currency}, it lies between {bounded.lowest:g} and {bounded.highest:g}."
        )
    entities = {
        entity.name: {
            "type": "string",
            "minLength": 1,
            "maxLength": TEXT_LIMIT,
            "pattern": PRINTABLE,
            "description": f"{entity.description} Only a keyed hash of it is kept.",
        }
        for entity in schema.entities
        if not entity.of
    }
    properties = values | entities
    optional = {field.name for field in schema.sent_features if field.optional}
    optional |= {entity.name for entity in schema.entities if entity.optional}
    required = [name for name in properties if name not in optional]
    is_default = schema.name == settings.DEFAULT_SCHEMA
    return {
        "type": "object",
        "title": f"Transaction of schema {schema.name}",
        "required": [*([] if is_default else ["schema"]), *required],
        "additionalProperties": False,
        "properties": {name: nullable(one) if name in optional else one for name, one in properties.items()}
        | {
            "schema": {
                "type": "string",
                "enum": [schema.name],
                "description": f"{schema.title}." + (" May be left out." if is_default else ""),
            },
            "transaction_id": {
                "type": ["string", "null"],
                "minLength": 1,
                "maxLength": TRANSACTION_ID_LIMIT,
                "pattern": PRINTABLE,
                "description": "Your id. The same id with the same body gets the same answer again; never doubled.",
            },
            "event_time": {
                "type": "string",
                "format": "date-time",
                "description": "When it happened; the time of arrival if left out.",
            },
            "deadline_ms": {
                "type": "integer",
                "minimum": 1,
                "description": "How long you wait, when that is less than the server's own deadline.",
            },
        },
    }


def _value_document(field: Field) -> Document:
    is_bounded = field.is_number and field.kind != "boolean" and isfinite(field.highest)
    bounds = {"minimum": field.lowest, "maximum": field.highest} if is_bounded else {}
    unit = f" Unit: {field.unit}." if field.unit else ""
    return field.of_kind.document | bounds | {"description": f"{field.description}{unit}"}


def nullable(document: Document) -> Document:
    """The same, and null: what may be left out may be null, too."""
    document = document | {"type": [document["type"], "null"]}
    return document | {"enum": [*document["enum"], None]} if "enum" in document else document


def example(schema: Schema) -> Body:
    """A body to try."""
    named = {} if schema.name == settings.DEFAULT_SCHEMA else {"schema": schema.name}
    entities = {name: f"{name}-7f3a" for name in schema.identifier_names}
    values = {
        field.name: min(max(float(field.of_kind.example), field.lowest), field.highest)
        if field.of_kind.declares_bounds
        else field.of_kind.example
        for field in schema.features
    }
    if schema.amount_currency:
        values[schema.amount_currency] = schema.currency
    return named | values | entities | {"transaction_id": f"{schema.name}-1001"}
