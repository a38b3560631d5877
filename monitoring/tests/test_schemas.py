"""The pages of schemas in the admin."""

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings as site
from django.urls import reverse
from django.utils import timezone

from monitoring.rollups.counting import ALL_CLIENTS, SCORED
from monitoring.rollups.models import Span, TrafficRollup
from monitoring.schemas import report
from scoring.models import Prediction, Transaction
from training import declarations, registry
from training.core.bundle import load_bundle
from training.core.features.declaration import Age
from training.core.features.typical import Typical
from training.core.places import PACKAGE
from training.core.schema import load_schema, loaded
from training.models import SchemaVersion
from training.tests.support import bundle_of_purchases, with_purchases

pytestmark = pytest.mark.django_db

CHANNEL = '[[feature]]\nname = "channel"\nkind = "text"\noptional = true\ndescription = "How it was ordered."\n'
QUICK = {"model.architecture": "xgboost", "xgboost.epochs": 5, "policy.review_precision": 0.1}
LIST = "admin:training_schemaversion_changelist"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with with_purchases(tmp_path_factory.mktemp("schemas")):
        return bundle_of_purchases(tmp_path_factory.mktemp("models"), site.BUNDLE_SIGNING_KEY, **QUICK).path


@pytest.fixture
def purchases(own_schemas, settings, trained):
    """The file of a schema with a champion."""
    shutil.copy(PACKAGE / "tests" / "fixtures" / "purchases.toml", own_schemas)
    settings.BUNDLES_DIR = trained.parent
    registry.register(load_bundle(trained, signing_key=settings.BUNDLE_SIGNING_KEY), promote=True)
    return own_schemas / "purchases.toml"


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))
    loaded.look(settled=False)
    declarations.remember()


def page(client, name="purchases", **asked):
    return client.get(reverse("admin:training_schemaversion_of", args=[name]), asked)


def predicted(acme, count, **fields):
    version = registry.champion("purchases")
    for _ in range(count):
        row = Transaction.objects.create(
            client=acme,
            schema="purchases",
            amount=12.5,
            fields={"amount": 12.5, "category": "books", "country": None} | fields,
            body_sha256="0" * 64,
            event_time=timezone.now(),
        )
        Prediction.objects.create(
            transaction=row, model_version=version, fraud_score=0.1, decision="approve", threshold=0.5, latency_ms=4.0
        )


def test_the_list_has_every_schema_with_its_state_models_and_transactions(client, mel, purchases, own_schemas):
    (own_schemas / "stall.toml").write_text("title =")
    loaded.look(settled=False)
    for count in (2, 3):
        TrafficRollup.objects.create(
            span=Span.DAY,
            start=timezone.now() - timedelta(days=count),
            client=ALL_CLIENTS,
            schema="purchases",
            decision="approve",
            answer=SCORED,
            transactions=count,
            amount=0.0,
            histograms=b"",
        )
    client.force_login(mel)
    response = client.get(reverse(LIST))
    found = {each["name"]: each for each in response.context["schemas"]}
    assert {"ulb", "purchases", "stall"} <= found.keys()
    assert found["purchases"]["transactions"] == 5
    assert found["purchases"]["file"] == str(purchases)
    [model] = found["purchases"]["models"]
    assert (model.version, model.serves) == (registry.champion("purchases"), True)
    assert "invalid file" in response.content.decode()


def test_a_page_shows_fields_with_what_is_usual_and_how_often_they_are_missing(client, mel, purchases, acme):
    predicted(acme, 60, device_days=None)
    client.force_login(mel)
    response = page(client)
    values = {value.name: value for value in response.context["values"]}
    assert values["amount"].bounds == "0 to 100,000 EUR"
    assert values["amount"].missing == "0 %"
    assert values["category"].usual.startswith("grocery 4")
    assert (values["device_days"].lately, values["device_days"].is_strange) == ("100 %", True)
    assert (values["category"].lately, values["category"].is_strange) == ("0 %", False)
    assert 0 <= float(values["amount"].box[2]) <= 100
    assert "The champion" in response.content.decode()


def test_a_changed_file_is_compared_with_what_the_champion_was_trained_under(client, mel, purchases):
    client.force_login(mel)
    change(purchases, "[[feature]]", CHANNEL + "[[feature]]")
    compatible = page(client).context["change"]
    assert (compatible.differences, compatible.obstacles) == (["field channel: new, optional"], [])
    change(purchases, 'name = "country"', 'name = "land"')
    response = page(client)
    assert response.context["change"].obstacles == ["field country: removed"]
    assert "Held." in response.content.decode()
    [model] = response.context["models"]
    assert not model.serves


def test_it_names_the_histories_that_become_stale(client, mel, own_schemas):
    before = load_schema("handbook")
    shutil.copy(PACKAGE / "schemas" / "handbook.toml", own_schemas / "book.toml")
    change(own_schemas / "book.toml", "history_limit = 600", "history_limit = 700")
    assert report.change_of(before, load_schema("book")).stale == ["customer"]
    assert report.change_of(before, before).stale == []


def test_any_two_declarations_that_were_seen_can_be_compared(client, mel, purchases):
    first = load_schema("purchases").hash
    change(purchases, "[[feature]]", CHANNEL + "[[feature]]")
    change(purchases, 'title = "Purchases"', 'title = "Orders"')
    client.force_login(mel)
    response = page(client, before=first, after="file")
    assert response.context["compared"].differences == ["title: Purchases → Orders", "field channel: new, optional"]
    assert [changes for _, changes in response.context["versions"]] == [
        ["title: Purchases → Orders"],
        ["field channel: new, optional"],
        [],
    ]
    assert page(client, before="x" * 100, after="file").context["compared"] is None
    row = SchemaVersion.objects.get(schema="purchases", hash=first)
    text = client.get(reverse("admin:training_schemaversion_change", args=[row.pk])).content.decode()
    assert "Since the device was first seen." in text


def test_an_invalid_file_is_shown_with_what_is_wrong_and_the_declaration_that_goes_on(client, mel, purchases):
    client.force_login(mel)
    change(purchases, 'kind = "category"', 'kind = "categroy"')
    response = page(client)
    assert "kind is one of" in response.context["fault"]
    assert [value.name for value in response.context["values"]][:2] == ["amount", "device_days"]


def test_a_schema_that_never_was_valid_has_a_page_and_one_that_is_not_there_has_none(client, mel, own_schemas):
    (own_schemas / "stall.toml").write_text("title =")
    loaded.look(settled=False)
    client.force_login(mel)
    assert "Invalid value" in page(client, "stall").content.decode()
    assert page(client, "nowhere").status_code == 404
    assert page(client, "sparkov").status_code == 200  # without a model


def test_what_is_usual_of_personal_values_is_shown_to_who_may_see_them(shop):
    shop = replace(shop, ages=(Age(name="account_years", of="opened", unit="years", description="Of the account."),))
    quantiles = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    known = report.Measured({name: Typical(quantiles=quantiles) for name in ("amount", "home_lat", "account_years")})

    def usual(personal):
        shown = (make(shop, known, personal=personal) for make in (report.fields_of, report.computed_of))
        return {value.name: value.usual for values in shown for value in values if value.usual}

    assert usual(personal=False) == {"amount": "3 to 5 EUR", "home_lat": "hidden", "account_years": "hidden"}
    assert usual(personal=True)["home_lat"] == "3 to 5"


def test_who_may_not_see_models_sees_no_schemas(client, db, django_user_model):
    client.force_login(django_user_model.objects.create_user("eve", is_staff=True))
    assert client.get(reverse(LIST)).status_code == page(client, "ulb").status_code == 403
