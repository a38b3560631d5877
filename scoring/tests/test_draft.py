"""`manage.py schema draft`: from a file to a schema with which ingest, training and scoring work as it stands."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from scoring.tests import shapes
from training import registry
from training.core.datasets import parquet_path, storage
from training.core.schema import Schema, load_schema, parse_schema

QUICK = ("xgboost.epochs=5", "evaluation.bootstrap_resamples=0")


@pytest.fixture
def draft(own_schemas, settings, tmp_path, capsys):
    """Drafts the schema `shop` from a file. Returns the schema, its file's text and what was printed."""
    settings.DATASETS_DIR, settings.BUNDLES_DIR = tmp_path / "datasets", tmp_path / "models"

    def run(path, **options) -> tuple[Schema, str, str]:
        capsys.readouterr()
        call_command("schema", "draft", str(path), name="shop", **options)
        return load_schema("shop"), (own_schemas / "shop.toml").read_text(), capsys.readouterr().out

    return run


@pytest.mark.django_db
@pytest.mark.parametrize("shape", shapes.ALL, ids=lambda shape: shape.__name__)
def test_a_draft_is_ingested_and_trained_as_it_stands(draft, shape, tmp_path, settings):
    path = shape(tmp_path)
    schema, _, _ = draft(path)
    call_command("ingest", schema="shop", source=str(path))
    rows, report = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schema)
    assert (report.rows, report.out_of_range) == (shapes.ROWS, 0)
    assert rows[schema.label].sum() == report.frauds > 0
    call_command("train", "--schema", "shop", *(part for setting in QUICK for part in ("--set", setting)))
    bundle = registry.load(registry.champion("shop"))
    assert bundle.description.split.protocol == "time"


def test_an_array_of_json_is_refused_with_the_way_to_lines(draft, tmp_path):
    (tmp_path / "shop.json").write_text('[{"amount": 1},\n {"amount": 2}]')
    with pytest.raises(CommandError, match=re.escape("an array. Write each row on a line of its own: jq -c '.[]'")):
        draft(tmp_path / "shop.json")


def kinds(schema: Schema) -> dict[str, str]:
    return {field.name: field.kind for field in schema.features}


def test_kinds_points_and_entities_are_found_out(draft, tmp_path):
    schema, _, _ = draft(shapes.sparkov(tmp_path), currency="USD")
    assert kinds(schema) == {
        **{"category": "category", "amt": "number", "gender": "category", "job": "category"},
        **{"lat": "latitude", "long": "longitude", "merch_lat": "latitude", "merch_long": "longitude"},
    }
    assert schema.entity_names == ("card", "merchant", "card_with_merchant")
    assert schema.entities[2].of == ("card", "merchant")
    assert schema.card == "card"
    assert schema.currency == "USD"
    assert [distance.between for distance in schema.distances] == [("home", "merch")]
    windows = {f"card_{what}_{days}d" for what in ("count", "sum", "mean") for days in (1, 7, 30)}
    assert windows | {"hour", "weekday", "card_merch_kmh", "merchant_risk_30d"} <= set(schema.input_names)
    of_pairs = {"card_distinct_merchant_1d", "merchant_distinct_card_1d", "card_with_merchant_count_30d"}
    assert of_pairs <= set(schema.input_names)
    assert [feature.name for feature in schema.velocity if feature.same == "category"] == [
        *("card_category_count_30d", "card_category_mean_30d", "card_category_amount_to_mean_30d"),
    ]
    assert not {"lat", "long", "merch_lat", "merch_long"} & set(schema.input_names)


def test_what_all_but_names_the_card_is_no_model_input(draft, tmp_path):
    schema, text, _ = draft(shapes.sparkov(tmp_path))
    [job] = [field for field in schema.features if field.name == "job"]
    assert (job.is_input, job.optional) == (False, True)
    assert "each card has one value of it" in text
    assert "gender" in schema.input_names


