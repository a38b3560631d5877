"""Lists, from their making and import to the decisions of a running worker."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO, StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from fraudsite.testing import seed_payload, soon, submission
from scoring.decisions import Decision
from scoring.lists import changes, files
from scoring.lists.changes import Addition
from scoring.lists.keys import EntryRefused, subject_of
from scoring.models import ListEntry, PolicyList
from scoring.policies import versions
from scoring.policies.document import Document, Rule, State
from scoring.policies.expressions import Case
from scoring.policies.lists import HeldLists
from scoring.worker import lists as following
from scoring.worker import policies
from training.core.schema import load_schema


@pytest.fixture
def run(tmp_path):
    """Run `manage.py lists`. The lines of a file are the last argument."""

    def call(act, *arguments, lines=None, **options):
        out = StringIO()
        if lines is not None:
            path = tmp_path / "entries.csv"
            path.write_text("\n".join(lines), encoding="utf-8")
            arguments = (*arguments, str(path))
        call_command("lists", act, *arguments, stdout=out, **options)
        return out.getvalue()

    return call


@pytest.fixture
def amounts(db):
    """A list of amounts that are blocked."""
    return changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada")


def case(*, amount=12.5, event_time=None):
    schema = load_schema("ulb")
    values = [seed_payload(Amount=amount)[name] for name in schema.feature_names]
    return Case(values, (), time.time() if event_time is None else event_time)


def on(held, **of_case):
    return list(held.on(case(**of_case)))


def test_an_entry_counts_in_a_running_worker_soon_after_it_is_added_and_not_after_its_removal(worker, post, run):
    def is_decided(amount, decision):
        answer = soon(lambda: post(seed_payload(Amount=amount)).json(), lambda answer: answer["decision"] == decision)
        assert answer["decision"] == decision
        return answer

    run("create", "amounts", "Amount", action="block", note="A test.")
    assert "1 added" in run("import", "amounts", lines=["value,note", "777.5,Seen twice"])
    answer = is_decided(777.5, "block")
    assert (answer["basis"], answer["lists"]) == ("list", ["amounts"])
    assert post(seed_payload(Amount=777.25)).json()["decision"] == "approve"
    row = PolicyList.objects.get()
    changes.add_one(row, Addition("777.25", timezone.now() + timedelta(hours=1)), by="ada")
    changes.take_off(row, row.entries.filter(key="777.5").values_list("pk", flat=True), by="mel", because="A mistake.")
    is_decided(777.5, "approve")
    is_decided(777.25, "block")
    changes.remove(row)
    is_decided(777.25, "approve")


@pytest.mark.django_db
class TestFollowing:
    def test_only_changes_are_read_again(self, amounts, django_assert_num_queries):
        changes.add_one(amounts, Addition("1.0"), by="ada")
        held = following.current(load_schema("ulb"), None)
        with django_assert_num_queries(1):
            assert following.current(load_schema("ulb"), held) is held
        changes.add_one(amounts, Addition("2.0"), by="ada")
        assert on(held, amount=2.0) == []
        with django_assert_num_queries(3):
            assert following.current(load_schema("ulb"), held) is held
        assert on(held, amount=1.0) == on(held, amount=2.0) == ["amounts"]

    def test_an_entry_counts_until_it_expires_by_the_time_of_the_transaction(self, amounts):
        now = timezone.now()
        changes.add_one(amounts, Addition("1.0", now + timedelta(hours=1)), by="ada")
        held = following.current(load_schema("ulb"), None)
        assert on(held, amount=1.0) == ["amounts"]
        assert on(held, amount=1.0, event_time=(now + timedelta(hours=2)).timestamp()) == []

    def test_a_replaced_entry_has_the_new_expiry_and_the_old_one_is_kept(self, amounts):
        old = changes.add_one(amounts, Addition("1.0"), by="ada")
        held = following.current(load_schema("ulb"), None)
        tomorrow = timezone.now() + timedelta(days=1)
        changes.add_one(amounts, Addition("1.0", tomorrow), by="mel")
        following.current(load_schema("ulb"), held)
        assert on(held, amount=1.0) == ["amounts"]
        assert on(held, amount=1.0, event_time=tomorrow.timestamp()) == []
        old.refresh_from_db()
        amounts.refresh_from_db()
        assert (old.removed_by, amounts.size) == ("mel", 1)

    def test_another_action_counts_for_the_same_entries(self, amounts):
        changes.add_one(amounts, Addition("1.0"), by="ada")
        held = following.current(load_schema("ulb"), None)
        changes.change(amounts, action="review", max_amount=None, note="", by="mel")
        held = following.current(load_schema("ulb"), held)
        assert [hit.action for hit in held.hits(case(amount=1.0))] == ["review"]

    def test_a_list_about_a_field_that_is_gone_is_left_out_and_answers_say_so(self, amounts, champion, caplog):
        PolicyList.objects.create(schema="ulb", name="gone", about="colour", action="block", author="ada")
        changes.add_one(amounts, Addition("1.0"), by="ada")
        policy = policies.current(champion, None)
        [decided] = policy.decide([case(amount=1.0)], [()], [0.0])
        assert (decided.decision, decided.evidence.degraded) == ("block", "list")
        assert policies.current(champion, policy) is policy
        assert caplog.text.count("ulb gone is left out") == 1

    def test_an_entry_that_cannot_be_read_is_left_out_until_it_is_removed(self, amounts, champion):
        entry = changes.add_one(amounts, Addition("many"), by="ada")
        changes.add_one(amounts, Addition("1.0"), by="ada")
        policy = policies.current(champion, None)
        [decided] = policy.decide([case(amount=1.0)], [()], [0.0])
        assert (decided.decision, decided.evidence.degraded) == ("block", "list")
        changes.take_off(amounts, [entry.pk], by="ada")
        assert policies.current(champion, policy).degraded is None

    def test_a_faulty_list_without_an_action_matters_only_to_rules_that_refer_to_it(self, champion):
        PolicyList.objects.create(schema="ulb", name="gone", about="colour", author="ada")
        assert policies.current(champion, None).degraded is None
        rule = Rule(name="a", when="on_gone && Amount > 1", action=Decision.BLOCK, state=State.ACTIVE)
        versions.activate(versions.draft(schema="ulb", by="ada", content=Document(rules=[rule])), by="ada")
        assert policies.current(champion, None).degraded == "list"


@pytest.mark.django_db
class TestLists:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("Stolen", "Amount"), "lower-case"),
            (("stolen", "Amout"), "Did you mean Amount"),
            (("amounts", "Amount"), "taken"),
        ],
    )
    def test_a_list_that_makes_no_sense_is_refused(self, amounts, run, arguments, told):
        with pytest.raises(CommandError, match=told):
            run("create", *arguments)

    @pytest.mark.parametrize(
        ("does", "told"),
        [
            ({"action": "blok"}, "Did you mean block"),
            ({"max_amount": -1.0}, "from 0 on"),
            ({"max_amount": float("inf")}, "from 0 on"),
            ({"max_amount": float("nan")}, "from 0 on"),
            ({"note": "x" * 201}, "at most 200"),
            ({"note": "\0"}, "at most 200"),
        ],
    )
    def test_what_a_list_cannot_do_is_refused(self, db, does, told):
        create = partial(changes.create, schema="ulb", name="amounts", about="Amount", by="ada")
        with pytest.raises(changes.ListRefused, match=told):
            create(**does)
        assert create(action="", max_amount=0.0, note="x" * 200).max_amount == 0

    def test_there_is_one_draft_of_a_name(self, amounts):
        draft = partial(changes.create, schema="ulb", about="Amount", by="ada", is_draft=True)
        draft(name="more")
        draft(name="amounts")  # of the list that there is
        for name in ("more", "amounts"):
            with pytest.raises(changes.ListRefused, match=f"a draft {name} already"):
                draft(name=name)

    def test_a_list_that_counts_is_not_made_live_again(self, amounts):
        with pytest.raises(changes.ListRefused, match="counts already"):
            changes.make_live(amounts, by="ada")

    def test_a_schema_has_at_most_so_many_lists(self, amounts, settings):
        settings.LISTS_LIMIT = 1
        with pytest.raises(changes.ListRefused, match="LISTS_LIMIT"):
            changes.create(schema="ulb", name="more", about="Amount", by="ada")

    def test_a_list_that_the_live_policy_refers_to_is_not_removed(self, amounts):
        rule = Rule(name="twice", when="on_amounts", action=Decision.BLOCK, state=State.ACTIVE)
        versions.activate(versions.draft(schema="ulb", by="ada", content=Document(rules=[rule])), by="ada")
        with pytest.raises(changes.ListRefused, match="on_amounts in twice"):
            changes.remove(amounts)

    def test_the_lists_of_a_schema_are_shown(self, amounts, run):
        assert run("show") == "amounts: about Amount, block, 0 entries.\n"

    def test_an_addition_is_undone_by_its_author_and_what_it_replaced_comes_back(self, amounts):
        changes.add_one(amounts, Addition("1.0", note="first"), by="ada")
        entry = changes.add_one(amounts, Addition("1.0", note="second"), by="mel")
        with pytest.raises(changes.ListRefused, match="no more"):
            changes.undo(entry, by="ada")
        changes.undo(entry, by="mel")
        there = ListEntry.objects.get(removed_at=None)
        assert (there.note, there.author) == ("first", "ada")


class TestKeys:
    SENT = {
        "items": ("3", 3),
        "is_gift": ("true", True),
        "category": ("Toys", "Toys"),
        "country": ("de", "de"),
        "email": ("Ann@Example.com", "Ann@Example.com"),
        "ip": ("192.0.2.7", "192.0.2.7"),
        "phone": ("030 123", "030 123"),
        "birth": ("2000-01-31", "2000-01-31"),
        "home_lat": ("52.5166", 52.5166),
        "card": ("card-1", "card-1"),
        "device": ("d 1", "d 1"),
    }  # fmt: skip

    @pytest.fixture
    def sent(self, shop, db):  # tokens are those of a client, which is looked up
        body = {name: value for name, (_, value) in self.SENT.items()} | {"schema": "shop", "amount": 5.0}
        return submission(1, body)

    @pytest.mark.parametrize("about", [*SENT, "amount", "mailbox", "network", "card_and_category"])
    def test_what_a_client_sends_has_the_key_of_its_transaction(self, shop, sent, about):
        subject = subject_of("shop", about)
        texts = {name: text for name, (text, _) in self.SENT.items()} | {"amount": "5"}
        of_case = (sent.tokens if subject.is_entity else sent.features)[subject.index]
        [(key, client)] = subject.keys_of(texts, [1]).items()
        assert subject.held(key) == of_case
        assert subject.checked(key) == key
        assert client == (1 if subject.is_entity else None)

    @pytest.mark.parametrize(
        ("about", "text", "told"),
        [
            ("amount", "much", "Give a number"),
            ("amount", "-1", "from 0 to 10000"),
            ("is_gift", "perhaps", "true or false"),
            ("email", "ann", "e-mail"),
            ("card", "", "Give a value"),
            ("card", "4111 1111 1111 1111", "card number"),
            ("card", "a" * 65, "1 to 64"),
        ],
    )
    def test_a_value_that_the_api_would_refuse_is_refused(self, shop, about, text, told):
        with pytest.raises(EntryRefused, match=told):
            subject_of("shop", about).key_of({about: text})

    def test_minus_zero_is_zero(self, shop):
        assert subject_of("shop", "home_lat").key_of({"home_lat": "-0.0"}) == "0.0"

    @pytest.mark.parametrize(
        ("about", "key", "shown"),
        [
            ("card", "0123456789abcdef", "01234567…"),
            ("is_gift", "1.0", "true"),
            ("is_gift", "0.0", "false"),
            ("items", "3.0", "3"),
            ("amount", "12.5", "12.5"),
            ("category", "toys", "toys"),
        ],
    )
    def test_people_are_shown_a_value_as_clients_send_it_and_of_a_token_its_beginning(self, shop, about, key, shown):
        assert subject_of("shop", about).shown(key) == shown


@pytest.mark.django_db
class TestFiles:
    def test_a_file_with_refused_lines_is_stored_not_at_all_and_each_line_is_named(self, amounts, run):
        lines = ["value;expires", "1;2020-01-01", "2;", "much;", "3;soon", "4;;;"]
        with pytest.raises(CommandError) as refusal:
            run("import", "amounts", lines=lines)
        assert str(refusal.value).splitlines() == [
            "Nothing was stored:",
            "line 2, expires: It has expired already.",
            "line 4, value: Give a number.",
            "line 5, expires: Give a day such as 2026-12-31, or a time such as 2026-12-31T12:00:00Z.",
            "line 6: The line has more cells than the first line.",
        ]
        assert not ListEntry.objects.exists()

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"", "names each column once"),
            (b"amount\n1\n", "no column 'amount'"),
            (b"note\nfraud\n", "names each column once"),
            (b"value\n\xff\n", "UTF-8"),
            (b'value\n"' + b"1" * 200_000, "not CSV"),
        ],
    )
    def test_a_file_that_is_no_list_is_refused(self, amounts, content, told):
        with pytest.raises(changes.ListRefused, match=told):
            files.load(amounts, BytesIO(content), by="ada")

    @pytest.mark.parametrize(("limit", "value"), [("LIST_ENTRIES_LIMIT", 2), ("LIST_IMPORT_LIMIT_BYTES", 10)])
    def test_a_file_that_is_too_large_is_refused(self, amounts, settings, limit, value):
        changes.add_one(amounts, Addition("9.0"), by="ada")
        setattr(settings, limit, value)
        with pytest.raises(changes.ListRefused, match=limit):
            files.load(amounts, BytesIO(b"value\n1.25\n2.25\n"), by="ada")
        assert ListEntry.objects.count() == 1

    def test_a_list_may_be_filled_to_its_limit(self, amounts, settings):
        settings.LIST_ENTRIES_LIMIT = 2
        assert files.load(amounts, BytesIO(b"value\n1.25\n2.25\n"), by="ada").added.new == 2

    def test_it_is_told_how_many_entries_were_new_replaced_or_there_already(self, amounts):
        files.load(amounts, BytesIO(b"value,note\n1,a\n2,a\n"), by="ada")
        report = files.load(amounts, BytesIO(b"value,note\n1,a\n2,b\n3,a\n"), by="ada")
        assert (report.lines, report.added) == (3, changes.Added(new=1, replaced=1, unchanged=1))

    def test_of_many_refused_lines_the_first_are_named_and_all_are_counted(self, amounts):
        report = files.load(amounts, BytesIO(b"value\n" + b"much\n" * (files.REFUSALS_SHOWN + 2)), by="ada")
        assert (len(report.refused), report.refused_count) == (files.REFUSALS_SHOWN, files.REFUSALS_SHOWN + 2)

    def test_a_day_counts_to_its_end_and_the_later_of_two_lines_counts(self, amounts):
        report = files.load(amounts, BytesIO(b"value,expires,note\n1,,a\n1.0,2199-12-31,b\n"), by="ada")
        entry = ListEntry.objects.get()
        assert (report.added.new, entry.note, entry.expires_at) == (1, "b", datetime(2200, 1, 1, tzinfo=UTC))

    def test_no_cell_of_an_export_is_a_formula(self, amounts):
        changes.add_one(amounts, Addition("1.0", note="=HYPERLINK(1)"), by="ada")
        assert ",'=HYPERLINK(1),ada," in "".join(files.dump(amounts))

    @examples(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.dictionaries(
            st.from_regex(r"['=+@-]{0,2}[a-zäß0-9,;\"']{1,5}", fullmatch=True),
            st.tuples(
                st.none() | st.datetimes(datetime(2199, 1, 1), datetime(2299, 1, 1), timezones=st.just(UTC)),
                st.text(max_size=200).filter(lambda text: "\0" not in text).map(str.strip),
            ),
            max_size=5,
        )
    )
    def test_an_export_can_be_imported_and_gives_the_same_list(self, shop, entries):
        number = PolicyList.objects.count()
        one, other = (
            changes.create(schema="shop", name=f"list_{number + i}", about="note", by="ada") for i in range(2)
        )
        additions = [Addition(key, expires_at, note) for key, (expires_at, note) in entries.items()]
        changes.add(one, [additions], by="ada")
        files.load(other, BytesIO("".join(files.dump(one)).encode()), by="mel")
        found, again = (
            set(row.entries.filter(removed_at=None).values_list("key", "expires_at", "note")) for row in (one, other)
        )
        assert again == found
        assert len(found) == len(entries)
        PolicyList.objects.update(removed_at=timezone.now())


def test_a_schema_without_lists_has_none_in_memory(db):
    assert following.current(load_schema("ulb"), HeldLists.none(load_schema("ulb"))).names == ()
