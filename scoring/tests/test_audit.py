"""The audit trail: who did or saw what, and that nobody changes it unnoticed."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import Error, connection, connections, transaction
from django.urls import reverse
from django.utils import timezone

from fraudsite.audit import chain, trail
from fraudsite.audit.models import Entry, Link, next_hash
from scoring.clients import keys
from scoring.models import Label
from scoring.reviews import labelling
from training.core.exceptions import FraudsiteError

pytestmark = pytest.mark.django_db

TRAIL = reverse("admin:audit_entry_changelist")
REVIEWS = reverse("admin:scoring_review_changelist")


def latest(**wanted):
    return Entry.objects.filter(**wanted).order_by("pk").last()


def page_of(review):
    return reverse("admin:scoring_review_change", args=[review.pk])


def test_it_tells_who_saw_a_review_from_where_and_who_saw_it_in_a_list(client, alert, alice):
    review = alert(0.9)
    client.force_login(alice)
    client.get(REVIEWS, {"state": "all"}, REMOTE_ADDR="203.0.113.7")
    listed = latest(action="listed")
    assert (listed.person, listed.origin, listed.kind) == ("alice", "203.0.113.7", "scoring.review")
    assert json.loads(listed.detail) == {"page": "changelist", "query": "state=all", "rows": [str(review.pk)]}
    answer = client.get(page_of(review))
    seen = latest(action="seen")
    assert (seen.person, seen.kind, seen.object_id) == ("alice", "scoring.review", str(review.pk))
    assert seen.request_id == answer["X-Request-ID"]
    assert latest(action="claimed").object_id == str(review.pk)


def test_a_page_that_is_refused_or_only_polls_was_not_seen(client, alert, alice, otto):
    review = alert(0.9)
    for person, address in ((otto, page_of(review)), (alice, reverse("admin:scoring_review_open"))):
        client.force_login(person)
        before = Entry.objects.count()
        client.get(address)
        assert Entry.objects.count() == before


def test_it_tells_who_decided_and_a_decision_that_fails_leaves_no_entry(client, alert, alice):
    review = alert(0.9)
    client.force_login(alice)
    client.post(page_of(review), {"decide": "fraud", "note": "Called the holder"})
    decided = latest(action="decided")
    assert (decided.person, decided.object_id) == ("alice", str(review.pk))
    assert decided.detail == "fraud, analyst, Called the holder"
    before = Entry.objects.count()
    with transaction.atomic():
        labelling.reopen_review(review=review, author=alice, reason="Wrong")
        transaction.set_rollback(True)
    assert Entry.objects.count() == before


def test_it_tells_what_was_exported(client, rita, alert):
    from scoring.lists import changes

    row = changes.create(schema="ulb", name="stolen", about="Amount", action="", max_amount=None, note="", by="x")
    client.force_login(rita)
    answer = client.get(reverse("admin:scoring_policylist_export", args=[row.pk]))
    assert answer["Content-Disposition"].startswith("attachment")
    exported = latest(action="exported")
    assert (exported.person, exported.kind, exported.object_id) == ("rita", "scoring.policylist", str(row.pk))


def test_it_tells_who_signed_in_and_who_failed_and_keeps_no_password(client, alice):
    sign_in = reverse("admin:login")
    client.post(sign_in, {"username": "alice", "password": "guess"})
    assert latest().action == "refused"
    assert latest().person == "alice"
    client.post(sign_in, {"username": "alice-password", "password": ""})
    client.post(sign_in, {"username": "alice-password", "password": "x"})
    client.post(sign_in, {"username": "alice", "password": "alice-password"})
    assert latest(action="signed_in").person == "alice"
    client.post(reverse("admin:logout"))
    assert latest().action == "signed_out"
    assert not Entry.objects.filter(person="alice-password").exists()


def test_it_tells_of_keys_models_policies_and_accounts(client, ada, acme, champion, alice):
    keys.create(client=acme)
    assert latest(kind="scoring.apikey").action == "added"
    promoted = latest(kind="training.modelversion")
    assert (promoted.action, promoted.object_id) == ("changed", champion.pk)
    client.force_login(ada)
    client.post(reverse("admin:auth_group_add"), {"name": "Night shift"})
    added = latest(kind="auth.group")
    assert (added.person, added.action) == ("ada", "added")


def test_labels_of_clients_are_one_entry_a_call(acme_api, transaction):
    row = transaction(transaction_id="order-1")
    said = {"transaction_id": "order-1", "event_time": timezone.now().isoformat()}
    labels = [said | {"kind": kind} for kind in ("disputed", "fraud")]
    before = Entry.objects.filter(action="labelled").count()
    acme_api.post("/api/v1/labels/batch", {"labels": labels}, content_type="application/json")
    assert Label.objects.filter(transaction=row).count() == 2
    assert Entry.objects.filter(action="labelled").count() == before + 1
    assert str(row.pk) in latest(action="labelled").detail


def test_nothing_in_it_holds_what_people_search_for_but_ids_of_rows(client, alice, alert):
    review = alert(0.9)
    client.force_login(alice)
    for term in ("4111111111111111", "ann.smith@example.com"):
        client.get(REVIEWS, {"q": term})
        assert term.partition("@")[0] not in latest(action="listed").detail
    client.get(REVIEWS, {"q": str(review.pk)})
    assert f"q={review.pk}" in latest(action="listed").detail


def test_of_commands_it_keeps_what_they_do_and_no_identifiers_or_passwords():
    from fraudsite import command_line

    command_line._record(["manage.py", "lists", "add", "stolen", "ann.smith@example.com"])
    assert (latest().object_id, latest().detail) == ("lists", "add")
    command_line._record(["manage.py", "shell", "-c", "a password"])
    assert (latest().object_id, latest().detail) == ("shell", "")


@pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
@pytest.mark.parametrize(("table", "change"), [("audit_entry", "person = 'eve'"), ("audit_link", "hash = ''")])
def test_nobody_changes_or_removes_entries_by_sql(statement, table, change):
    if statement.startswith("TRUNCATE") and connection.vendor == "sqlite":
        pytest.skip("SQLite has no TRUNCATE.")
    trail.record("changed", detail="Something.")
    if connection.vendor == "postgresql":
        connection.check_constraints()  # adds the link, as a commit does
    with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table, change))


@pytest.fixture
def five(db):
    """Five linked entries and no trigger that keeps them. All of it is rolled back."""
    for number in range(5):
        trail.record("changed", kind="scoring.client", object_id=number, detail=f"Change {number}.")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in ("audit_entry", "audit_link"):
            if connection.vendor == "postgresql":
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER audit_refuse")
            else:
                cursor.execute(f"DROP TRIGGER {table}_update")
                cursor.execute(f"DROP TRIGGER {table}_delete")
    newest = Link.objects.order_by("-number").select_related("entry")[:5]
    return [link.entry for link in reversed(newest)]


def forge(entry, link):
    entry.detail = "Nothing."
    entry.digest = entry.compute_digest()
    entry.save()


def remove(entry, link):
    Entry.objects.filter(pk=entry.pk)._raw_delete("default")


def remove_with_its_link(entry, link):
    Link.objects.filter(pk=link.pk).delete()
    remove(entry, link)


@pytest.mark.parametrize("column", ["at", "action", "person", "origin", "request_id", "kind", "object_id", "detail"])
def test_it_names_the_first_entry_that_was_changed(five, column):
    call_command("verify_audit")
    for entry in five[2:4]:
        setattr(entry, column, entry.at.replace(year=2001) if column == "at" else "another")
        entry.save()
    with pytest.raises(FraudsiteError, match=rf"Entry {five[2].pk}, number {five[2].link.number} .* was changed"):
        call_command("verify_audit")


@pytest.mark.parametrize("how", [forge, remove, remove_with_its_link])
def test_it_names_an_entry_that_was_forged_or_removed(five, how, monkeypatch):
    monkeypatch.setattr(chain, "ROWS", 2)
    number = five[2].link.number
    how(five[2], five[2].link)
    with pytest.raises(FraudsiteError, match=rf"{number}\b"):
        call_command("verify_audit")


def test_an_anchor_tells_of_a_removed_end_and_of_a_trail_written_anew(five):
    anchor = chain.verify().head
    assert chain.verify(anchor=anchor).head == anchor
    link = five[4].link
    number, _, _ = anchor.partition(":")
    with pytest.raises(FraudsiteError, match="written anew"):
        chain.verify(anchor=f"{number}:{'0' * 64}")
    remove_with_its_link(five[4], link)
    chain.verify()
    with pytest.raises(FraudsiteError, match="the end was removed"):
        chain.verify(anchor=anchor)


def test_after_old_entries_were_removed_the_anchor_vouches_for_the_rest(five):
    last_removed = five[1].link
    anchor = str(last_removed)
    for link in Link.objects.filter(number__lte=last_removed.number):
        remove_with_its_link(Entry(pk=link.entry_id), link)
    with pytest.raises(FraudsiteError):
        chain.verify()
    assert chain.verify(anchor=anchor).entries == 3


@pytest.mark.skipif(connection.vendor != "postgresql", reason="The docs give the statements for PostgreSQL.")
def test_the_statements_of_the_docs_remove_old_entries_and_nothing_else():
    page = (settings.BASE_DIR / "docs" / "operators.md").read_text()
    (statements,) = re.findall(r"```sql\n(.+?)```", page.partition("**Retention.**")[2], re.DOTALL)
    select, delete = statements.split("BEGIN;")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # each entry gets its link at once
        for _ in range(2):
            trail.record("changed", detail="Old.")
        day = timezone.now().isoformat()
        for _ in range(3):
            trail.record("changed", detail="New.")
        cursor.execute(select.replace("2026-01-01", day))
        number, found = cursor.fetchone()
        cursor.execute(delete.replace("1234", str(number)).replace("COMMIT;", ""))
    assert set(Entry.objects.values_list("detail", flat=True)) == {"New."}
    assert chain.verify(anchor=f"{number}:{found}").entries == Link.objects.count() == 3
    with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_entry")


def test_the_chain_is_the_one_that_the_docs_tell(five):
    earlier, later = five[0].link, five[1].link
    assert later.hash == next_hash(earlier.hash, five[1].digest)


@pytest.mark.django_db(transaction=True)
def test_many_writers_make_one_unbroken_chain():
    before = Link.objects.count()

    def write(number):
        try:
            for _ in range(5):
                with transaction.atomic():
                    trail.record("changed", detail=f"Writer {number}.")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert Link.objects.count() == before + 20
    chain.verify()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no roles.")
def test_the_role_of_the_application_adds_entries_and_can_do_nothing_else_to_them():
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS fraudsite_test")
        cursor.execute("CREATE ROLE fraudsite_test")
        try:
            call_command("application_role", "fraudsite_test")
            cursor.execute("SET ROLE fraudsite_test")
            before = Link.objects.count()
            trail.record("changed", detail="By the application.")
            assert Link.objects.count() == before + 1
            for statement in (
                "UPDATE audit_entry SET person = 'eve'",
                "DELETE FROM audit_entry",
                "TRUNCATE audit_entry CASCADE",
                "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
                "DROP TABLE audit_entry CASCADE",
                "UPDATE audit_link SET hash = ''",
                "DELETE FROM audit_link",
                "INSERT INTO audit_link (number, entry_id, hash) VALUES (1000000, 1000000, '')",
                "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE sql AS ''",
            ):
                with pytest.raises(Error, match=r"permission denied|must be owner"):
                    cursor.execute(statement)
            cursor.execute("UPDATE scoring_client SET name = name")
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP OWNED BY fraudsite_test")
            cursor.execute("DROP ROLE fraudsite_test")
        with pytest.raises(CommandError, match="There is no role"):
            call_command("application_role", "fraudsite_test")
        cursor.execute("SELECT current_user")
        with pytest.raises(CommandError, match="owns the tables"):
            call_command("application_role", cursor.fetchone()[0])


def test_auditors_search_it_by_person_and_by_object_and_others_do_not_see_it(client, audrey, alice, alert):
    review = alert(0.9)
    client.force_login(alice)
    client.get(REVIEWS)
    client.get(page_of(review))
    assert client.get(TRAIL).status_code == 403
    client.force_login(audrey)
    client.get(reverse("admin:scoring_client_changelist"))
    by_object = client.get(TRAIL, {"q": str(review.pk)}).content.decode()
    assert by_object.count("Saw in a list") == 2  # the filter and the row
    by_person = client.get(TRAIL, {"q": "alice"}).content.decode()
    assert str(review.pk) in by_person
    assert "audrey" not in by_person.partition('id="result_list"')[2]
    entry = client.get(reverse("admin:audit_entry_change", args=[latest(action="claimed").pk])).content.decode()
    assert str(review.pk) in entry


def test_not_even_a_superuser_changes_it_in_the_admin(admin_client):
    trail.record("changed", detail="Something.")
    address = reverse("admin:audit_entry_change", args=[latest().pk])
    assert admin_client.post(address, {"detail": "Nothing."}).status_code == 403
    assert admin_client.get(reverse("admin:audit_entry_add")).status_code == 403
    assert admin_client.get(reverse("admin:audit_entry_delete", args=[latest().pk])).status_code == 403
