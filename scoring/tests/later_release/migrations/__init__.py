"""The migrations of `scoring`, and two more."""

from pathlib import Path

from scoring import migrations

__path__ = [*__path__, *migrations.__path__]
NEWEST = max(path.stem for path in Path(migrations.__path__[0]).glob("[0-9]*.py"))
