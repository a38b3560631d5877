"""The hooks that change the OpenAPI document: see SPECTACULAR_SETTINGS."""

from typing import Any

from django.conf import settings
from django.db import Error

from scoring import served
from scoring.api.documents import ANYTHING, PRINTABLE, Document, batch_document, example, nullable, request_document
from training import registry

MEDIA = "application/json"
PROBLEM_MEDIA = "application/problem+json"
# Bodies that take the fields of their serializers and no others.
BODIES = ("Label", "LabelBatch", "NewWebhook", "PatchedWebhookChange", "Replay", "Rotation")
LABEL = {"transaction_id": "order-1001", "kind": "chargeback_lost", "event_time": "2026-01-31T12:00:00Z"}


def without_slash(endpoints: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Leave out the addresses that end with a slash: each is the same endpoint as the one without."""
    return [endpoint for endpoint in endpoints if not endpoint[0].endswith("/")]


def bodies(result: Document, **_: Any) -> Document:
    """Put in the schemas that are served now, and examples. Those of schemas that have a champion come first, as they
    work on this installation."""
    try:
        live = registry.live_schemas()
    except Error:
        live = set()
    schemas = list(served.now().schemas.values())
    rows = {schema.name: example(schema) for schema in schemas}
    ranked = sorted(rows, key=lambda name: (name not in live, name != settings.DEFAULT_SCHEMA))
    single = {
        _key(name): {
            "value": rows[name],
            "summary": f"A transaction of {name}" + ("" if name in live else " (has no champion yet)"),
        }
        for name in ranked
    }
    several = [rows[name] for name in ranked if name in live] or [rows[name] for name in ranked]
    batch = {
        "schema": batch_document(schemas, settings.BATCH_LIMIT),
        "examples": {"Several": {"value": {"transactions": several}, "summary": "Several"}},
    }
    result["components"]["schemas"]["LabelBatch"]["properties"]["labels"] = {
        "type": "array",
        "minItems": 1,
        "maxItems": settings.LABEL_BATCH_LIMIT,
        "items": {"anyOf": [{"$ref": "#/components/schemas/Label"}, ANYTHING]},
    }
    _complete_labels(result["components"]["schemas"]["Label"])
    for name in BODIES:
        body = result["components"]["schemas"][name]
        body["additionalProperties"] = False
        if "schemas" in body["properties"]:
            body["properties"]["schemas"]["items"] = {"type": "string", "enum": sorted(rows)}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            _name_schemas(operation, sorted(rows))
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
            body = operation.get("requestBody", {}).get("content", {}).get(MEDIA)
            if body and "/predict" in path:
                body |= batch if path.endswith("/batch") else {"schema": request_document(schemas), "examples": single}
            if body and "/labels" in path:
                value = {"labels": [LABEL]} if path.endswith("/batch") else LABEL
                body["examples"] = {"Chargeback": {"value": value, "summary": "A chargeback"}}
    return result


def _complete_labels(label: Document) -> None:
    """Say of a label what its serializer cannot: one of two ids is needed, and what may be left out may be null."""
    label["oneOf"] = [
        {"required": [name], "properties": {name: {"type": "string"}, other: {"type": "null"}}}
        for name, other in (("id", "transaction_id"), ("transaction_id", "id"))
    ]
    for name in ("transaction_id", "reference"):
        label["properties"][name] |= {"minLength": 1, "pattern": PRINTABLE}
    for name in set(label["properties"]) - set(label["required"]):
        one = label["properties"][name]
        label["properties"][name] = nullable(one) if "type" in one else {"oneOf": [one, {"type": "null"}]}


def _name_schemas(operation: Document, names: list[str]) -> None:
    """Put the names of the schemas of the moment into the parameters that take them."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "schema":
            parameter["schema"]["items"] = {"type": "string", "enum": names}


def shared_examples(result: Document, **_: Any) -> Document:
    """Put each example of a problem into the document once: many operations may answer with it."""
    shared = result["components"].setdefault("examples", {})
    for operations in result["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                content = response.get("content", {}).get(PROBLEM_MEDIA, {})
                for name, value in content.get("examples", {}).items():
                    shared[name] = value
                    content["examples"][name] = {"$ref": f"#/components/examples/{name}"}
    return result


def _key(name: str) -> str:
    return "".join(word.capitalize() for word in f"a transaction of {name}".split())