def test_a_banks_export_is_read_as_it_is_meant(draft, tmp_path, settings):
    path = shapes.bank(tmp_path)
    schema, _, printed = draft(path)
    assert "separator: ';'; encoding: 'cp1252'; decimal: ','" in printed
    assert kinds(schema) == {"Branche": "category", "Land": "country", "Betrag": "number", "Geburtsdatum": "date"}
    assert schema.currency == "EUR"  # which all rows have
    assert [(age.name, age.unit) for age in schema.ages] == [("Geburtsdatum_age", "years")]
    call_command("ingest", schema="shop", source=str(path))
    rows, _ = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schema)
    raw = pd.read_csv(path, sep=";", encoding="latin-1", dtype=str)
    amounts = raw["Betrag"].str.replace(".", "").str.replace(",", ".").astype(float)
    assert rows["Betrag"].sum() == pytest.approx(amounts.sum())
    assert set(rows["Branche"]) == {"Lebensmittel", "Möbel", "Tankstelle"}
    first = pd.to_datetime(raw["Geburtsdatum"], format="%d.%m.%Y").dt.strftime("%Y-%m-%d")
    assert set(rows["Geburtsdatum"]) == set(first)
    assert rows["Betrug"].sum() == (raw["Betrug"] == "J").sum()


def test_hours_since_an_unknown_moment_become_event_times_and_rows_get_ids(draft, tmp_path, settings):
    path = shapes.paysim(tmp_path)
    schema, text, _ = draft(path)
    assert (schema.event_time_unit, schema.file.origin, schema.file.row_ids) == ("h", "2001-01-01", True)
    assert "isFlaggedFraud: gives the label away" in text
    assert "nameOrig: nearly each row has another value" in text
    assert schema.entity_names == ("nameDest",)
    call_command("ingest", schema="shop", source=str(path))
    rows, _ = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schema)
    steps = pd.read_csv(path)["step"]
    assert rows["event_time"].iloc[0] == pd.Timestamp("2001-01-01", tz="UTC") + pd.Timedelta(hours=int(steps.min()))
    assert rows["transaction_id"].nunique() == shapes.ROWS


def test_numbers_without_entities_stay_a_plain_schema(draft, tmp_path):
    schema, _, _ = draft(shapes.creditcard(tmp_path))
    assert schema.is_plain
    assert (schema.time, schema.amount, schema.label) == ("Time", "Amount", "Class")
    assert schema.input_names == load_schema("ulb").input_names


def payments(rows=400, **columns):
    random = np.random.default_rng(0)
    frame = {
        "id": np.arange(rows),
        "time": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows) * 7_000, unit="s"),
        "card": random.choice([f"c{number}" for number in range(20)], rows),
        "amount": random.lognormal(3, 1, rows).round(2),
        "fraud": (np.arange(rows) % 10 == 0).astype(int),
    }
    return pd.DataFrame(frame | columns)


