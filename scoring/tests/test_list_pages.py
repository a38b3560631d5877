"""Lists in the admin: their pages, their entries, and the form on the pages of transactions and reviews."""

import time
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import seed_payload, soon
from scoring.lists import changes
from scoring.lists.changes import Addition
from scoring.models import ListEntry, PolicyList
from scoring.policies.expressions import Case
from scoring.worker import lists
from training.core.schema import load_schema

LISTS, ENTRIES = (reverse(f"admin:scoring_{model}_changelist") for model in ("policylist", "listentry"))
CUSTOMER = "a" * 32


@pytest.fixture
def stolen(acme):
    """A list of customers of the handbook who are blocked."""
    return changes.create(schema="handbook", name="stolen", about="customer", action="block", by="ada")


@pytest.fixture
def handbook(transaction):
    tokens = {"customer": CUSTOMER, "terminal": "b" * 32}
    return transaction(schema="handbook", fields={"TX_AMOUNT": 12.5}, tokens=tokens)


def page_of(name, *arguments):
    return reverse(f"admin:scoring_{name}", args=arguments)


def text(response):
    return response.content.decode()


def test_an_entry_of_the_admin_blocks_the_next_call_and_no_longer_after_its_removal(worker, post, client, rita, alice):
    def is_decided(decision):
        answer = soon(lambda: post(seed_payload(Amount=777.5)).json(), lambda answer: answer["decision"] == decision)
        assert answer["decision"] == decision

    client.force_login(rita)
    made = {"subject": "ulb/Amount", "name": "amounts", "action": "block", "max_amount": "", "note": "A test."}
    assert client.post(page_of("policylist_add"), made).status_code == 302
    row = PolicyList.objects.get()
    client.force_login(alice)
    client.post(page_of("policylist_entry", row.pk), {"part_Amount": "777.5", "expires": "", "note": "Seen twice"})
    is_decided("block")
    entry = ListEntry.objects.get()
    client.post(page_of("listentry_change", entry.pk), {"reason": "A mistake"})
    entry.refresh_from_db()
    assert (entry.author, entry.removed_by, entry.removed_because) == ("alice", "alice", "A mistake")
    is_decided("approve")


@pytest.mark.django_db
class TestLists:
    def test_a_list_that_makes_no_sense_is_refused_in_its_form(self, client, rita, stolen):
        client.force_login(rita)
        made = {"subject": "handbook/customer", "name": "stolen", "action": "block", "max_amount": "", "note": ""}
        assert "The name stolen is taken." in text(client.post(page_of("policylist_add"), made))

    def test_what_a_list_does_is_changed(self, client, rita, stolen):
        client.force_login(rita)
        client.post(page_of("policylist_change", stolen.pk), {"action": "review", "max_amount": "500", "note": "Mild"})
        stolen.refresh_from_db()
        assert (stolen.action, stolen.max_amount, stolen.note, stolen.about) == ("review", 500, "Mild", "customer")
        assert "up to 500" in text(client.get(LISTS))

    def test_the_second_of_two_who_change_a_list_is_shown_the_difference(self, client, rita, stolen):
        client.force_login(rita)
        page = page_of("policylist_change", stolen.pk)
        assert 'name="initial-action"' in text(client.get(page))
        sent = {"action": "review", "max_amount": "500", "note": "Mine"}
        sent |= {"initial-action": "block", "initial-max_amount": "", "initial-note": ""}
        changes.change(stolen, action="challenge", max_amount=None, note="Theirs", by="mel")
        refused = text(client.post(page, sent))
        assert "action from block to challenge, note from none to Theirs" in refused
        stolen.refresh_from_db()
        assert (stolen.action, stolen.note) == ("challenge", "Theirs")
        assert 'name="initial-action" value="challenge"' in refused
        client.post(page, sent | {"initial-action": "challenge", "initial-note": "Theirs"})
        stolen.refresh_from_db()
        assert (stolen.action, stolen.max_amount, stolen.note) == ("review", 500, "Mine")

    def test_a_removed_list_is_gone_from_the_pages_and_kept(self, client, rita, stolen):
        client.force_login(rita)
        client.post(page_of("policylist_change", stolen.pk), {"remove": "yes", "reason": "Old"})
        assert "stolen</a>" not in text(client.get(LISTS))
        assert PolicyList.objects.get().removed_at is not None

    def test_a_draft_does_not_count_until_it_is_made_live_and_then_nothing_of_the_list_is_lost(
        self, client, rita, stolen
    ):
        client.force_login(rita)
        made = {"subject": "handbook/customer", "name": "stolen", "action": "review", "note": "", "is_draft": "on"}
        client.post(page_of("policylist_add"), made)
        draft = PolicyList.objects.get(is_draft=True)
        file = SimpleUploadedFile("a.csv", f"key,expires\n{'b' * 32},\n{'c' * 32},2020-01-01\n".encode())
        client.post(page_of("policylist_import", draft.pk), {"file": file})
        for key in (CUSTOMER, "c" * 32):
            changes.add_one(stolen, Addition(key), by="alice")
        schema = load_schema("handbook")
        assert _customers(lists.current(schema, None)) == [("stolen", "block", [CUSTOMER, "c" * 32])]
        client.post(page_of("policylist_change", draft.pk), {"make_live": "yes", "reason": "Tried"})
        assert _customers(lists.current(schema, None)) == [("stolen", "review", [CUSTOMER, "b" * 32])]
        assert "Draft</span>" not in text(client.get(LISTS))

    @pytest.mark.parametrize(
        ("person", "name", "allowed"),
        [
            ("alice", "policylist_add", False),
            ("mel", "policylist_add", False),
            ("rita", "policylist_add", True),
            ("ada", "policylist_add", True),
            ("alice", "listentry_changelist", True),
            ("mel", "listentry_changelist", False),
            ("alice", "policylist_import", True),
            ("mel", "policylist_import", False),
            ("alice", "policylist_export", True),
            ("mel", "policylist_export", False),
        ],
    )
    def test_pages_are_open_to_the_roles_that_need_them(self, client, request, stolen, person, name, allowed):
        client.force_login(request.getfixturevalue(person))
        arguments = [] if name in ("policylist_add", "listentry_changelist") else [stolen.pk]
        assert client.get(page_of(name, *arguments)).status_code == (200 if allowed else 403)


