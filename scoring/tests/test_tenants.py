"""Two clients: their entities, histories, links and list entries are apart, unless the schema shares an entity."""

import hmac
import time
from datetime import timedelta
from io import BytesIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from fraudsite.testing import submission
from scoring import linked
from scoring.api.authentication import ring
from scoring.lists import changes, files
from scoring.models import Client, ListEntry, Prediction, Transaction
from scoring.tenancy import tenants
from scoring.worker import batches, predictor
from training import registry
from training.core import schema as schemas
from training.core.places import schema_dirs
from training.core.schema.tokens import is_own, own_maker, token_of
from training.tests.support import tiny_handbook_bundle

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forgotten():
    """Ids of clients come again in the next test."""
    tenants._known.clear()
    yield
    tenants._known.clear()


@pytest.fixture
def together(acme, globex):
    """Both clients as after an upgrade: they were there before tokens were told apart."""
    Client.objects.update(own_histories=False)
    tenants._known.clear()


@pytest.fixture
def handbook(handbook_champion):
    return predictor.Predictor(handbook_champion)


@pytest.fixture
def shared_terminals(db, own_schemas, settings, tmp_path):
    """The champion of a schema whose terminals are the same for all clients."""
    [file] = [path for each in schema_dirs() if (path := each / "handbook.toml").exists()]
    declared = file.read_text().replace('name = "terminal"\n', 'name = "terminal"\nshared = true\n', 1)
    (own_schemas / "market.toml").write_text(declared)
    schemas.loaded.look()
    settings.BUNDLES_DIR = tmp_path / "models"
    trees = {"model.architecture": "xgboost", "xgboost.epochs": 9}
    bundle = tiny_handbook_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, "market", **trees)
    return predictor.Predictor(registry.register(bundle, promote=True))


def payment(client, customer="ada", terminal="shop", *, schema="handbook", hours_ago=1.0, amount=12.5, **changes):
    moment = timezone.now().replace(microsecond=0) - timedelta(hours=hours_ago)
    body = {"schema": schema, "amount": amount, "customer": customer, "terminal": terminal}
    return submission(client.pk, body | {"event_time": moment.isoformat()} | changes)


def score(champion, *sent):
    batches.score_batch(submissions=list(sent), predictor=champion, started_at=time.time())
    found = Prediction.objects.in_bulk([each.id for each in sent], field_name="transaction_id")
    return [next(row for key, row in found.items() if str(key) == each.id) for each in sent]


def count(prediction):
    return prediction.derived["customer_count_7d"]


def test_a_customer_of_another_client_is_another_customer(handbook, acme, globex):
    first, second, other = score(handbook, payment(acme), payment(acme), payment(globex))
    assert (count(first), count(second), count(other)) == (1, 2, 1)


def test_a_shared_entity_is_the_same_at_all_clients_and_others_are_not(shared_terminals, acme, globex):
    # The features of a terminal look back from seven days ago.
    sent = [
        payment(client, schema="market", hours_ago=hours) for client, hours in ((acme, 220), (globex, 220), (globex, 1))
    ]
    assert len({each.tokens[1] for each in sent}) == 1
    last = score(shared_terminals, *sent)[-1]
    assert (last.derived["customer_count_30d"], last.derived["terminal_count_7d"]) == (2, 2)
    call_command("check_parity", "--schema", "market", "--sample", "0")


TRAFFIC = st.lists(
    st.tuples(st.booleans(), st.sampled_from("ab"), st.sampled_from("xy"), st.floats(0.01, 900)),
    min_size=1,
    max_size=12,
)


