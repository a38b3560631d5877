"""A person who works for one client finds nothing of another in the admin, whatever their role.

Addresses come from the URL configuration. A page that `scoring.tenancy.restriction` does not name is refused to people
who are restricted, and docs/roles.md has to tell so.
"""

import re
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from fraudsite.tests import matrix
from scoring.clients.models import ApiKey, ClientOfPerson
from scoring.lists import changes
from scoring.models import (
    Attachment,
    Decision,
    Label,
    ListEntry,
    Pending,
    Prediction,
    Review,
    ReviewLink,
    SecondOpinion,
    Transaction,
)
from scoring.reviews import labelling
from scoring.tenancy import restriction
from scoring.worker.opening import review_of

pytestmark = pytest.mark.django_db

CARD = "c" * 32
PAGE = (django_settings.BASE_DIR / "docs" / "roles.md").read_text()


@pytest.fixture
def vera(acme):
    """Somebody who may do everything, for Acme only."""
    user = User.objects.create_superuser("vera", password="vera-password")
    ClientOfPerson.objects.create(person=user, client=acme)
    return user


@pytest.fixture
def page(client, vera):
    client.force_login(vera)
    return client


class Rows:
    """What a client has. Its marks stand on the pages that show it."""

    def __init__(self, owner, champion, reviewer):
        self.owner, name = owner, owner.name.lower()
        self.open, self.closed = (self._alert(champion, f"{name}-{state}") for state in ("open", "closed"))
        labelling.close_review(review=self.closed, is_fraud=True, reviewer=reviewer, note=f"{name}-note")
        self.label = Label.objects.filter(transaction=self.closed.pk).get()
        row = Transaction.objects.create(**self._values(f"{name}-waiting"))
        self.pending = Pending.objects.create(transaction=row, due_at=timezone.now())
        SecondOpinion.objects.get_or_create(review=self.closed, defaults={"first": reviewer, "first_is_fraud": True})
        self.attachment = Attachment.objects.create(
            review=self.open, name=f"{name}-file", stored="none", size=1, sha256="0" * 64, author=reviewer
        )
        self.key = ApiKey(client=owner)
        self.key.draw()
        self.key.save()
        stolen = changes.live("handbook").filter(name="stolen").first()
        stolen = stolen or changes.create(schema="handbook", name="stolen", about="customer", by="ada")
        addition = changes.Addition(owner.name[0].lower().ljust(31, "0") + "x", note=f"{name}-entry", client=owner.pk)
        self.entry = changes.add_one(stolen, addition, by="vera")
        ReviewLink.objects.bulk_create(ReviewLink(review=each, name="customer", key=CARD) for each in self.reviews)

    @property
    def reviews(self):
        return [self.open, self.closed]

    def _values(self, name):
        fields = {"amount": 12.5}
        given = {"schema": "handbook", "fields": fields, "tokens": {"customer": CARD, "terminal": "e" * 32}}
        moment = timezone.now()
        return given | {"client": self.owner, "transaction_id": name, "amount": 12.5, "event_time": moment}

    def _alert(self, champion, name):
        prediction = Prediction.objects.create(
            transaction=Transaction.objects.create(**self._values(name)),
            model_version=champion,
            fraud_score=0.9,
            decision=Decision.REVIEW,
            threshold=0.5,
            reasons=[],
            latency_ms=1.0,
            explanation={"base": 0.0, "contributions": {"amount": 1.0}, "residual": 0.0, "others": 0.0},
        )
        review = review_of(prediction)
        review.save(force_insert=True)
        return review

    def keys(self):
        """The keys that addresses have, by the name of the part and by what the page is about."""
        return {
            "transaction": self.open.pk,
            "prediction": self.open.pk,
            "review": self.open.pk,
            "label": self.label.pk,
            "pending": self.pending.pk,
            "client": self.owner.pk,
            "apikey": self.key.pk,
            "listentry": self.entry.pk,
            "attachment": self.attachment.pk,
        }

    def rows(self):
        """Its rows as they are now."""
        tables = (Transaction, Review, Label, ListEntry, ApiKey, Pending)
        ways = {model: f"{restriction.path_to_client(model)}" for model in tables}
        return [list(model.objects.filter(**{ways[model]: self.owner}).order_by("pk").values()) for model in tables]

    def marks(self):
        name = self.owner.name
        return [name, f"{name.lower()}-", str(self.open.pk), str(self.closed.pk), self.key.prefix, self.entry.key[:8]]


@pytest.fixture
def mine(acme, handbook_champion, alice):
    return Rows(acme, handbook_champion, alice)


@pytest.fixture
def others(globex, handbook_champion, alice):
    return Rows(globex, handbook_champion, alice)


def text(response):
    content = b"".join(response.streaming_content) if response.streaming else response.content
    return content.decode()


