"""The hooks that change the OpenAPI document: see SPECTACULAR_SETTINGS."""

from typing import Any

from django.conf import settings
from django.db import Error

from scoring.api.decoding import Body
from scoring.api.documents import Document
from training import registry

MEDIA = "application/json"


def without_slash(endpoints: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Leave out the addresses that end with a slash: each is the same endpoint as the one without."""
    return [endpoint for endpoint in endpoints if not endpoint[0].endswith("/")]


def working_examples_first(result: Document, **_: Any) -> Document:
    """Put the examples of schemas that have a champion first, as they work on this installation."""
    try:
        live = registry.live_schemas()
    except Error:
        live = set()
    for operations in result["paths"].values():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get(MEDIA, {})
            if examples := body.get("examples"):
                body["examples"] = dict(sorted(examples.items(), key=lambda named: _rank(named[1]["value"], live)))
                for example in examples.values():
                    _narrow(example, live)
    return result


def _rank(value: Body, live: set[str]) -> tuple[bool, bool]:
    schema = _schema_of(value)
    return schema not in live, schema != settings.DEFAULT_SCHEMA


def _narrow(example: Document, live: set[str]) -> None:
    """Keep only the rows of a list whose schema has a champion, if any has. Mark a single one without a champion."""
    rows = example["value"].get("transactions")
    if rows:
        example["value"] = {"transactions": [row for row in rows if _schema_of(row) in live] or rows}
    elif _schema_of(example["value"]) not in live:
        example["summary"] = f"{example['summary']} (has no champion yet)"


def _schema_of(row: Body) -> str:
    return str(row.get("schema", settings.DEFAULT_SCHEMA))
