"""Every declaration of a schema that a process has seen, by its hash: kept in the database for all the others."""

from training.core.exceptions import SchemaInvalid, SchemaNotFound
from training.core.schema import Schema, loaded, parse_schema
from training.models import SchemaVersion


def remember() -> None:
    """Store the declarations of this process's files that are new."""
    known = set(SchemaVersion.objects.values_list("schema", "hash"))
    new = [
        SchemaVersion(schema=schema.name, hash=schema.hash, text=text)
        for schema, text in loaded.written
        if (schema.name, schema.hash) not in known
    ]
    if new:
        SchemaVersion.objects.bulk_create(new, ignore_conflicts=True)


def find(name: str, hash_: str) -> Schema:
    """A declaration by its hash, from memory or else from the database.

    Raises:
        SchemaNotFound: no process has seen it; or it is of a version of Fraudsite that read its text differently.
    """
    if schema := loaded.version(name, hash_):
        return schema
    row = SchemaVersion.objects.filter(schema=name, hash=hash_).first()
    unknown = f"No process of this version has seen the declaration {hash_[:12]} of the schema {name}."
    if row is None:
        raise SchemaNotFound(unknown)
    try:
        schema = parse_schema(name, row.text)
    except SchemaInvalid as error:
        raise SchemaNotFound(f"{unknown} {error}") from error
    if schema.hash != hash_:
        raise SchemaNotFound(unknown)
    loaded.add(schema)
    return schema