def pages():
    """Name and address of each page of the admin, once."""
    return sorted({name: address for name, address in matrix.addresses() if address.startswith("/admin/")}.items())


def filled(name, address, keys):
    """The address with the key of a row of the table that it is about."""
    about = next((key for part, key in keys.items() if f"_{part}_" in f"{name}_" or f"/{part}/" in address), None)
    return [address] if about is None else [re.sub(r"/(999|none|0{8}-[0-9-]+)/", f"/{about}/", address)]


@pytest.mark.parametrize(("name", "address"), pages())
def test_no_page_tells_anything_of_another_client(page, mine, others, name, address):
    manner = restriction.manner_of(name)
    if name in ("logout", "login"):
        return
    for each in filled(name, address, others.keys()):
        before, tried = others.rows(), each.split("/")
        for send in (page.get, page.post):
            response = send(each)
            found = [mark for mark in others.marks() if mark not in tried and mark in text(response)]
            assert not found, (send.__name__, response.status_code)
            if manner == restriction.REFUSED:
                assert response.status_code == 403
            location = response.headers.get("Location", "")
            assert str(others.open.pk) not in location or str(others.open.pk) in each
        assert others.rows() == before


@pytest.mark.parametrize(
    "model", ["transaction", "prediction", "review", "label", "pending", "client", "apikey", "listentry"]
)
def test_a_list_has_the_rows_of_ones_own_client_and_no_others(page, mine, others, model):
    SecondOpinion.objects.all().delete()  # otherwise labels are hidden from whom may give the second opinion
    query = {"state": "all"} if model in ("review", "listentry") else {}
    found = text(page.get(reverse(f"admin:scoring_{model}_changelist"), query))
    assert re.search(rf"\b{mine.keys()[model]}/change/", found)
    assert not [mark for mark in others.marks() if mark in found]
    for term in (f"{others.owner.name.lower()}-open", str(others.open.pk), others.entry.key, CARD, "12.50"):
        found = text(page.get(reverse(f"admin:scoring_{model}_changelist"), query | {"q": term}))
        assert not [mark for mark in others.marks() if mark in found.replace(term, "")], term


def test_filters_by_client_offer_ones_own(page, mine, others):
    for model, name in (("transaction", "client__id__exact"), ("prediction", "transaction__client__id__exact")):
        address = reverse(f"admin:scoring_{model}_changelist")
        assert "Globex" not in text(page.get(address))
        found = text(page.get(address, {name: others.owner.pk}))
        assert not [mark for mark in others.marks() if mark in found]


def test_counts_are_of_ones_own_client(page, mine, others):
    polled = page.get(reverse("admin:scoring_review_open")).json()
    assert polled["open"] == 1
    shown = text(page.get(reverse("admin:scoring_policylist_changelist")))
    assert re.search(r"listentry/\?list=\d+\">1<", shown)


def test_the_next_review_and_the_next_opinion_are_of_ones_own_client(page, vera, mine, others):
    Review.objects.filter(pk=mine.open.pk).update(state=Review.State.FRAUD)
    tomorrow = timezone.now() + timedelta(days=1)
    Review.objects.filter(pk=others.open.pk).update(assigned_to=vera, assigned_until=tomorrow)
    assert str(others.open.pk) not in page.get(reverse("admin:scoring_review_next")).headers["Location"]
    opinion = page.get(reverse("admin:scoring_review_second_next")).headers["Location"]
    assert str(others.closed.pk) not in opinion
    assert str(mine.closed.pk) in opinion
    SecondOpinion.objects.filter(review=mine.closed.pk).delete()
    assert "second/" not in page.get(reverse("admin:scoring_review_second_next")).headers["Location"]
    assert page.get(reverse("admin:scoring_review_second", args=[others.closed.pk])).status_code == 302


def test_a_case_and_the_page_of_a_shared_entity_show_ones_own_client(page, mine, others):
    for address in (
        reverse("admin:scoring_review_change", args=[mine.open.pk]),
        reverse("admin:scoring_transaction_entity", args=["handbook", "customer", CARD]),
    ):
        found = text(page.get(address))
        assert str(mine.closed.pk) in found
        assert not [mark for mark in others.marks() if mark in found]


def test_actions_take_no_rows_of_another_client(page, mine, others):
    for model, action, key in (
        ("review", "confirm_fraud", others.open.pk),
        ("apikey", "revoke", others.key.pk),
        ("listentry", "remove", others.entry.pk),
        ("pending", "retry", others.pending.pk),
        ("client", "create_key", others.owner.pk),
    ):
        before = others.rows()
        sent = {"action": action, "_selected_action": [str(key)], "confirmed": "yes", "code": "", "note": ""}
        page.post(reverse(f"admin:scoring_{model}_changelist"), sent)
        assert others.rows() == before, model


