"""Models against the declarations of their schemas, and the histories that they read."""

from collections.abc import Iterator

from fraudsite.doctor.findings import Finding, error, ok, warning
from scoring import served
from training import registry
from training.core.exceptions import BundleRefused, FraudsiteError
from training.core.schema import Schema

# Of each entity; a schema with more has more, and they are of one age.
HISTORIES_LOOKED_AT = 100_000


def champions() -> Iterator[Finding]:
    served.look()
    found = list(registry.champions())
    if not found:
        yield error("model", "No model decides.", "Train one: `manage.py train --schema NAME`. The first one decides.")
    for version in found:
        try:
            registry.load(version)
        except BundleRefused as fault:
            remedy = "Restore the bundle, or promote another: `manage.py models promote VERSION`."
            yield error("model", f"{version} cannot be loaded: {fault}", remedy)
        else:
            yield ok("model", f"{version} decides on {version.schema}; its bundle is signed and whole.")
    for name, reasons in served.now().held.items():
        remedy = f"Train a model of the changed file: `manage.py train --schema {name}`."
        yield warning("schema", f"The file of {name} does not serve yet: {'; '.join(reasons)}", remedy)


def histories() -> Iterator[Finding]:
    for name in sorted(registry.live_schemas()):
        try:
            schema = registry.declaration_in_force(name)
        except FraudsiteError as fault:
            yield error("schema", f"{name}: {fault}", "Restore its file or its model.")
            continue
        yield from _of(schema)


def _of(schema: Schema) -> Iterator[Finding]:
    from scoring.worker.histories import counted  # numba takes a second to load

    for entity in schema.entities:
        looked_at, stale = counted(schema, entity.name, limit=HISTORIES_LOOKED_AT)
        words = f"{schema.name}: {stale:,} of {looked_at:,} histories of {entity.name} are stale."
        if stale:
            yield error("histories", words, f"Run `manage.py rebuild_histories --schema {schema.name}`.")
        elif looked_at:
            yield ok("histories", words)