CARDS = ["4111111111111111", "5555 5555 5555 4444", "378282246310005", "6011111111111117"]
SECOND_HALF = np.arange(400) >= 330
DOUBTS = {
    "scenario": (payments()["fraud"] * 3, "scenario: gives the label away: alone it has an AUPRC of 1.00"),
    "note": (np.where(np.arange(400) % 20 == 0, "stolen", "x"), "note: gives the label away: each row with 'stolen'"),
    "fraud_reviewed": (np.arange(400) % 7, "fraud_reviewed: is called after the label"),
    "version": (np.full(400, "v1"), "version: has the same value in all rows, 'v1'"),
    "nothing": (np.full(400, None), "nothing: has no value in any row"),
    "amount_2": (payments()["amount"], "amount_2: is equal to amount in all rows"),
    "mcc": (np.arange(400) % 29 + 5_000, "mcc: is a number that its name calls a code or an id: a category"),
    "card_id": (np.arange(400) // 2 % 90, "card_id: is an id written as a number: an entity"),
    "pan": (CARDS * 100, "pan: has values that are card numbers or look like them, which `ingest` and"),
    "paid with": ([f"card {card}, and a pin" for card in CARDS] * 100, "paid with: has values that are card numbers"),
    "reference": ([f"{n % 97} of {CARDS[0] if n == 7 else 'x'}" for n in range(400)], "reference: has values that are"),
    "number": ([4111111111111111, 378282246310005] * 200, "number: has values that are card numbers"),
    "card": ([*CARDS, "5105105105105100"] * 80, "card: has 5 values that are card numbers or look like them"),
    "CVV": (np.arange(400) % 97, "CVV: is a verification code by its name"),
    "channel": (np.where(SECOND_HALF, "app", "web"), "channel: has values that live in one period only, such as app"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_a_doubt_is_named_on_the_screen_and_in_the_file(draft, tmp_path, name):
    values, message = DOUBTS[name]
    payments(**{name: values}).to_parquet(tmp_path / "payments.parquet")
    schema, text, printed = draft(tmp_path / "payments.parquet")
    assert message in printed
    assert message.partition(": ")[2][:40] in " ".join(text.replace("\n# ", " ").split())
    is_left_out = "LEFT OUT" in printed
    assert is_left_out == (name not in {*schema.feature_names, *schema.entity_names})


def test_a_pair_that_does_not_come_again_is_no_entity(draft, tmp_path):
    payments(merchant=[f"m{number}" for number in range(200)] * 2).to_parquet(tmp_path / "payments.parquet")
    assert draft(tmp_path / "payments.parquet")[0].entity_names == ("card", "merchant")


def test_time_zones_are_found_out_and_their_hours_are_computed(draft, tmp_path):
    payments(zone=["Europe/Berlin", "America/New_York", None, "UTC"] * 100).to_parquet(tmp_path / "payments.parquet")
    schema, _, _ = draft(tmp_path / "payments.parquet")
    assert kinds(schema)["zone"] == "timezone"
    assert ("zone_hour", "zone") in [(moment.name, moment.zone) for moment in schema.calendar]


def test_a_draft_says_how_amounts_in_several_currencies_are_declared(draft, own_schemas, tmp_path):
    payments(currency=["EUR", "JPY"] * 200).to_csv(tmp_path / "raw.csv", index=False)
    schema, text, _ = draft(tmp_path / "raw.csv", currency="EUR")
    assert not schema.amount_currency, "the column may be of the merchant, and tell nothing of the amount"
    line = 'amount_currency = "currency"'
    assert f"# If amounts are in the currency of currency, declare {line} above" in text
    declared = text.replace("amount_decimals = ", f"{line}\namount_decimals = ", 1)
    assert parse_schema("shop", declared).currency == "EUR"


def test_equal_rows_are_counted(draft, tmp_path):
    frame = payments()
    pd.concat([frame, frame[:3]]).to_parquet(tmp_path / "payments.parquet")
    _, text, printed = draft(tmp_path / "payments.parquet")
    assert "DOUBT file: 3 rows are equal to an earlier one in all columns." in printed
    assert "DOUBT: the file: 3 rows" in text


def test_what_stands_for_a_missing_number_is_found_out(draft, tmp_path, settings):
    payments(age=[None, 31.5, *range(20, 418)]).to_csv(tmp_path / "payments.csv", index=False, na_rep="\\N")
    schema, _, _ = draft(tmp_path / "payments.csv")
    assert schema.file.missing == ("\\N",)
    call_command("ingest", schema="shop", source=str(tmp_path / "payments.csv"))
    rows, report = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schema)
    assert (report.nulls, rows["age"].isna().sum()) == (1, 1)


def test_json_lines_and_csv_and_parquet_give_the_same_schema(draft, tmp_path, settings):
    frame = payments(kind=["a", None, "b", "a"] * 100, lost=[None, 2, 1, 5] * 100)
    frame.to_parquet(tmp_path / "payments.parquet")
    frame.to_csv(tmp_path / "payments.csv", index=False, sep="\t")
    frame.to_json(tmp_path / "payments.jsonl", orient="records", lines=True, date_format="iso")
    schemas, stored = [], []
    for suffix in ("parquet", "csv", "jsonl"):
        schemas.append(draft(tmp_path / f"payments.{suffix}", force=True)[0])
        call_command("ingest", schema="shop", source=str(tmp_path / f"payments.{suffix}"))
        stored.append(storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schemas[-1])[0])
    assert len({schema.hash for schema in schemas}) == 1
    for rows in stored[1:]:
        pd.testing.assert_frame_equal(rows, stored[0], check_categorical=False)


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (
            payments().rename(columns={"fraud": "y"}),
            {},
            "which column is the label: name it by --label, one of id, time",
        ),
        (payments().rename(columns={"amount": "x"}), {}, "which column is the amount: name it by --amount"),
        (payments().drop(columns="time"), {}, "which column is the time of a transaction: name it by --time"),
        (payments(fraud=["yes", "no", "?", "no"] * 100), {}, "fraud has 3 different values and 0 missing ones"),
        (
            payments(target=[0, 1] * 200, label=[0, 1] * 200, fraud=0),
            {},
            "target and label could be it. fraud has 1 dif",
        ),
        (payments(amount="$1.50"), {}, r"amount has values that are no numbers, such as '\$1\.50'"),
        (payments(amount="1.2.3"), {"amount": "amount"}, "amount has values that are no numbers, such as '1.2.3'"),
        (payments(amount=None), {"amount": "amount"}, "--amount: amount has no value in 400 rows"),
        (payments(time=None), {"time": "time"}, "--time: time has no value in 400 rows"),
        (payments(time="noon"), {}, "time has values that are no times, such as 'noon': write them like 2026-01-31T12"),
        (payments(), {"label": "frud"}, r"--label: there is no column frud\. Did you mean fraud\?"),
        (payments(), {"label": "card"}, "--label: card has 20 different values"),
        (payments(fraud=["x", "z"] * 200), {}, "neither 'x' nor 'z' is known for fraud"),
        (payments(fraud=[1, 2] * 200), {}, "neither '1' nor '2' is known for fraud"),
        (payments(fraud=[1, -1] * 200), {}, "neither '1' nor '-1' is known for fraud"),
        (payments(), {"amount": "card"}, "--amount: card has values that are no numbers, such as 'c"),
        (payments(), {"time": "card"}, "--time: card has values that are no times, such as 'c"),
        (payments(time=["01/02/2026 10:00"] * 400), {}, "say which by --day-first or --month-first"),
        (payments()[:0], {}, "has no rows, or no columns"),
        (payments()[["id"]], {}, "has one column"),
    ],
)
def test_what_cannot_be_found_out_is_asked_for(draft, tmp_path, frame, options, message):
    frame.to_csv(tmp_path / "payments.csv", index=False)
    with pytest.raises(CommandError, match=message):
        draft(tmp_path / "payments.csv", **options)


