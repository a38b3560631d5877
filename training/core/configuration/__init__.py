"""The training configuration: the settings declared in `sections`, with the values of a TOML file and overrides."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from training.core import places
from training.core.configuration.sections import SETTINGS, Configuration, Setting
from training.core.exceptions import ConfigurationError, did_you_mean
from training.core.schema import load_schema, schema_names

PROTOCOLS = SETTINGS["split.protocol"].choices

# Values by `section.key`, and by section and key.
Overrides = dict[str, Any]
Sections = dict[str, dict[str, Any]]


def path_of(schema: str, protocol: str | None = None) -> Path | None:
    """The configuration that a schema has, for the protocol if there is one. None if there are only the defaults."""
    names = (f"{schema}-{protocol}", schema)
    paths = (directory / f"{name}.toml" for name in names for directory in places.config_dirs())
    return next((path for path in paths if path.is_file()), None)


def recipes_of(schema: str) -> list[Path]:
    """Every configuration that a schema has, its own first: `<schema>.toml`, then `<schema>-….toml`."""
    own = path_of(schema)
    further = [path for directory in places.config_dirs() for path in directory.glob(f"{schema}-*.toml")]
    return [*([own] if own else []), *sorted(path for path in further if path.stem not in schema_names())]


def read(path: Path | None = None, overrides: Overrides | None = None) -> Configuration:
    """Read a configuration: the defaults, replaced by the values of `path`, replaced by overrides like
    `{"model.dropout": 0.3}`.

    Raises:
        ConfigurationError: the file is not TOML; or a section or key is not declared, or a value has another type, is
            out of bounds or is none of the choices.
    """
    checked: Overrides = {}
    for name, value in ((_values(path) if path else {}) | (overrides or {})).items():
        if name not in SETTINGS:
            raise ConfigurationError(
                f"There is no setting {name}.{did_you_mean(name, SETTINGS)} Known: {', '.join(SETTINGS)}."
            )
        checked[name] = _checked(SETTINGS[name], value)
    config = with_overrides(Configuration(), checked)
    data = config.data
    parquet = data.parquet or f"{data.schema}/transactions.parquet"
    return replace(config, data=replace(data, parquet=parquet))


def with_overrides(config: Configuration, overrides: Mapping[str, object]) -> Configuration:
    """The configuration with some settings replaced by values that were checked already."""
    changed = as_json(config)
    for name, value in overrides.items():
        section, key = name.split(".")
        changed[section][key] = value
    return from_json(changed)


def as_json(config: Configuration) -> Sections:
    """A configuration as runs and studies keep it."""
    sections: Sections = msgspec.to_builtins(config)
    return sections


def from_json(sections: Mapping[str, Mapping[str, object]]) -> Configuration:
    """Read a configuration that was kept. Settings that an older one does not have are the defaults.

    Raises:
        ConfigurationError: a value has another type, is out of bounds or is none of the choices.
    """
    try:
        return msgspec.convert(sections, Configuration)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The kept configuration cannot be used: {error}.") from error


def _checked(setting: Setting, value: Any) -> Any:
    """The value, of the setting's type; see `read`."""
    name = setting.name
    if setting.type is float and type(value) is int:
        value = float(value)
    if type(value) is not setting.type:
        raise ConfigurationError(f"{name} must be of type {setting.type.__name__}, like {setting.default!r}.")
    if setting.choices and value not in setting.choices:
        *others, last = setting.choices
        raise ConfigurationError(f"{name} must be {', '.join(others)} or {last}, not {value}.")
    if setting.low is not None and setting.high is not None:
        for item in value if isinstance(value, list) else [value]:
            if type(item) is not type(setting.low) or not setting.low <= item <= setting.high:
                raise ConfigurationError(f"{name} must lie between {setting.low} and {setting.high}, unlike {item!r}.")
    return value


def chosen(schema: str | None, path: Path | None, overrides: Overrides) -> Configuration:
    """Read the configuration for a command or form: the one in `path`, or else the one that the schema has.

    The schema is given as `schema`, as the override `data.schema` or in the file; the default is that of the defaults.

    Raises:
        SchemaNotFound: there is no such schema.
        ConfigurationError: see `read`; or two different schemas were named.
    """
    in_file = (_values(path) if path else {}).get("data.schema")
    named = {
        "--schema": schema,
        "data.schema of --set": overrides.get("data.schema"),
        f"data.schema of {path}": in_file,
    }
    given = {where: name for where, name in named.items() if name is not None}
    if len(set(given.values())) > 1:
        both = " and ".join(f"{where} is {name}" for where, name in given.items())
        raise ConfigurationError(f"Two schemas are named: {both}. Name one.")
    name = next(iter(given.values()), None) or Configuration().data.schema
    load_schema(str(name))
    path = path or path_of(name, overrides.get("split.protocol"))
    return read(path, {"data.schema": name} | overrides)


def _values(path: Path) -> Overrides:
    try:
        return parse(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse(text: str) -> Overrides:
    """Read TOML as overrides.

    >>> parse("[model]\\ndropout = 0.3")
    {'model.dropout': 0.3}

    Raises:
        ConfigurationError: it is not TOML.
    """
    try:
        declared = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(str(error)) from error
    return {
        f"{section}.{key}": value
        for section, keys in declared.items()
        for key, value in (keys.items() if isinstance(keys, dict) else [("", keys)])
    }


def parse_override(text: str) -> tuple[str, Any]:
    """Read `section.key=value`, the value as in TOML; a bare word is a string.

    >>> parse_override("model.dropout=0.3"), parse_override("split.protocol=seed")
    (('model.dropout', 0.3), ('split.protocol', 'seed'))
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigurationError(f"Write section.key=value instead of {text!r}.")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return name, value
