"""The declarations that transactions are checked against: of each schema that of its file, as long as it serves.

It does not serve if the champion cannot score what it declares. Then the champion goes on under its own declaration,
until a model of the file's is promoted. The same holds where a file is gone. A process that follows looks at files and
champions every `MODEL_REFRESH_S`, in a thread, so that no call waits for it.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db import Error, close_old_connections, connection

from training import declarations, registry
from training.core.exceptions import BundleRefused, SchemaNotFound
from training.core.schema import Schema, comparison, loaded
from training.models import ModelVersion

logger = logging.getLogger(__name__)

FIRST_LOOK_S = 2.0  # as the database may hang, and a web process has other things to answer


@dataclass(frozen=True, eq=False)
class Served:
    """`schemas` by name. `held` are those whose file does not serve, with the reasons: see `comparison.obstacles`."""

    schemas: Mapping[str, Schema]
    held: Mapping[str, list[str]]


_served = Served({}, {})
_files: Mapping[str, Schema] | None = None
_follows = False
_of_champions: dict[str, Schema] = {}


def now() -> Served:
    """What is served. In a process that does not follow, that is what the files declare."""
    global _served, _files
    if not _follows and _files is not loaded.current:
        _files = loaded.current
        _served = Served(_files, {})
    return _served


def look() -> None:
    """Look at the files and the champions, and serve what they are now.

    Raises:
        django.db.Error: it goes on with what was served before.
    """
    global _served, _files
    before = loaded.faults
    loaded.look()
    for name, fault in loaded.faults.items():
        if before.get(name) != fault:
            logger.error("%s The last valid declaration goes on, if there is one.", fault)
    # Before a transaction is checked against a new declaration, workers must be able to find it.
    declarations.remember()
    files = loaded.current
    found = Served(*_chosen(files))
    for name in sorted(files.keys() | found.schemas.keys()):
        _log_change(name, found)
    _served, _files = found, files


def _chosen(files: Mapping[str, Schema]) -> tuple[dict[str, Schema], dict[str, list[str]]]:
    schemas, held = dict(files), {}
    for champion in registry.champions():
        name, declared = champion.schema, _declaration(champion)
        if declared is None:
            continue
        reasons = comparison.obstacles(declared, files[name]) if name in files else ["it has no valid file"]
        if reasons:
            schemas[name], held[name] = declared, reasons
    return dict(sorted(schemas.items())), held


def _declaration(champion: ModelVersion) -> Schema | None:
    """What a champion was trained under; None if its bundle is not here, as a web server needs none."""
    if champion.pk not in _of_champions:
        try:
            _of_champions[champion.pk] = registry.declaration(champion)
        except (BundleRefused, SchemaNotFound):
            return None
    return _of_champions[champion.pk]


def _log_change(name: str, found: Served) -> None:
    if name not in _served.schemas or (_served.schemas[name], _served.held.get(name)) == (
        found.schemas.get(name),
        found.held.get(name),
    ):
        return
    if reasons := found.held.get(name):
        logger.warning("The file of the schema %s does not serve: its champion goes on. %s", name, "; ".join(reasons))
    elif name in found.schemas:
        logger.warning("The schema %s is served as %s.", name, found.schemas[name].hash[:12])
    else:
        logger.warning("The schema %s is not served any more: its file is gone, and it has no champion.", name)


def follow() -> None:
    """Follow the files and champions from now on, in a thread. Returns after the first look, or once it takes long."""
    global _follows
    now()
    _follows = True
    looked = threading.Event()
    threading.Thread(target=_follow, args=(looked,), name="schemas", daemon=True).start()
    looked.wait(FIRST_LOOK_S)


def _follow(looked: threading.Event) -> None:
    while True:
        close_old_connections()
        try:
            look()
        except Error as error:
            logger.warning("The declarations of schemas were not looked at: %s", error)
        except Exception:  # whatever is wrong with a file, the calls go on
            logger.exception("The declarations of schemas were not looked at.")
        finally:
            connection.close()
            looked.set()
        time.sleep(max(0.1, settings.MODEL_REFRESH_S))