def _customers(held):
    """The lists in a worker: name, action and the customers who are on them now."""
    known = [(key, Case([12.5], [key, ""], time.time())) for key in (CUSTOMER, "b" * 32, "c" * 32)]
    return [(each.name, str(each.action), [key for key, case in known if each.has(case)]) for each in held._lists]


@pytest.mark.django_db
class TestEntries:
    def test_an_entry_is_found_by_what_clients_send_and_its_identifier_is_not_stored(self, client, alice, stolen):
        client.force_login(alice)
        client.post(page_of("policylist_entry", stolen.pk), {"part_customer": "596", "expires": "", "note": "Called"})
        changes.add_one(stolen, Addition(CUSTOMER, note="Another"), by="ada")
        found = text(client.get(ENTRIES, {"list": stolen.pk, "q": "596"}))
        assert "Called" in found
        assert "Another" not in found
        assert "Another" in text(client.get(ENTRIES, {"list": stolen.pk, "q": CUSTOMER[:8]}))
        assert "596" not in ListEntry.objects.get(note="Called").key

    def test_the_second_of_two_who_add_an_entry_is_shown_what_it_replaced(self, client, alice, stolen):
        client.force_login(alice)
        for note in ("First", "Second"):
            sent = {"part_customer": "596", "expires": "", "note": note}
            done = text(client.post(page_of("policylist_entry", stolen.pk), sent, follow=True))
        assert "It took the place of an entry by alice, for ever: First." in done
        assert {(entry.note, entry.removed_by) for entry in stolen.entries.all()} == {
            ("First", "alice"),
            ("Second", ""),
        }

    @pytest.mark.parametrize(
        ("part", "value", "told"),
        [
            ("part_customer", "4111111111111111", "card number"),
            ("expires", "2020-01-01", "expired"),
            ("note", "", "required"),
        ],
    )
    def test_an_entry_that_makes_no_sense_is_refused_in_its_form(self, client, alice, stolen, part, value, told):
        client.force_login(alice)
        sent = {"part_customer": "596", "expires": "", "note": "Called"} | {part: value}
        assert told in text(client.post(page_of("policylist_entry", stolen.pk), sent))
        assert not ListEntry.objects.exists()

    def test_entries_that_count_are_shown_unless_others_are_chosen(self, client, alice, stolen):
        changes.add_one(stolen, Addition(CUSTOMER, timezone.now() - timedelta(days=1), "Past"), by="ada")
        entry = changes.add_one(stolen, Addition("b" * 32, note="Gone"), by="ada")
        changes.take_off(stolen, [entry.pk], by="ada")
        changes.add_one(stolen, Addition("c" * 32, note="There"), by="ada")
        client.force_login(alice)
        shown = {
            state: [note for note in ("Past", "Gone", "There") if note in text(client.get(ENTRIES, {"state": state}))]
            for state in ("expired", "removed", "all")
        }
        assert shown == {"expired": ["Past"], "removed": ["Gone"], "all": ["Past", "Gone", "There"]}
        page = text(client.get(ENTRIES))
        assert "There" in page
        assert "Past" not in page

    def test_chosen_entries_are_removed(self, client, alice, stolen):
        entry = changes.add_one(stolen, Addition(CUSTOMER), by="ada")
        client.force_login(alice)
        client.post(ENTRIES, {"action": "remove", "_selected_action": [entry.pk]})
        assert ListEntry.objects.get().removed_by == "alice"

    def test_a_file_is_imported_whole_or_its_refused_lines_are_shown(self, client, alice, stolen):
        client.force_login(alice)
        page = page_of("policylist_import", stolen.pk)
        refused = text(client.post(page, {"file": SimpleUploadedFile("a.csv", b"value,expires\n596,\n597,never\n")}))
        assert "1 of 2 lines is refused" in refused
        assert "Give a day such as" in refused
        assert not ListEntry.objects.exists()
        done = client.post(page, {"file": SimpleUploadedFile("a.csv", b"value\n596\n597\n")}, follow=True)
        assert "2 added, 0 replaced, 0 there already." in text(done)

    def test_an_export_can_be_imported(self, client, alice, stolen):
        changes.add_one(stolen, Addition(CUSTOMER, note="=1+1"), by="ada")
        client.force_login(alice)
        content = b"".join(client.get(page_of("policylist_export", stolen.pk)).streaming_content)
        other = changes.create(schema="handbook", name="other", about="customer", by="ada")
        client.post(page_of("policylist_import", other.pk), {"file": SimpleUploadedFile("a.csv", content)})
        assert list(other.entries.values_list("key", "note")) == [(CUSTOMER, "=1+1")]


