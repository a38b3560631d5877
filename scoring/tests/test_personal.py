"""Personal values: the roles that see what is stored of them, and where nobody does."""

import json

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from scoring.models import Label, Prediction, Review, Transaction
from scoring.tests.test_kinds import PURCHASE
from scoring.worker import pending
from training.core.schema import loaded

pytestmark = pytest.mark.django_db

# As they are stored; the reason and the age tell the birthday, and the place of the home is one of two.
PHONE, MAIL, LATITUDE, BIRTH, AGE = "5f3759df" * 4, "0badcafe" * 4 + "@example.com", 47.11, "1972-01-01", 54.83
SECRETS = [PHONE, MAIL, str(LATITUDE), "1972", "54.83"]
FIELDS = {"amount": 12.5, "note": "a note", "phone": PHONE, "email": MAIL, "home_lat": LATITUDE, "opened": BIRTH}
ACCOUNT_AGE = """
[[age]]
name = "account_years"
of = "opened"
unit = "years"
description = "Age of the account."
"""
SEES = {"alice": True, "ada": True, "mel": False}
# What a client sends, of which nothing is in a log.
SENT = {
    "phone": "+49 30 1234567",
    "email": "ann.smith@example.com",
    "home_lat": 52.520008,
    "home_long": 13.404954,
    "opened": "2019-07-21",
    "last_ip": "192.0.2.77",
}


@pytest.fixture
def review(shop, own_schemas, alert):
    path = own_schemas / "shop.toml"
    path.write_text(path.read_text() + ACCOUNT_AGE)
    loaded.look(settled=False)
    review = alert(0.9, schema="shop", fields=FIELDS | {"gone": PHONE}, transaction_id="order-1")
    review.prediction.reasons = [
        {"feature": "opened", "contribution": 2.0, "text": "Opened: 1972; half are later"},
        {"feature": "items", "contribution": 1.0, "text": "Items: 7; half are fewer"},
    ]
    review.prediction.derived = {"account_years": AGE}
    review.prediction.save()
    Label.objects.create(transaction_id=review.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    return review


def pages(review):
    """Every page that shows something of the transaction, and those of its values."""
    lists = {name: reverse(f"admin:scoring_{name}_changelist") for name in ("transaction", "prediction", "label")}
    lists["review"] = reverse("admin:scoring_review_changelist") + "?state=all"
    one = {
        f"{name} page": reverse(f"admin:scoring_{name}_change", args=[review.pk])
        for name in ("transaction", "prediction", "review")
    }
    found = {f"{name} search": f"{reverse(f'admin:scoring_{name}_changelist')}?q={PHONE}" for name in ("transaction",)}
    others = {"dashboard": reverse("dashboard"), "schema": reverse("admin:training_schemaversion_of", args=["shop"])}
    return lists | one | found | others


SHOWN_ON = {"transaction page", "prediction page", "review page"}


@pytest.mark.parametrize("who", SEES)
def test_each_page_shows_personal_values_to_the_roles_that_may_see_them_and_to_no_other(client, review, request, who):
    client.force_login(request.getfixturevalue(who))
    for page, address in pages(review).items():
        text = client.get(address).content.decode()
        shown = {secret for secret in SECRETS if secret in text.replace(f"q={PHONE}", "").replace(f'"{PHONE}"', "")}
        expected = set(SECRETS) if page in SHOWN_ON else {"1972"} if page == "review" else set()
        assert shown == (expected if SEES[who] else set()), page
        if page in SHOWN_ON:
            assert "a note" in text
            assert "Items: 7" in text or page == "transaction page"
            assert text.count("<dd>hidden</dd>") == (0 if SEES[who] else 6), page


def test_an_explanation_tells_what_is_personal_to_those_who_may_see_it_and_to_no_other(client, review, alice, mel):
    explanation = {"base": -3.0, "residual": 0.0, "contributions": {"opened": 2.0, "items": -1.0}}
    Prediction.objects.filter(pk=review.pk).update(explanation=explanation)
    for address in (
        reverse("admin:scoring_transaction_explanation", args=[review.pk]),
        reverse("admin:scoring_review_change", args=[review.pk]),
    ):
        for person, told in ((alice, ""), (mel, "hidden")):
            client.force_login(person)
            page = client.get(address).content.decode()
            assert f'+2.00</td><th scope="row">opened</th><td>{told}</td>' in page
            assert '-1.00</td><th scope="row">items</th><td></td>' in page


@pytest.mark.parametrize("who", SEES)
def test_nobody_finds_out_a_value_by_a_filter_that_may_not_see_it(client, review, request, who):
    client.force_login(request.getfixturevalue(who))
    for name, lookup in (
        ("transaction", "fields__home_lat"),
        ("prediction", "derived__account_years"),
        ("prediction", "reasons__0__text__startswith"),
        ("prediction", "transaction__fields__home_lat"),
        ("review", "prediction__transaction__fields__phone"),
        ("label", "transaction__fields__phone"),
    ):
        response = client.get(reverse(f"admin:scoring_{name}_changelist"), {lookup: "47.11"})
        local = lookup.split("__")[0] in ("fields", "derived", "reasons")
        assert response.status_code == (200 if SEES[who] and local else 400), lookup


def test_the_permission_alone_decides_and_not_the_name_of_the_role(client, review, mel):
    mel.user_permissions.add(Permission.objects.get(codename="view_personal"))
    client.force_login(mel)
    text = client.get(reverse("admin:scoring_transaction_change", args=[review.pk])).content.decode()
    assert all(secret in text for secret in (PHONE, MAIL, str(LATITUDE)))


def test_of_a_schema_that_is_gone_all_values_are_hidden(client, transaction, mel):
    row = transaction(schema="stall", fields={"phone": PHONE, "note": "a note"})
    client.force_login(mel)
    text = client.get(reverse("admin:scoring_transaction_change", args=[row.pk])).content.decode()
    assert PHONE not in text
    assert "a note" not in text


def test_labelling_works_for_rows_whose_values_are_hidden_or_not(client, review, alice):
    Label.objects.all().delete()
    client.force_login(alice)
    address = reverse("admin:scoring_review_changelist")
    keys = {"action": "confirm_fraud", "_selected_action": [str(review.pk)]}
    assert client.post(address, keys).status_code == 200
    client.post(address, keys | {"confirmed": "yes"})
    assert Review.objects.get().state == Review.State.FRAUD


def test_what_was_sent_is_in_no_log_and_in_no_row(shop, post, acme, caplog, monkeypatch, redis_server):
    caplog.set_level("DEBUG")
    assert post(PURCHASE | SENT | {"amount": -1.0}).status_code == 422
    assert post(PURCHASE | SENT | {"email": "ann.smith"}).status_code == 422
    assert post(PURCHASE | SENT | {"unknown": "+49 30 1234567"}).status_code == 400

    def fail(**_):
        raise ValueError("a bug")

    monkeypatch.setattr(pending, "accept", fail)
    acme_raises = pytest.raises(ValueError, match="a bug")
    with acme_raises:
        post(PURCHASE | SENT, Prefer="respond-async")
    monkeypatch.undo()
    assert post(PURCHASE | SENT, Prefer="respond-async").status_code == 202
    row = Transaction.objects.get()
    kept = json.dumps([row.fields, row.tokens])
    for sent in map(str, SENT.values()):
        assert sent not in caplog.text
        assert sent not in kept
