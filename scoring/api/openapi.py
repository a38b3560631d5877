"""What is done to the OpenAPI document: see SPECTACULAR_SETTINGS."""

from typing import Any

from django.conf import settings
from django.db import Error

from training import registry

MEDIA = "application/json"


def without_slash(endpoints: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The addresses that the document lists: each has a twin with a slash at its end."""
    return [endpoint for endpoint in endpoints if not endpoint[0].endswith("/")]


def working_examples_first(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Put first what can be tried on this installation: examples of a schema that has a champion."""
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


def _rank(value: dict[str, Any], live: set[str]) -> tuple[bool, bool]:
    schema = _schema_of(value)
    return schema not in live, schema != settings.DEFAULT_SCHEMA


def _narrow(example: dict[str, Any], live: set[str]) -> None:
    """Of a list leave the rows that have a champion, where any has; of one without, say so."""
    rows = example["value"].get("transactions")
    if rows:
        example["value"] = {"transactions": [row for row in rows if _schema_of(row) in live] or rows}
    elif _schema_of(example["value"]) not in live:
        example["summary"] = f"{example['summary']} (has no champion yet)"


def _schema_of(row: dict[str, Any]) -> str:
    return str(row.get("schema", settings.DEFAULT_SCHEMA))