@pytest.mark.parametrize(
    "form", ["%d-%b-%Y %H:%M:%S", "%d.%m.%y %H:%M:%S", "%Y%m%d%H%M%S", "%Y-%m-%dT%H:%M:%S.500+02:00", "%s.25"]
)
def test_times_are_read_as_they_are_written(draft, tmp_path, settings, form):
    frame = payments()
    frame.assign(time=frame["time"].dt.strftime(form)).to_csv(tmp_path / "payments.csv", index=False)
    schema, _, _ = draft(tmp_path / "payments.csv")
    call_command("ingest", schema="shop", source=str(tmp_path / "payments.csv"))
    rows, _ = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schema)
    off = rows["event_time"].dt.tz_localize(None) - frame["time"]
    assert off.dt.total_seconds().abs().max() <= 7_200
    assert off.nunique() == 1


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize(
    ("name", "origin", "unit"),
    [("date", "1899-12-30", "D"), ("paid_at", "1970-01-01", "s"), ("paid_at", "1970-01-01", "ms")],
)
def test_numbers_that_tell_when_they_begin_are_read_as_times(draft, tmp_path, settings, name, origin, unit, decimal):
    frame = payments()
    numbers = (frame["time"] - pd.Timestamp(origin)) / pd.Timedelta(1, unit)
    written = frame.rename(columns={"time": name}).assign(**{name: numbers if unit == "D" else numbers.astype(int)})
    written.to_csv(tmp_path / "payments.csv", index=False, sep=";", decimal=decimal)
    draft(tmp_path / "payments.csv")
    call_command("ingest", schema="shop", source=str(tmp_path / "payments.csv"))
    rows, _ = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), load_schema("shop"))
    off = rows["event_time"].dt.tz_localize(None) - frame["time"]
    assert off.abs().max() < pd.Timedelta(1, "ms")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "payments.csv is empty"),
        ('id,time\n1,"a\n' + f"2,{'b' * 500}\n" * 400, "is no CSV: field larger than field limit"),
        (b"PK\x03\x04\x14", "is packed, or a spreadsheet"),
        (gzip.compress(b"id,time\n"), "is packed, or a spreadsheet"),
    ],
    ids=["empty", "unbalanced", "spreadsheet", "gzip"],
)
def test_a_file_that_is_no_table_is_refused(draft, tmp_path, text, message):
    (tmp_path / "payments.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CommandError, match=message):
        draft(tmp_path / "payments.csv")


def test_a_column_of_several_types_is_refused_with_the_remedy(draft, tmp_path):
    (tmp_path / "payments.jsonl").write_text('{"id": 1}\n{"id": "a"}\n' * 3)
    with pytest.raises(
        CommandError, match=r"Column\(/id\) changed from number to string.*Write a column's values as one"
    ):
        draft(tmp_path / "payments.jsonl")


def test_rows_without_columns_are_nothing_to_draft_from(draft, tmp_path):
    (tmp_path / "payments.jsonl").write_text("{}\n" * 3)
    with pytest.raises(CommandError, match="has no rows, or no columns"):
        draft(tmp_path / "payments.jsonl")


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("form", ["1,234.50", "1'234.50", "1 234,50", "1.234,50"])
def test_amounts_are_read_as_they_are_written(draft, tmp_path, settings, form, separator):
    frame = payments()
    frame["amount"] += 1_000
    thousands, decimal = form[1], form[5]
    texts = [f"{amount:,.2f}".translate({44: thousands, 46: decimal}) for amount in frame["amount"]]
    frame.assign(amount=texts).to_csv(tmp_path / "payments.csv", index=False, sep=separator)
    schema, _, _ = draft(tmp_path / "payments.csv")
    call_command("ingest", schema="shop", source=str(tmp_path / "payments.csv"))
    rows, _ = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schema)
    assert rows["amount"].sum() == pytest.approx(frame["amount"].sum())


