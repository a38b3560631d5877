"""Makes docs/hyperparameters.md from the declarations: `python -m training.core.configuration.reference` prints it."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import fields

from training.core.configuration.sections import SETTINGS, Between, Configuration, Setting, Tried

HEAD = """# Hyperparameters

The settings of `manage.py train` and `tune`. This page is generated from `training/core/configuration/sections.py`,
where each setting is declared; after a change there generate it again:
`.venv/bin/python -m training.core.configuration.reference > docs/hyperparameters.md`.

Override any of them with a TOML file (`--config`), which has these sections as tables, or one by one:
`--set model.dropout=0.3`. `training/configs/`, and `SCHEMAS_DIR/configs/` of schemas of your own, have what differs
from these defaults. Bounds are inclusive. *only* names the one architecture, protocol or choice that uses a setting.
The column *tune* has the values that `tune` tries.
"""


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD]
    for section in fields(Configuration):
        settings = [setting for setting in SETTINGS.values() if setting.name.startswith(f"{section.name}.")]
        rows = ["| setting | default | may be | meaning | only | tune |", f"|{' --- |' * 6}"]
        rows += [f"| {' | '.join(_cells(setting))} |" for setting in settings]
        parts += [f"## {section.name}", f"{section.type.__doc__}\n", *rows, ""]
    return "\n".join(parts)


def _cells(setting: Setting) -> list[str]:
    _, key = setting.name.split(".")
    default = _written(setting.default) if setting.default != "" else "empty"
    only = f"`{setting.only}`" if setting.only else ""
    return [f"`{key}`", default, values(setting), setting.meaning, only, _tried(setting.tried)]


def values(setting: Setting) -> str:
    """The allowed values, as text."""
    if setting.choices:
        return ", ".join(setting.choices)
    if setting.low is None or setting.high is None:
        return "true, false" if setting.type is bool else "a word"
    items = "a list, each " if setting.type is list else ""
    return f"{items}{_written(setting.low)} to {_written(setting.high)}{f' {setting.unit}' if setting.unit else ''}"


def _tried(tried: Tried | Mapping[str, Tried] | None) -> str:
    if tried is None:
        return ""
    if isinstance(tried, Mapping):
        return "; ".join(f"`{architecture}`: {_tried(of_it)}" for architecture, of_it in tried.items())
    if isinstance(tried, Between):
        return f"{_written(tried.low)} to {_written(tried.high)}{', by its logarithm' if tried.log else ''}"
    return ", ".join(_written(item) for item in tried)


def _written(value: Any) -> str:
    """A value as in TOML, but with separators in whole numbers."""
    return f"{value:,}" if type(value) is int else json.dumps(value).strip('"')


if __name__ == "__main__":
    print(page(), end="")