@pytest.mark.django_db
class TestTransactions:
    def test_a_customer_is_blocked_from_a_transactions_page_and_this_is_undone(self, client, alice, stolen, handbook):
        client.force_login(alice)
        page = page_of("transaction_change", handbook.pk)
        assert "Block this customer for 30 days" in text(client.get(page))
        sent = {"block": stolen.pk, "reason": "Called", "back": page}
        done = client.post(page_of("listentry_of_transaction", handbook.pk), sent, follow=True)
        assert done.request["PATH_INFO"] == page
        assert "on stolen" in text(done)
        entry = ListEntry.objects.get()
        assert (entry.key, entry.note, entry.author) == (CUSTOMER, "Called", "alice")
        assert timedelta(days=29) < entry.expires_at - timezone.now() < timedelta(days=30)
        undo = page_of("listentry_undo", entry.pk)
        assert f'action="{undo}"' in text(done)
        assert "Undone" in text(client.post(undo, {"back": page}, follow=True))
        assert not ListEntry.objects.filter(removed_at=None).exists()

    def test_the_one_click_blocks_by_the_first_list_by_name(self, client, alice, stolen, handbook):
        changes.create(schema="handbook", name="zebra", about=stolen.about, action="block", by="ada")
        client.force_login(alice)
        page = text(client.get(page_of("transaction_change", handbook.pk)))
        assert f'name="block" value="{stolen.pk}"' in page

    def test_a_value_is_added_from_a_reviews_page_for_ever(self, client, alice, alert):
        row = changes.create(schema="ulb", name="amounts", about="Amount", by="ada")
        review = alert(0.9)
        client.force_login(alice)
        page = page_of("review_change", review.pk)
        assert "Amount 12.5 on amounts" in text(client.get(page))
        sent = {"list": row.pk, "days": "", "reason": "Odd", "back": page}
        client.post(page_of("listentry_of_transaction", review.pk), sent)
        assert list(row.entries.values_list("key", "expires_at")) == [("12.5", None)]

    @pytest.mark.parametrize("days", [1, 3650])
    def test_an_entry_counts_for_as_many_days_as_were_chosen(self, client, alice, stolen, handbook, days):
        client.force_login(alice)
        sent = {"list": stolen.pk, "days": str(days), "reason": "Called"}
        client.post(page_of("listentry_of_transaction", handbook.pk), sent)
        left = ListEntry.objects.get().expires_at - timezone.now()
        assert timedelta(days=days - 1) < left < timedelta(days=days)

    @pytest.mark.parametrize(
        "sent",
        [{"list": "999"}, {"days": "-1"}, {"days": "0"}, {"days": "many"}, {"days": "3651"}, {"reason": "x" * 201}],
    )
    def test_what_the_form_cannot_mean_is_refused(self, client, alice, stolen, handbook, sent):
        client.force_login(alice)
        sent = {"list": stolen.pk, "days": "7", "reason": "Called"} | sent
        client.post(page_of("listentry_of_transaction", handbook.pk), sent)
        assert not ListEntry.objects.exists()

    def test_an_ml_engineer_sees_no_form_and_cannot_add(self, client, mel, stolen, handbook):
        client.force_login(mel)
        assert "listable" not in text(client.get(page_of("transaction_change", handbook.pk)))
        address = page_of("listentry_of_transaction", handbook.pk)
        assert client.post(address, {"block": stolen.pk, "reason": "No"}).status_code == 403
