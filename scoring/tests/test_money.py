"""Amounts on pages have the decimals and the currency of their schema."""

import pytest
from django.urls import reverse
from django.utils import timezone

from scoring.models import Transaction
from scoring.pages.display import amount_of

DECLARED = """
title = "T"
time = "event_time"
amount = "amount"
amount_decimals = {decimals}
label = "fraud"
past_days = 30
[[feature]]
name = "amount"
unit = "{unit}"
minimum = 0.0
maximum = 1e9
description = "The amount."
"""


@pytest.fixture
def currencies(own_schemas):
    for name, decimals, unit in (("yen", 0, "JPY"), ("euro", 2, "EUR"), ("dinar", 3, "KWD")):
        (own_schemas / f"{name}.toml").write_text(DECLARED.format(decimals=decimals, unit=unit))


SHOWN = [
    ("yen", 1234.0, "1,234 JPY"),
    ("euro", 1234.5, "1,234.50 EUR"),
    ("dinar", 1.234, "1.234 KWD"),
    ("gone", 1.2345, "1.2345"),
    ("gone", 12.5, "12.50"),
]


@pytest.mark.parametrize(("name", "amount", "shown"), SHOWN)
def test_an_amount_has_the_decimals_and_the_currency_of_its_schema(currencies, name, amount, shown):
    assert amount_of(name, amount) == shown


@pytest.mark.django_db
def test_the_list_of_transactions_shows_each_in_its_own_currency_and_times_with_their_zone(
    currencies, client, alice, acme
):
    for name, amount, _ in SHOWN:
        Transaction.objects.create(
            client=acme, schema=name, amount=amount, fields={}, body_sha256="0" * 64, event_time=timezone.now()
        )
    client.force_login(alice)
    page = client.get(reverse("admin:scoring_transaction_changelist")).content.decode()
    for _, _, shown in SHOWN:
        assert f">{shown}<" in page
    assert f"{timezone.now():%Y-%m-%d}" in page
    assert " UTC<" in page
