"""Rates of exchange: files of them, the exact arithmetic, and the admin's page."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from training.core.datasets import parquet_path, storage
from training.core.exceptions import SchemaInvalid
from training.core.exchange.rates import MOST_MINOR, Quote, Rates, checked, microseconds
from training.core.schema import load_schema, parse_schema
from training.core.schema.kinds.codes import decimals_of
from training.models import ExchangeRate

DAY = datetime(2026, 11, 2, tzinfo=UTC)
ROWS = [
    {"currency": "USD", "rate": 1.0876, "valid_from": "2026-11-02T16:00Z"},
    {"currency": "JPY", "rate": 171.3, "valid_from": "2026-11-02T16:00Z"},
]
ECB = """Date,USD,JPY,HRK,KWD,
2026-11-03,1.0901,171.05,N/A,,
2026-11-02,1.0876,171.3,7.5345,N/A,
"""


def written(path, rows=ROWS):
    """The rows in a file of the form that its suffix names."""
    match path.suffix:
        case ".csv":
            pd.DataFrame(rows).to_csv(path, index=False)
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        case ".parquet":
            frame = pd.DataFrame(rows)
            frame.assign(valid_from=pd.to_datetime(frame["valid_from"])).to_parquet(path)
    return path


def kept():
    found = ExchangeRate.objects.order_by("pk").values_list("base", "currency", "rate", "valid_from")
    return [(base, currency, str(rate.normalize()), f"{since:%Y-%m-%d %H:%M}") for base, currency, rate, since in found]


@pytest.mark.django_db
@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_a_file_of_any_form_gives_the_same_rates_and_nothing_new_the_second_time(tmp_path, capsys, suffix):
    file = str(written(tmp_path / f"rates.{suffix}"))
    for told in ("2 rates of 2 currencies to EUR: 2 new, 0 known already.", ": 0 new, 2 known already."):
        call_command("import_rates", file)
        assert told in capsys.readouterr().out
    at = "2026-11-02 16:00"
    assert kept() == [("EUR", "USD", "1.0876", at), ("EUR", "JPY", "171.3", at)]


@pytest.mark.django_db
def test_the_file_of_the_central_bank_is_read_as_it_is_published(tmp_path, capsys):
    (tmp_path / "eurofxref-hist.csv").write_text(ECB)
    call_command("import_rates", str(tmp_path / "eurofxref-hist.csv"))
    assert [(currency, rate, since) for _, currency, rate, since in kept()] == [
        ("JPY", "171.05", "2026-11-03 16:00"),
        ("USD", "1.0901", "2026-11-03 16:00"),
        ("JPY", "171.3", "2026-11-02 16:00"),
        ("USD", "1.0876", "2026-11-02 16:00"),
    ]
    assert "Left out, as they are no currencies of ISO 4217 any more: HRK." in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("USD,0,2026-11-02", "line 3: a rate lies between 0 and 1,000,000,000"),
        ("USD,-1.08,2026-11-02", "line 3: a rate lies between 0 and"),
        ("USD,1e12,2026-11-02", "line 3: a rate lies between 0 and"),
        ("USD,1.0000000000000001,2026-11-02", "line 3: a rate has at most 15 digits"),
        ("USD,NaN,2026-11-02", "line 3: rate is a number such as 1.0876, not 'NaN'"),
        ("USD,,2026-11-02", "line 3: rate is a number"),
        ('USD,"1,08",2026-11-02', "line 3: rate is a number"),
        ("USX,1.08,2026-11-02", "line 3: currency is a code of ISO 4217, such as USD, not 'USX'"),
        ("EUR,1,2026-11-02", "line 3: a rate of EUR to itself is 1"),
        ("USD,1.08,02.11.2026", "line 3: valid_from is a date or time of ISO 8601"),
        ("USD,1.08,2999-01-01", "line 3: valid_from lies between 1970 and tomorrow, unlike 2999-01-01"),
        ("USD,1.08", "line 3: valid_from is a date or time"),
        ("JPY,172,2026-11-02", "line 3: line 2 has another rate of JPY for the same time"),
    ],
)
def test_a_refused_row_is_named_by_its_line_and_none_is_stored(tmp_path, line, told):
    (tmp_path / "rates.csv").write_text(
        f"currency,rate,valid_from\nJPY,171.3,2026-11-02\n{line}\nJPY,171.3,2026-11-02\n"
    )
    with pytest.raises(CommandError) as refused:
        call_command("import_rates", str(tmp_path / "rates.csv"))
    assert "rates.csv: 1 rates are refused, and none was stored:" in str(refused.value)
    assert told in str(refused.value)
    assert not ExchangeRate.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("rates.csv", b"currency,rate\nUSD,1.08\n", "there is no column valid_from"),
        ("rates.csv", b"currency,rate,valid_from\n", "has no rates"),
        ("rates.csv", b"", "has no rates"),
        ("rates.csv", b"\xff\xfe", "is no CSV in UTF-8"),
        ("rates.json", b"[1]", "is no object with the names currency, rate, valid_from"),
        (
            "rates.csv",
            b"valid_from,currency,rate\n2026-11-01,USD,1,0876\n",
            "line 2 has more values than there are columns",
        ),
        ("rates.csv", b"currency,rate,rate,valid_from\nUSD,1,2,2026-11-01\n", "the column rate is there twice"),
        ("rates.json", b"[" * 100_000, "is no CSV in UTF-8, JSON or Parquet file"),
        ("rates.jsonl", b"{", "is no CSV in UTF-8, JSON or Parquet file"),
        ("rates.parquet", b"PAR1", "is no CSV in UTF-8, JSON or Parquet file"),
    ],
)
def test_a_file_that_has_no_rates_is_refused(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError, match=told):
        call_command("import_rates", str(tmp_path / name))
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        call_command("import_rates", str(tmp_path / "nothing.csv"))


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", tz="No/Where")])
def test_a_time_that_no_calendar_has_is_refused_with_its_row(tmp_path, kind):
    times = pa.array([0, 2**62], kind) if kind.tz is None else pa.array([0, 0], kind)
    table = {"currency": ["USD", "JPY"], "rate": [1.1, 160.0], "valid_from": times}
    pq.write_table(pa.table(table), tmp_path / "rates.parquet")
    with pytest.raises(CommandError, match=f"row {1 if kind.tz else 2}: "):
        call_command("import_rates", str(tmp_path / "rates.parquet"))


CODES = st.sampled_from(["EUR", "USD", "JPY", "KWD", "GBP"])
RATES = st.decimals(min_value=Decimal("0.00001"), max_value=10**6, places=5).map(checked)


@given(CODES, CODES, RATES, RATES, RATES, RATES, st.integers(-(10**9), 10**9))
def test_conversion_is_exact_and_rounds_halves_to_even(currency, base, usd, jpy, kwd, gbp, minor):
    quoted = {"USD": usd, "JPY": jpy, "KWD": kwd, "GBP": gbp}
    quotes = [("EUR", Quote(name, rate, DAY)) for name, rate in quoted.items()]
    sent = minor / 10 ** decimals_of(currency)
    units = {"EUR": Fraction(1)} | {name: Fraction(rate) for name, rate in quoted.items()}
    exact = Fraction(minor, 10 ** decimals_of(currency)) * units[base] / units[currency] * 10 ** decimals_of(base)
    if abs(exact) < MOST_MINOR:
        rates = Rates.of(quotes, max_age=timedelta(days=7), use_last=False)
        made = rates.convert(sent, currency, base, microseconds(DAY))
        assert (made.amount, made.sent) == (round(exact) / 10 ** decimals_of(base), sent)


def test_a_rate_holds_from_its_first_moment_until_the_next_begins():
    later = DAY + timedelta(hours=1)
    quotes = [("EUR", Quote("USD", Decimal(2), DAY)), ("EUR", Quote("USD", Decimal(4), later))]
    rates = Rates.of(quotes, max_age=timedelta(days=7), use_last=False)
    moments = [DAY, later - timedelta(microseconds=1), later]
    assert [rates.convert(8.0, "USD", "EUR", microseconds(at)).amount for at in moments] == [4.0, 4.0, 2.0]


def raw(path, **changes):
    rows = [
        {"transaction_id": f"t-{number}", "event_time": f"2026-11-0{number}T12:00Z", "card": "c-1", "amount": "1050"}
        | {"currency": "JPY", "fraud": number % 2}
        | (changes if number == 3 else {})
        for number in range(2, 6)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"currency": "KWD"}, "1050 KWD in row 2: There is no rate of KWD to EUR that holds at 2026-11-03T12:00:00Z. "),
        ({"amount": "10.5"}, "10.5 JPY in row 2: An amount in JPY has no decimals. (1 such rows)"),
        ({"amount": "99999999999"}, "in row 2: Send an amount that is 0 to 100000 EUR after conversion."),
        ({"currency": ""}, "currency: 1 missing"),
        ({"amount": ""}, "amount: 1 missing"),
    ],
)
def test_ingest_refuses_what_a_call_would_be_refused_for(travels, settings, tmp_path, changes, told):
    settings.DATASETS_DIR = tmp_path
    file = written(tmp_path / "rates.csv", [ROWS[1] | {"valid_from": "2026-11-01"}])
    with pytest.raises(CommandError) as refused:
        call_command("ingest", schema="travels", source=raw(tmp_path / "raw.csv", **changes), rates=file)
    assert told in str(refused.value)
    assert not parquet_path(tmp_path, "travels").exists()


def test_ingest_takes_an_old_rate_only_if_the_settings_say_so_and_counts_it(travels, settings, tmp_path, capsys):
    settings.DATASETS_DIR, settings.RATES_MAX_AGE_DAYS = tmp_path, 3
    options = {
        "schema": "travels",
        "source": raw(tmp_path / "raw.csv", currency="EUR"),
        "rates": written(tmp_path / "rates.csv", [ROWS[1] | {"valid_from": "2026-11-01"}]),
    }
    with pytest.raises(CommandError, match=r"in row 3: The last rate of JPY to EUR .* more than 3 days older. Import"):
        call_command("ingest", **options)
    settings.RATES_POLICY = "last"
    call_command("ingest", **options)
    assert "3 amounts converted, 2 of them by a rate that was too old" in capsys.readouterr().out
    rows, _ = storage.read_rows(parquet_path(tmp_path, "travels"), travels)
    assert rows["amount"].tolist() == [6.13, 1050.0, 6.13, 6.13]
    assert rows["sent_amount"].tolist() == [1050.0] * 4
    assert rows["rate_stale"].tolist() == [False, False, True, True]


def test_a_schema_in_one_currency_takes_no_rates(settings, tmp_path):
    with pytest.raises(CommandError, match="--rates: the amounts of handbook are in one currency"):
        call_command("ingest", schema="handbook", source=raw(tmp_path / "raw.csv"), rates="rates.csv")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('amount_currency = "currency"', 'amount_currency = "curency"', "amount_currency names no feature: 'curency'"),
        (
            'amount_currency = "currency"',
            'amount_currency = "amount"',
            "amount: the currency of amounts is of the kind",
        ),
        (
            'kind = "currency"',
            'kind = "currency"\noptional = true',
            "currency: the currency of amounts .* not optional",
        ),
        (
            'unit = "EUR"\nminimum',
            'unit = "euro"\nminimum',
            "amount: .* its unit the currency to which it is converted",
        ),
        ('unit = "EUR"\nminimum', 'unit = "KWD"\nminimum', "amount_decimals is 3, as KWD has so many"),
        ('name = "card_sum"', 'name = "sent_amount"', "the name 'sent_amount' is taken twice"),
    ],
)
def test_a_currency_of_amounts_that_makes_no_sense_is_refused_by_its_name(travels, own_schemas, before, after, told):
    text = (own_schemas / "travels.toml").read_text()
    assert before in text
    with pytest.raises(SchemaInvalid, match=told):
        parse_schema("travels", text.replace(before, after, 1))


def test_schemas_in_one_currency_have_the_hash_that_their_models_know():
    assert load_schema("ulb").hash.startswith("339de098afc2")
    assert load_schema("handbook").hash.startswith("3b597a99f634")


@pytest.fixture
def usd(db):
    return ExchangeRate.objects.create(
        currency="USD", rate=Decimal("1.0876"), valid_from=DAY, source="ecb.csv", by="cron"
    )


ADD = {"base": "EUR", "currency": "jpy", "rate": "171.3", "valid_from_0": "2026-11-02", "valid_from_1": "16:00:00"}


def test_those_who_may_add_a_rate_in_the_admin(client, mel, alice, usd):
    add, rows = reverse("admin:training_exchangerate_add"), reverse("admin:training_exchangerate_changelist")
    client.force_login(alice)
    assert client.get(add).status_code == 403
    assert "1 EUR = 1.0876 USD" in client.get(rows).content.decode()
    client.force_login(mel)
    assert client.post(add, ADD).status_code == 302
    assert kept()[1:] == [("EUR", "JPY", "171.3", "2026-11-02 16:00")]
    page = client.get(rows, {"currency": "JPY"}).content.decode()
    assert "1 EUR = 171.3 JPY" in page
    assert "1 EUR = 1.0876 USD" not in page
    assert ">admin, by mel<" in page


def test_a_changed_rate_is_a_new_row_and_the_old_one_stays(client, mel, usd):
    client.force_login(mel)
    address = reverse("admin:training_exchangerate_change", args=[usd.pk])
    assert 'value="1.0876"' in client.get(address).content.decode()
    assert client.post(address, {"rate": "1.0876"}).status_code == 302
    assert ExchangeRate.objects.count() == 1, "nothing was changed"
    assert client.post(address, {"rate": "1.0901"}).status_code == 302
    assert [rate for _, _, rate, _ in kept()] == ["1.0876", "1.0901"]
    page = client.get(reverse("admin:training_exchangerate_changelist")).content.decode()
    assert page.count("icon-yes") == page.count("icon-no") == 1, "only one of them counts"
    assert client.post(address, {"rate": "2"}).status_code == 403, "what was replaced is history"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"currency": "JPX"}, "Give a code of ISO 4217"),
        ({"currency": "EUR"}, "A rate of a currency to itself is 1"),
        ({"rate": "0"}, "a rate lies between 0 and"),
        ({"rate": "NaN"}, "Enter a number"),
        ({"rate": "1.0000000000000001"}, "a rate has at most 15 digits"),
        ({"valid_from_0": "2999-01-01"}, "Give a time that is at most a day ahead"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused_in_the_admin(client, mel, db, changes, told):
    client.force_login(mel)
    page = client.post(reverse("admin:training_exchangerate_add"), ADD | changes)
    assert told in page.content.decode()
    assert not ExchangeRate.objects.exists()
