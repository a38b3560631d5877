"""Writes a draft as commented TOML."""

import json
import textwrap
from collections.abc import Iterable
from typing import Any

WIDTH = 118


def schema_text(
    head: Iterable[str], declared: dict[str, Any], tables: dict[str, dict[str, Any]], lists: list[tuple[str, Any]]
) -> str:
    """A schema's file: comments, its keys, its tables, and its repeatable tables, each with its remarks above it."""
    parts = ["\n".join(comment(line) for line in head), _keys(declared)]
    parts += [f"[{name}]\n{_keys(table)}" for name, table in tables.items() if table]
    for name, proposed in lists:
        remarks = "".join(f"{comment(remark)}\n" for remark in proposed.remarks)
        parts.append(f"{remarks}[[{name}]]\n{_keys(proposed.table)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def config_text(head: Iterable[str], sections: dict[str, dict[str, Any]]) -> str:
    """A training configuration's file."""
    return schema_text(head, {}, sections, [])


def comment(text: str) -> str:
    """A comment, in which TOML has no control characters."""
    text = "".join(letter if letter.isprintable() or letter.isspace() else "\ufffd" for letter in text)
    return textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _keys(table: dict[str, Any]) -> str:
    return "\n".join(f"{_key(name)} = {_value(value)}" for name, value in table.items())


def _key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if value.is_integer() and abs(value) < 1e15 else repr(value)
    # Strings, booleans and lists of them are written in TOML as in JSON.
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace("\x7f", "\\u007f")
