"""The schemas that a process has read. A file that has changed is read again while the process runs."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.core import places
from training.core.exceptions import SchemaInvalid, SchemaNotFound, did_you_mean

if TYPE_CHECKING:
    from training.core.schema import Schema

# Differs if the content of a schema's file does; None if there is no file.
Stamp = tuple[object, ...] | None


@dataclass(frozen=True)
class Standing:
    """What was last read of a file.

    `schema` is its latest valid declaration, and `text` that declaration's text. `fault` says why the file as it is now
    is none; it is empty if it is valid.
    """

    stamp: Stamp
    schema: "Schema | None"
    text: str
    fault: str


class Store:
    """Reads files at the first use. `parse` makes a schema of a name and the text of its file."""

    def __init__(self, parse: "Callable[[str, str], Schema]") -> None:
        self._parse = parse
        self._lock = threading.RLock()
        self.forget()

    def forget(self) -> None:
        """Read all files anew at the next use."""
        with self._lock:
            self._standings: dict[str, Standing] | None = None
            self._current: dict[str, Schema] = {}
            self._seen: dict[str, Stamp] = {}
            self._versions: dict[tuple[str, str], Schema] = {}

    @property
    def current(self) -> "Mapping[str, Schema]":
        """The latest valid declaration of each file, by name. It is another object once one of them has changed."""
        self._read()
        return self._current

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all files, also of those without a valid declaration."""
        return tuple(sorted(self._read()))

    @property
    def faults(self) -> dict[str, str]:
        """Why files are not valid now, by name."""
        return {name: standing.fault for name, standing in sorted(self._read().items()) if standing.fault}

    def load(self, name: str) -> "Schema":
        """What a file declares now.

        Raises:
            SchemaNotFound: there is no such file.
            SchemaInvalid: it is not valid. `current` may have an earlier declaration of it.
        """
        if name not in self._read() and name in places.names_in(places.schema_dirs()):
            with self._lock:
                self._take(name, _stamp(name))
        standing = self._read().get(name)
        if standing is None:
            known = self.names
            raise SchemaNotFound(
                f"There is no schema {name!r}.{did_you_mean(name, known)} Known schemas: {', '.join(known)}."
            )
        if standing.fault or standing.schema is None:
            raise SchemaInvalid(standing.fault)
        return standing.schema

    @property
    def written(self) -> "list[tuple[Schema, str]]":
        """The latest valid declaration of each file, and its text."""
        return [(standing.schema, standing.text) for standing in self._read().values() if standing.schema]

    def version(self, name: str, hash_: str) -> "Schema | None":
        """A declaration by its hash: that of a file, now or before, or one that was added. None if it is unknown."""
        self._read()
        return self._versions.get((name, hash_))

    def add(self, schema: "Schema") -> None:
        """Know a declaration that is in no file any more."""
        self._versions[schema.name, schema.hash] = schema

    def look(self, *, settled: bool = True) -> list[str]:
        """Read the files again that have changed. Returns their names.

        If `settled`, a file must look the same as at the look before, as it may be half written.
        """
        with self._lock:
            standings = self._read()
            stamps = {name: _stamp(name) for name in {*standings, *places.names_in(places.schema_dirs())}}
            changed = sorted(
                name
                for name, stamp in stamps.items()
                if stamp != (standings[name].stamp if name in standings else None)
                and (not settled or (name in self._seen and self._seen[name] == stamp))
            )
            self._seen = stamps
            for name in changed:
                self._take(name, stamps[name])
            return changed

    def _read(self) -> dict[str, Standing]:
        if self._standings is None:
            with self._lock:
                if self._standings is None:
                    read = {name: self._standing(name, _stamp(name)) for name in places.names_in(places.schema_dirs())}
                    self._current = {name: each.schema for name, each in sorted(read.items()) if each.schema}
                    self._standings = read
        return self._standings

    def _take(self, name: str, stamp: Stamp) -> None:
        """Take a file as it is now. Other threads go on with what they have."""
        standings = dict(self._read())
        if stamp is None:
            standings.pop(name, None)
        else:
            standings[name] = self._standing(name, stamp, standings.get(name))
        self._standings = standings
        self._current = {name: each.schema for name, each in sorted(standings.items()) if each.schema}

    def _standing(self, name: str, stamp: Stamp, before: Standing | None = None) -> Standing:
        try:
            text = read_text(_file_of(name))
            schema = self._parse(name, text)
        except SchemaInvalid as error:
            fault = str(error)
        except Exception as error:  # a file may hold anything, and must not end the process that looks at it
            fault = f"Schema {name}: it cannot be read: {type(error).__name__}: {error}"
        else:
            self.add(schema)
            return Standing(stamp, schema, text, "")
        return replace(before, stamp=stamp, fault=fault) if before else Standing(stamp, None, "", fault)


def read_text(path: Path) -> str:
    """The text of a schema's file.

    Raises:
        SchemaInvalid: it cannot be read, or is not in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SchemaInvalid(f"Schema {path.stem}: {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SchemaInvalid(f"Schema {path.stem}: {path} is not written in UTF-8.") from error


def _file_of(name: str) -> Path:
    found = places.schema_files(name)
    if not found:
        raise SchemaInvalid(f"{name}.toml: the name of a schema has {places.NAME_RULE}. Rename the file.")
    if len(found) > 1:
        raise SchemaInvalid(f"Schema {name}: {found[1]} has the name of a schema of the package. Rename it.")
    return found[0]


def _stamp(name: str) -> Stamp:
    paths = [directory / f"{name}.toml" for directory in places.schema_dirs()]
    try:
        found = [path.stat() for path in paths if path.is_file()]
    except OSError as error:
        return (error.errno,)
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found) or None
