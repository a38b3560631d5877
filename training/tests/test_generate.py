"""`manage.py generate`: transactions with named fields and fraud in named scenarios."""

import ipaddress
from datetime import date

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from training.core import generator
from training.core.datasets import parquet_path, storage
from training.core.generator.parameters import SCENARIOS
from training.core.schema import load_schema
from training.core.schema.kinds.addresses import network_of
from training.models import ModelVersion

ROWS, SHARE = 60_000, 0.02
DOCUMENTATION = [
    ipaddress.ip_network(name) for name in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]


@pytest.fixture(scope="module")
def transactions():
    what = generator.wanted(rows=ROWS, card_count=None, days=60, start=date(2025, 3, 1), seed=3, fraud_share=SHARE)
    return pd.concat([table.to_pandas() for table in generator.generated(what)], ignore_index=True)


@pytest.fixture(scope="module")
def legitimate(transactions):
    return transactions[transactions.is_fraud == 0]


@pytest.fixture(scope="module")
def of_scenario(transactions):
    return dict(tuple(transactions.groupby("fraud_scenario")))


def bytes_of(path, **options):
    call_command("generate", output=path, rows=8_000, days=60, force=True, **options)
    return path.read_bytes()


def test_the_same_seed_makes_the_same_file(tmp_path):
    first = bytes_of(tmp_path / "made.parquet", seed=5)
    assert bytes_of(tmp_path / "made.parquet", seed=5) == first
    assert bytes_of(tmp_path / "made.parquet", seed=6) != first
    assert [path.name for path in tmp_path.iterdir()] == ["made.parquet"]


def test_csv_and_parquet_have_the_same_rows(tmp_path):
    for name in ("made.parquet", "made.csv"):
        bytes_of(tmp_path / name)
    frame = pd.read_parquet(tmp_path / "made.parquet")
    written = pd.read_csv(tmp_path / "made.csv", parse_dates=["event_time"], keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(
        written.astype(object).where(written.notna(), None),
        frame.replace("", None).astype(object).where(frame.replace("", None).notna(), None),
        check_dtype=False,
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"days": 30}, "60"),
        ({"rows": 10}, "rows"),
        ({"cards": 5}, "100"),
        ({"fraud_share": 0.0}, "share"),
        ({"seed": -1}, "seed"),
        ({"output": "made.xlsx"}, ".parquet or .csv"),
        ({"output": "missing/made.csv"}, "no directory"),
    ],
)
def test_it_says_what_is_wrong_with_an_option(tmp_path, option, message):
    output = tmp_path / option.get("output", "made.csv")
    with pytest.raises(CommandError, match=message):
        call_command("generate", **(option | {"output": output}))
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_replaced_by_force_only(tmp_path):
    path = tmp_path / "made.csv"
    path.write_text("mine\n")
    with pytest.raises(CommandError, match="is there already"):
        call_command("generate", output=path, rows=8_000, days=60)
    assert path.read_text() == "mine\n"
    assert len(bytes_of(path)) > 1_000_000


def test_rows_come_by_time_with_ids_of_their_own(transactions):
    assert transactions.event_time.is_monotonic_increasing
    assert transactions.transaction_id.is_unique
    assert transactions.event_time.dt.date.nunique() == 60
    assert transactions.event_time.min().date() == date(2025, 3, 1)


def test_there_are_as_many_rows_and_frauds_as_asked(transactions):
    assert len(transactions) == pytest.approx(ROWS, rel=0.01)
    assert transactions.is_fraud.mean() == pytest.approx(SHARE, rel=0.1)
    assert ((transactions.fraud_scenario != "") == (transactions.is_fraud == 1)).all()


def test_each_scenario_has_its_share(of_scenario):
    for name, share in SCENARIOS.items():
        assert len(of_scenario[name]) == pytest.approx(ROWS * SHARE * share, rel=0.3)


def test_a_number_of_cards_may_be_asked_for(tmp_path):
    call_command("generate", output=tmp_path / "made.parquet", cards=150, days=60)
    cards = pd.read_parquet(tmp_path / "made.parquet").card.str.rsplit("-", n=1).str[0]
    assert 140 <= cards.nunique() <= 150


def test_purchases_in_shops_have_no_device_and_no_address(transactions):
    remote = transactions.entry_mode.isin(["online", "recurring"])
    for name in ("device", "email", "ip"):
        assert (transactions[name].notna() == remote).all()
    in_shop = ~remote & (transactions.entry_mode != "phone_order")
    assert (transactions.merchant_latitude.notna() == in_shop).all()


def test_no_address_can_belong_to_anybody(transactions):
    assert set(transactions.email.dropna().str.rpartition("@")[2]) <= {"example.com", "example.org"} | {
        f"{name}.example" for name in ("mail", "post", "quick", "temp")
    }
    addresses = transactions.ip.dropna().drop_duplicates().map(ipaddress.ip_address)
    assert all(any(address in network for network in DOCUMENTATION) for address in addresses)


def test_card_testing_is_many_tiny_amounts_of_many_cards_at_one_merchant(of_scenario):
    rows = of_scenario["card_testing"]
    assert (rows.amount < 10).all()
    assert (rows.entry_mode == "online").all()
    campaigns = rows.groupby("merchant").card.nunique()
    assert campaigns.max() >= 10
    gaps = rows.groupby("merchant").event_time.diff().dt.total_seconds().dropna()
    assert gaps.median() < 30 * 60


