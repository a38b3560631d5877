"""Dataset schemas: what a transaction looks like, declared once per dataset in `training/schemas/<name>.toml`.

Ingest, the predict endpoint, its OpenAPI document, training and drift all read the same declaration.
"""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path

from training.exceptions import SchemaNotFound

SCHEMAS_DIR = Path(__file__).parent / "schemas"


@dataclass(frozen=True)
class Field:
    """One numeric input.

    `minimum` and `maximum` are inclusive, in `unit`.
    """

    name: str
    unit: str
    minimum: float
    maximum: float
    description: str


@dataclass(frozen=True)
class Schema:
    """A dataset's declaration.

    `features` are in the order in which the model takes them; `amount` and `time` name the features that hold the
    money and the moment; `label` is the training column (1 fraud, 0 legitimate), never part of a request;
    `past_days` is how far back the event time of a request may lie.
    """

    name: str
    title: str
    features: tuple[Field, ...]
    amount: str
    time: str
    label: str
    past_days: int

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.features)

    @property
    def hash(self) -> str:
        """SHA-256, as hex, of everything that a model or a client could notice."""
        declared = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(declared.encode()).hexdigest()


@cache
def load_schema(name: str) -> Schema:
    """Read a schema by name.

    Raises:
        SchemaNotFound: no file of that name in `training/schemas`.
    """
    path = SCHEMAS_DIR / f"{name}.toml"
    if path.parent != SCHEMAS_DIR or not path.is_file():
        known = ", ".join(sorted(file.stem for file in SCHEMAS_DIR.glob("*.toml")))
        raise SchemaNotFound(f"There is no schema {name!r}. Known schemas: {known}.")
    declared = tomllib.loads(path.read_text())
    fields = tuple(Field(**field) for field in declared.pop("feature"))
    return Schema(name=name, features=fields, **declared)
