"""The JSON Schemas of request bodies, made from the transaction schemas, for the OpenAPI document."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from django.conf import settings

from scoring.api.decoding import Body
from scoring.api.validation import TRANSACTION_ID_LIMIT
from training.core.features.declaration import Entity
from training.core.schema import Field, Schema
from training.core.schema.kinds.kind import TEXT_LIMIT

# A JSON Schema or another part of the OpenAPI document.
Document = dict[str, Any]


def batch_document(schemas: Sequence[Schema], limit: int) -> Document:
    """The JSON Schema of a predict/batch body."""
    rows = {"type": "array", "minItems": 1, "maxItems": limit, "items": request_document(schemas)}
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
            "description": f"{entity.description} Only a keyed hash of it is kept.",
        }
        | _optional(entity)
        for entity in schema.entities
        if not entity.of
    }
    properties = values | entities
    required = [name for name, document in properties.items() if not document.get("nullable")]
    is_default = schema.name == settings.DEFAULT_SCHEMA
    return {
        "type": "object",
        "title": f"Transaction of schema {schema.name}",
        "required": [*([] if is_default else ["schema"]), *required],
        "additionalProperties": False,
        "properties": properties
        | {
            "schema": {
                "type": "string",
                "enum": [schema.name],
                "description": f"{schema.title}." + (" May be left out." if is_default else ""),
            },
            "transaction_id": {
                "type": "string",
                "nullable": True,
                "minLength": 1,
                "maxLength": TRANSACTION_ID_LIMIT,
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
    return field.of_kind.document | bounds | {"description": f"{field.description}{unit}"} | _optional(field)


def _optional(part: Field | Entity) -> Document:
    return {"nullable": True} if part.optional else {}


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