UNUSABLE = {
    "note": (["a\nb", "c"] * 200, r"'a\nb' is refused as a category"),
    "held": (["x" * 65, "y"] * 200, ""),
    "birth": (["1980-01-31"] * 200 + ["2000-12-24"] * 200, ""),
    "opened": (["31.01.2020", "24.12.2021"] * 200, "its dates are written as %d.%m.%Y, and those of another column as"),
    "expiry": (["2027-01-31", "9999-12-31"] * 200, "dates outside of 1850-01-01 to 2200-01-01, such as 9999-12-31"),
    "account": ([2**60, 2**60 + 1] * 200, "it has whole numbers beyond 2^53"),
    "ratio": (payments()["amount"].round(-1) * 1e300, "it has numbers beyond"),
    "merchant": ([f"{'m' * 64}{number % 37}" for number in range(400)], ""),
    "odd\x07name": (["p", "q"] * 200, ""),
    "hour": (np.arange(400) % 24, ""),
    "card_count_1d": (np.arange(400) % 3, ""),
}


def test_what_ingest_would_refuse_is_left_out_and_what_is_made_has_a_name_of_its_own(draft, tmp_path):
    payments(**{name: values for name, (values, _) in UNUSABLE.items()}).to_csv(tmp_path / "payments.csv", index=False)
    schema, _, printed = draft(tmp_path / "payments.csv")
    call_command("ingest", schema="shop", source=str(tmp_path / "payments.csv"))
    for name, (_, why) in UNUSABLE.items():
        assert (f"LEFT OUT {name}: " in printed) == bool(why)
        assert why in printed
    assert {"hour", "hour_made", "card_count_1d", "card_count_1d_made"} <= set(schema.input_names)


