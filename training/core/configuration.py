"""The training configuration: one TOML file, and overrides that must name what is in it."""

import tomllib
from pathlib import Path
from typing import Any

from training.core.exceptions import ConfigurationError, did_you_mean
from training.core.schema import load_schema

DEFAULT_PATH = Path(__file__).parents[1] / "config.toml"
SCHEMA_CONFIGS_DIR = Path(__file__).parents[1] / "configs"

# What a number may be, both ends included and of the same type; of a list, each of its items.
BOUNDS = {
    "split.test": (0.01, 0.9),
    "split.validation": (0.01, 0.9),
    "split.seed": (0, 2**32 - 1),
    "split.test_days": (1, 3650),
    "split.validation_days": (1, 3650),
    "split.train_days": (1, 3650),
    "split.known_card_days": (0, 3650),
    "model.units": (1, 4096),
    "model.dropout": (0.0, 0.95),
    "model.learning_rate": (1e-7, 1.0),
    "model.batch_size": (1, 2**20),
    "model.epochs": (1, 100_000),
    "model.patience": (0, 100_000),
    "model.members": (1, 64),
    "model.binless_members": (0, 64),
    "model.students": (0, 63),
    "model.bins": (1, 1024),
    "model.weight_decay": (0.0, 10.0),
    "model.legitimate_per_fraud": (0, 100_000),
    "model.draws": (1, 1000),
    "model.seed": (0, 2**32 - 1),
    "xgboost.epochs": (1, 100_000),
    "xgboost.patience": (0, 100_000),
    "xgboost.learning_rate": (1e-4, 1.0),
    "xgboost.depth": (1, 24),
    "xgboost.leaf_weight": (0.0, 1e6),
    "xgboost.row_share": (0.01, 1.0),
    "xgboost.feature_share": (0.01, 1.0),
    "xgboost.l2": (0.0, 1e6),
    "policy.review_precision": (0.0, 1.0),
    "policy.review_cost": (0.0, 1e9),
    "policy.alerts_per_day": (0.0, 1e9),
    "policy.block_precision": (0.0, 1.0),
    "evaluation.bootstrap_resamples": (0, 100_000),
}
PROTOCOLS = ("stratified", "seed", "time")
# What a word may be. `model.architecture` is for `training.core.families` to say.
CHOICES = {
    "split.protocol": PROTOCOLS,
    "policy.choose": ("precision", "cost", "alerts_per_day"),
}


def path_of(schema: str, protocol: str | None = None) -> Path:
    """The configuration that is shipped for a schema: that for the protocol, if there is one, or its own, or else the
    shipped values."""
    for own in (f"{schema}-{protocol}.toml", f"{schema}.toml"):
        if (path := SCHEMA_CONFIGS_DIR / own).is_file():
            return path
    return DEFAULT_PATH


def recipes_of(schema: str) -> list[Path]:
    """Every configuration that is shipped for a schema, the default first: `<schema>.toml`, then `<schema>-….toml`."""
    return [path_of(schema), *sorted(SCHEMA_CONFIGS_DIR.glob(f"{schema}-*.toml"))]


def read(path: Path = DEFAULT_PATH, overrides: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Read a configuration: the shipped values, replaced by those of `path`, replaced by overrides like
    `{"model.dropout": 0.3}`.

    Raises:
        ConfigurationError: not TOML; or a section or key that the shipped file does not have, or a value of another
            type, out of bounds or none of the choices.
    """
    config = tomllib.loads(DEFAULT_PATH.read_text())
    for name, value in (_values(path) | (overrides or {})).items():
        section, _, key = name.partition(".")
        known = config.get(section, {})
        if key not in known:
            every = [f"{section}.{key}" for section, keys in config.items() for key in keys]
            raise ConfigurationError(
                f"There is no setting {name}.{did_you_mean(name, every)} Known: {', '.join(every)}."
            )
        wanted = type(known[key])
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ConfigurationError(f"{name} must be of type {wanted.__name__}, like {known[key]!r}.")
        if name in CHOICES and value not in CHOICES[name]:
            *others, last = CHOICES[name]
            raise ConfigurationError(f"{name} must be {', '.join(others)} or {last}, not {value}.")
        if name in BOUNDS:
            low, high = BOUNDS[name]
            for item in value if isinstance(value, list) else [value]:
                if type(item) is not type(low) or not low <= item <= high:
                    raise ConfigurationError(f"{name} must lie between {low} and {high}, unlike {item!r}.")
        known[key] = value
    config["data"]["parquet"] = config["data"]["parquet"] or f"{config['data']['schema']}/transactions.parquet"
    return config


def chosen(schema: str | None, path: Path | None, overrides: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Read what a command or form was asked for: the configuration in `path`, or else the one shipped for the schema.

    The schema is the one that was named, as `schema` or as the override `data.schema`; or else that of the file; or
    else that of the shipped values.

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
        said = " and ".join(f"{where} is {name}" for where, name in given.items())
        raise ConfigurationError(f"Two schemas are named: {said}. Name one.")
    name = next(iter(given.values()), None) or read()["data"]["schema"]
    load_schema(str(name))
    path = path or path_of(name, overrides.get("split.protocol"))
    return read(path, {"data.schema": name} | overrides)


def _values(path: Path) -> dict[str, Any]:
    try:
        return parse(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """Read TOML as overrides.

    >>> parse("[model]\\ndropout = 0.3")
    {'model.dropout': 0.3}

    Raises:
        ConfigurationError: it is not TOML.
    """
    try:
        declared = tomllib.loads(text)
    except ValueError as error:
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
    except tomllib.TOMLDecodeError:
        return name, value
