"""Where schemas and their training configurations are: in the package, and in a directory of one's own.

`training.core.schema.look_in` says which directory that is. This module imports nothing large: the settings use it.
"""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")  # as long as the columns of the database
NAME_RULE = "letters, digits, - and _, at most 32 of them"

own: Path | None = None


def schema_dirs() -> list[Path]:
    return [PACKAGE / "schemas", *([own] if own else [])]


def schema_files(name: str) -> list[Path]:
    """The files of this name, in the package first. A name that no schema may have has none."""
    files = [directory / f"{name}.toml" for directory in schema_dirs()] if NAME.fullmatch(name) else []
    return [path for path in files if path.is_file()]


def config_dirs() -> list[Path]:
    return [PACKAGE / "configs", *([own / "configs"] if own else [])]


def names_in(directories: list[Path]) -> tuple[str, ...]:
    """The names of the schemas in some directories, sorted. Hidden files are none."""
    return tuple(sorted({path.stem for directory in directories for path in directory.glob("[!.]*.toml")}))