@pytest.mark.parametrize(("day_first", "month"), [(True, 2), (False, 1)])
def test_the_order_of_day_and_month_is_as_the_user_says(draft, tmp_path, settings, day_first, month):
    times = [f"01/02/2026 10:{number % 60:02}" for number in range(400)]
    payments(time=times).to_csv(tmp_path / "payments.csv", index=False)
    schema, _, _ = draft(tmp_path / "payments.csv", day_first=day_first)
    call_command("ingest", schema="shop", source=str(tmp_path / "payments.csv"))
    rows, _ = storage.read_rows(parquet_path(settings.DATASETS_DIR, "shop"), schema)
    assert set(rows["event_time"].dt.month) == {month}


@pytest.mark.parametrize(
    ("name", "message"),
    [("ulb", "ulb is a schema of the package"), ("my shop", "letters, digits, - and _"), ("s" * 33, "at most 32")],
)
def test_a_name_that_cannot_be_is_refused(own_schemas, tmp_path, name, message):
    with pytest.raises(CommandError, match=message):
        call_command("schema", "draft", str(tmp_path / "payments.csv"), name=name)


def test_a_draft_replaces_a_schema_by_force_only(draft, own_schemas, tmp_path):
    payments().to_parquet(tmp_path / "payments.parquet")
    draft(tmp_path / "payments.parquet")
    (own_schemas / "shop.toml").write_text("# mine\n")
    with pytest.raises(CommandError, match="is there already"):
        draft(tmp_path / "payments.parquet")
    assert (own_schemas / "shop.toml").read_text() == "# mine\n"
    draft(tmp_path / "payments.parquet", force=True)
    (own_schemas / "shop.toml").unlink()  # the training configuration that is left may be somebody's
    with pytest.raises(CommandError, match=r"configs/shop\.toml is there already"):
        draft(tmp_path / "payments.parquet")


@pytest.mark.django_db
def test_of_a_long_file_a_part_is_looked_at_and_what_is_rare_in_the_rest_is_found(draft, tmp_path, settings):
    rows = pd.read_parquet(shapes.sparkov(tmp_path))
    rows["trans_num"] = rows["trans_num"].where(rows.index != 0, "first")
    rows = pd.concat([rows, rows.assign(trans_num=rows["trans_num"] + "-again")] * 4, ignore_index=True)
    rows["trans_num"] += "-" + rows.index.astype(str)
    rows.loc[4_001, "gender"] = None
    rows.loc[5_003, "amt"] = 900_000.25
    path = tmp_path / "long.csv"
    rows.to_csv(path, index=False)
    whole, _, _ = draft(path)
    settings.DRAFT_VALUES = 1_000 * len(rows.columns)
    schema, text, _ = draft(path, force=True)
    assert (schema.features, schema.input_names) == (whole.features, whole.input_names)
    seen = int(re.search(r"8,000 rows, of which ([\d,]+) were looked at", text)[1].replace(",", ""))
    assert 480 <= seen <= 1_100
    call_command("ingest", schema="shop", source=str(path))