def test_a_stolen_card_pays_in_shops_near_home_within_hours_and_growing_amounts(of_scenario):
    rows = of_scenario["stolen_card"]
    assert rows.merchant_latitude.notna().all()
    assert (abs(rows.merchant_latitude - rows.home_latitude) < 0.7).all()
    thefts = rows.groupby("card")
    assert (thefts.event_time.max() - thefts.event_time.min() < pd.Timedelta(hours=8)).all()
    several = thefts.filter(lambda rows: len(rows) >= 4).groupby("card").amount
    assert (several.last() > several.first()).mean() > 0.8


def test_an_account_takeover_buys_for_large_amounts_with_a_device_new_to_the_card(of_scenario, legitimate):
    rows = of_scenario["account_takeover"]
    online = legitimate[legitimate.entry_mode == "online"]
    assert rows.amount.median() > 4 * online.amount.median()
    used = set(zip(legitimate.card, legitimate.device, strict=True))
    known = [pair in used for pair in zip(rows.card, rows.device, strict=True)]
    assert 0.05 < np.mean(known) < 0.3  # the holder's own device is infected
    networks = legitimate.assign(network=legitimate.ip.map(network_of, na_action="ignore"))
    own = set(zip(networks.card, networks.network, strict=True))
    known = [pair in own for pair in zip(rows.card, rows.ip.map(network_of), strict=True)]
    assert np.mean(known) < 0.3


def test_a_compromised_merchants_cards_are_abused_elsewhere_weeks_later(of_scenario, legitimate):
    rows = of_scenario["compromised_merchant"]
    began = rows.groupby("card").event_time.min().rename("began")
    before = legitimate.merge(began, on="card", how="inner")
    before = before[before.event_time < before.began - pd.Timedelta(days=10)]
    victims = before.groupby("merchant").card.nunique()
    customers = legitimate.groupby("merchant").card.nunique()
    share = (victims / customers[victims.index])[victims >= 8]
    # At an innocent merchant about as many as among all cards.
    assert share.max() > 4 * len(began) / legitimate.card.nunique()
    assert (rows.merchant == share.idxmax()).mean() < 0.05


def test_friendly_fraud_comes_from_the_holders_own_device_and_few_cards(of_scenario, legitimate):
    rows = of_scenario["friendly_fraud"]
    used = set(zip(legitimate.card, legitimate.device, strict=True))
    assert np.mean([pair in used for pair in zip(rows.card, rows.device, strict=True)]) > 0.7
    assert rows.card.nunique() < 0.7 * len(rows)


def test_an_abused_card_is_replaced_and_its_holder_goes_on(of_scenario, transactions):
    stolen = of_scenario["stolen_card"]
    stolen = stolen[stolen.card.str.endswith("-1")]  # some are stolen after they were replaced once already
    last = transactions.groupby("card").event_time.max()
    after = last[stolen.card.unique()] - stolen.groupby("card").event_time.max()[stolen.card.unique()]
    assert after.max() < pd.Timedelta(days=4)
    assert {card[:-1] + "2" for card in stolen.card} & set(transactions.card)


def test_unusual_purchases_are_mostly_legitimate(transactions):
    """So that a simple rule does not find the fraud."""
    online = transactions[transactions.device.notna()]
    is_new = ~online.duplicated(["card", "device"])
    settled = online.event_time > online.event_time.min() + pd.Timedelta(days=30)
    far = (abs(transactions.home_latitude - transactions.merchant_latitude) > 5).fillna(False)
    for rows in (online[is_new & settled], transactions[transactions.amount > 500], transactions[far]):
        assert len(rows) > 100
        assert rows.is_fraud.mean() < 0.35


@pytest.mark.django_db
def test_ingest_takes_the_file_and_a_model_of_it_finds_fraud(tmp_path, settings):
    settings.DATASETS_DIR, settings.BUNDLES_DIR = tmp_path / "datasets", tmp_path / "models"
    path = tmp_path / "made.parquet"
    call_command("generate", output=path, rows=20_000, days=60, fraud_share=0.04)
    call_command("ingest", schema="payments", source=str(path))
    stored, report = storage.read_rows(parquet_path(settings.DATASETS_DIR, "payments"), load_schema("payments"))
    assert (len(stored), report.frauds) == (len(pd.read_parquet(path)), stored.is_fraud.sum())
    assert "fraud_scenario" not in stored
    split = ['split.test_start="2025-02-14"', "split.train_days=23", "split.validation_days=7"]
    quick = ["xgboost.epochs=60", "evaluation.bootstrap_resamples=0"]
    call_command("train", schema="payments", set=[*split, *quick])
    auprc = ModelVersion.objects.get().metrics_of("test").auprc.value
    assert 0.6 < auprc < 0.97


def test_the_schema_of_it_has_inputs_of_every_kind():
    schema = load_schema("payments")
    assert len(schema.input_names) >= 40
    assert {"distinct", "share", "speed", "distance", "zscore", "rank"} <= {each.aggregate for each in schema.velocity}
    assert any(each.same for each in schema.velocity)
    assert any(len(each.of) > 1 for each in schema.entities)
    assert schema.ages
    assert schema.distances
