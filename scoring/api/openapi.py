"""The hooks that change the OpenAPI document: see SPECTACULAR_SETTINGS."""

from typing import Any

from django.conf import settings
from django.db import Error

from scoring import served
from scoring.api.documents import Document, batch_document, example, request_document
from training import registry

MEDIA = "application/json"


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
    for path, operations in result["paths"].items():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get(MEDIA)
            if body and "/predict" in path:
                body |= batch if path.endswith("/batch") else {"schema": request_document(schemas), "examples": single}
    return result


def _key(name: str) -> str:
    return "".join(word.capitalize() for word in f"a transaction of {name}".split())