def test_an_export_has_the_entries_of_ones_own_client(page, mine, others):
    exported = text(page.get(reverse("admin:scoring_policylist_export", args=[mine.entry.list_id])))
    assert mine.entry.key in exported
    assert others.entry.key not in exported


def test_entries_that_count_for_all_clients_are_for_those_who_work_for_all(page, mine):
    row = changes.create(schema="handbook", name="amounts", about="amount", by="ada")
    address = reverse("admin:scoring_policylist_entry", args=[row.pk])
    assert page.post(address, {"part_amount": "5", "note": "x", "expires": ""}).status_code == 403
    page.post(
        reverse("admin:scoring_listentry_of_transaction", args=[mine.open.pk]), {"list": str(row.pk), "reason": "x"}
    )
    assert not ListEntry.objects.filter(list=row).exists()


def test_an_entry_that_is_added_counts_for_ones_own_client(page, mine, others):
    address = reverse("admin:scoring_policylist_entry", args=[mine.entry.list_id])
    page.post(address, {"part_customer": "596", "note": "x", "expires": ""})
    assert ListEntry.objects.get(note="x").client == mine.owner


def test_labels_are_imported_for_ones_own_client(page, mine, others):
    address = reverse("admin:scoring_label_import")
    assert "Globex" not in text(page.get(address))
    said = b"transaction_id,kind,event_time\nglobex-open,fraud,2026-11-01T00:00:00Z\n"
    before = Label.objects.count()
    page.post(address, {"client": others.owner.pk, "file": SimpleUploadedFile("a.csv", said)})
    assert Label.objects.count() == before


def test_a_review_is_not_handed_to_a_colleague_of_another_client(page, vera, mine, sue, globex):
    ClientOfPerson.objects.create(person=sue, client=globex)
    page.post(reverse("admin:scoring_review_pass-on", args=[mine.open.pk]), {"do": "hand_over", "to": "sue"})
    assert Review.objects.get(pk=mine.open.pk).assigned_to is None


def test_an_administrator_restricts_a_person_and_lifts_it_again(client, ada, alice, acme, globex, mine, others):
    def save(**rows):
        client.force_login(ada)
        address = reverse("admin:auth_user_change", args=[alice.pk])
        form = client.get(address).context["adminform"].form
        sent = {name: value for name, value in form.initial.items() if value not in (None, False)}
        moment = timezone.localtime(alice.date_joined)
        sent |= {"date_joined_0": f"{moment:%Y-%m-%d}", "date_joined_1": f"{moment:%H:%M:%S}"}
        sent["groups"] = [group.pk for group in alice.groups.all()]
        sent |= {f"works_for-{name}": value for name, value in rows.items()}
        response = client.post(address, sent)
        assert response.status_code == 302, text(response)
        client.force_login(alice)
        return text(client.get(reverse("admin:scoring_review_changelist")))

    assert "globex-" not in save(**{"TOTAL_FORMS": 1, "INITIAL_FORMS": 0, "0-person": alice.pk, "0-client": acme.pk})
    row = ClientOfPerson.objects.get()
    given = {"TOTAL_FORMS": 1, "INITIAL_FORMS": 1, "0-id": row.pk, "0-person": alice.pk, "0-client": acme.pk}
    found = save(**given | {"0-DELETE": "on"})
    assert str(others.open.pk) in found


def test_the_dashboard_and_the_metrics_are_for_those_who_work_for_all_clients(page, vera, mine):
    assert page.get(reverse("dashboard")).status_code == 403
    assert page.get(reverse("the_django_plotly_dash:app-main", args=["fraudsite"])).status_code in (403, 404)
    assert page.get(reverse("metrics")).status_code == 401
    assert "Dashboard" not in text(page.get(reverse("admin:index")))


WORDS = {
    restriction.OWN: "rows of their clients",
    restriction.ROLE: "as the role says",
    restriction.READ: "to read",
    restriction.REFUSED: "refused",
}


def test_the_page_tells_what_people_who_work_for_some_clients_find(tmp_path):
    """It fails for a new page: decide what it shows in `scoring.tenancy.restriction`, and take the table over."""
    found = "\n".join(f"| {name} | {WORDS[restriction.manner_of(name)]} |" for name, _ in pages())
    (tmp_path / "table").write_text(found)
    told = "\n".join(re.findall(rf"^\| [\w-]+ \| (?:{'|'.join(WORDS.values())}) \|$", PAGE, re.MULTILINE))
    assert told == found, f"The table as it is now is in {tmp_path / 'table'}."


def test_every_table_of_a_client_is_known_as_one():
    of_clients = {model._meta.label for model in admin.site._registry if restriction.path_to_client(model)}
    assert of_clients >= {
        *("scoring.Transaction", "scoring.Prediction", "scoring.Review", "scoring.Label", "scoring.ListEntry"),
        *("scoring.Fallback", "scoring.Pending", "scoring.Client", "scoring.ApiKey"),
    }
