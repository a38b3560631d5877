"""The triggers that make the chain and keep the trail append-only.

The database makes the chain, not the program: entries are added without waiting for each other, and get their link as
their transaction commits, one transaction after the other. So the chain is whole however many programs write, and a
transaction that takes long holds nobody up.
"""

from django.db import migrations

ORDER = ["audit_entry", "audit_link"]
REFUSAL = "The audit trail is append-only."

POSTGRESQL = f"""
CREATE FUNCTION audit_add_link() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    last audit_link%ROWTYPE;
BEGIN
    -- Until the transaction has ended, so that the next one sees this link. The number is that of this chain alone.
    PERFORM pg_advisory_xact_lock(7016996761137537);
    SELECT * INTO last FROM audit_link ORDER BY number DESC LIMIT 1;
    INSERT INTO audit_link (number, entry_id, hash) VALUES (
        coalesce(last.number, 0) + 1,
        NEW.id,
        encode(sha256(convert_to(coalesce(last.hash, '') || NEW.digest, 'UTF8')), 'hex')
    );
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER audit_add_link AFTER INSERT ON audit_entry DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_add_link();

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{REFUSAL}';
END $$;
""" + "".join(
    f"""
CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
"""
    for table in ORDER
)

# Django gives SQLite its function SHA256.
SQLITE = [
    """
CREATE TRIGGER audit_add_link AFTER INSERT ON audit_entry BEGIN
    INSERT INTO audit_link (number, entry_id, hash) SELECT
        coalesce(max(number), 0) + 1,
        NEW.id,
        sha256(coalesce((SELECT hash FROM audit_link ORDER BY number DESC LIMIT 1), '') || NEW.digest)
    FROM audit_link;
END
""",
    *(
        f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        for table in ORDER
        for verb in ("UPDATE", "DELETE")
    ),
]


def add_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL, params=None)
    else:
        for statement in SQLITE:
            schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [migrations.RunPython(add_triggers, elidable=False)]