@given(traffic=TRAFFIC, schema=st.sampled_from(["handbook", "market"]))
@examples(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_features_online_are_those_of_a_replay_to_the_last_bit_whoever_sends(
    handbook, shared_terminals, acme, globex, traffic, schema
):
    champion = {"handbook": handbook, "market": shared_terminals}[schema]
    before = Transaction.objects.count()
    sent = [
        payment(acme if is_acme else globex, customer, terminal, schema=schema, hours_ago=50 - place, amount=amount)
        for place, (is_acme, customer, terminal, amount) in enumerate(traffic)
    ]
    for start in range(0, len(sent), 3):
        score(champion, *sent[start : start + 3])
    assert Transaction.objects.count() == before + len(sent)
    call_command("check_parity", "--schema", schema, "--sample", "0")


def test_histories_that_are_rebuilt_are_those_of_each_client(handbook, acme, globex):
    score(handbook, payment(acme), payment(acme), payment(globex))
    call_command("rebuild_histories", "--schema", "handbook")
    assert [count(row) for row in score(handbook, payment(acme), payment(globex))] == [3, 2]


def test_clients_of_before_an_upgrade_keep_their_histories_and_a_new_one_has_its_own(handbook, together, acme, globex):
    initech = Client.objects.create(name="Initech")
    assert payment(acme).tokens == payment(globex).tokens
    last = score(handbook, payment(acme), payment(globex), payment(initech))[-1]
    assert count(last) == 1
    assert count(score(handbook, payment(globex))[0]) == 3


def test_the_only_client_of_before_an_upgrade_has_the_tokens_that_are_stored(acme, settings):
    Client.objects.update(own_histories=False)
    tenants._known.clear()
    assert payment(acme).tokens[0] == token_of(settings.ENTITY_HASH_KEY, "handbook", "customer", "ada")


@given(key=st.text(min_size=1, max_size=90), value=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_a_token_is_an_hmac_and_a_clients_own_is_told_from_it(key, value):
    shared = token_of(key, "handbook", "customer", value)
    assert shared == hmac.digest(key.encode(), f"handbook\0customer\0{value}".encode(), "sha256").hex()[:32]
    own = own_maker(key, "1")(shared)
    assert (len(own), is_own(own), is_own(shared)) == (32, True, False)
    assert own != own_maker(key, "2")(shared)


def test_alerts_are_linked_by_what_they_share_at_one_client_only(acme, globex):
    fields = {"email": "0badcafe@example.com", "ip": "192.0.2.0"}
    payments = schemas.load_schema("payments")
    keys = [set(linked.keys_of(payments, client.pk, fields, {}).values()) for client in (acme, acme, globex)]
    assert keys[0] == keys[1]
    assert keys[0]
    assert not keys[0] & keys[2]


@pytest.fixture
def stolen(db):
    return changes.create(schema="handbook", name="stolen", about="customer", action="block", by="ada")


def keys_on(row):
    return set(ListEntry.objects.filter(list=row, removed_at=None).values_list("key", flat=True))


def test_an_import_lists_an_entity_of_the_client_that_a_line_names_or_of_every_client(stolen, acme, globex):
    ada, bob = (payment(acme, name).tokens[0] for name in ("ada", "bob"))
    files.load(stolen, BytesIO(b"value,client\nada,Acme\n"), by="rita")
    assert keys_on(stolen) == {ada}
    assert ListEntry.objects.get().client == acme
    files.load(stolen, BytesIO(b"value\nbob\n"), by="rita")
    assert keys_on(stolen) == {ada, bob, payment(globex, "bob").tokens[0]}


def test_an_import_that_names_an_unknown_client_is_refused_whole(stolen, acme):
    report = files.load(stolen, BytesIO(b"value,client\nada,Acme\nbob,Acne\n"), by="rita")
    assert [(each.line, each.column) for each in report.refused] == [(3, "client")]
    assert "Acme" in report.refused[0].remedy
    assert not keys_on(stolen)


def test_an_export_tells_whose_an_entry_is_and_can_be_imported_again(stolen, acme, globex):
    files.load(stolen, BytesIO(b"value,client\nada,Globex\n"), by="rita")
    exported = "".join(files.dump(stolen))
    assert "Globex" in exported
    key = keys_on(stolen)
    changes.take_off(stolen, ListEntry.objects.values_list("pk", flat=True), by="rita")
    files.load(stolen, BytesIO(exported.encode()), by="rita")
    assert keys_on(stolen) == key
    assert ListEntry.objects.get(removed_at=None).client == globex


def test_a_list_of_a_shared_entity_has_one_entry_for_all_clients(shared_terminals, acme, globex):
    row = changes.create(schema="market", name="bad", about="terminal", action="block", by="rita")
    files.load(row, BytesIO(b"value\nshop\n"), by="rita")
    assert keys_on(row) == {payment(globex, schema="market").tokens[1]}
    assert ListEntry.objects.get().client is None


def test_the_form_of_an_entry_asks_for_the_client_where_there_are_several(client, alice, stolen, acme, globex):
    client.force_login(alice)
    page = reverse("admin:scoring_policylist_entry", args=[stolen.pk])
    assert "every client" in client.get(page).content.decode()
    client.post(page, {"part_customer": "596", "client": "Globex", "expires": "", "note": "Called"})
    assert keys_on(stolen) == {payment(globex, "596").tokens[0]}
    client.post(page, {"part_customer": "597", "client": "", "expires": "", "note": "Called"})
    assert len(keys_on(stolen)) == 3
    found = client.get(reverse("admin:scoring_listentry_changelist"), {"q": "597"}).content.decode()
    assert "2 results" in found


def test_a_web_process_learns_of_clients_with_their_keys_and_asks_the_database_about_no_transaction(
    acme, acme_api, django_assert_num_queries
):
    ring.read()
    with django_assert_num_queries(0):
        payment(acme)


def test_clients_of_before_an_upgrade_can_be_parted_and_lose_no_history_and_no_list_entry(
    handbook, together, acme, globex, stolen, monkeypatch
):
    monkeypatch.setattr(tenants, "ASK_AGAIN_S", 0.0)
    files.load(stolen, BytesIO(b"value\nada\n"), by="rita")
    score(handbook, payment(acme), payment(globex), payment(globex))
    for _ in range(2):  # it can be repeated
        call_command("own_histories", "--client", "Globex")
        tenants._known.clear()
        call_command("rebuild_histories", "--schema", "handbook")
    assert keys_on(stolen) == {payment(client).tokens[0] for client in (acme, globex)}
    assert [count(row) for row in score(handbook, payment(acme), payment(globex))] == [2, 3]


def test_alerts_that_clients_shared_are_linked_and_found_by_their_own_cards_once_they_are_parted(
    handbook, together, acme, globex, monkeypatch
):
    monkeypatch.setattr(tenants, "ASK_AGAIN_S", 0.0)
    mine, other = score(handbook, *(payment(client, amount=1900.0, terminal=client.name) for client in (acme, globex)))
    assert mine.is_alert
    assert other.is_alert
    shared = set(mine.review.links.values_list("key", flat=True)) & set(
        other.review.links.values_list("key", flat=True)
    )
    assert shared
    call_command("own_histories", "--client", "Globex")
    keys = set(other.review.links.values_list("key", flat=True))
    assert keys == set(Transaction.objects.get(pk=other.pk).tokens.values())
    assert not keys & set(mine.review.links.values_list("key", flat=True))


def test_own_histories_of_an_unknown_client_is_refused(acme):
    with pytest.raises(CommandError, match="Acme"):
        call_command("own_histories", "--client", "Acne")
