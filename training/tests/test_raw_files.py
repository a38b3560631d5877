"""What a raw file may hold: what could be read in two ways is refused, and what is refused replaces nothing."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from training.core.datasets import parquet_path, storage
from training.core.schema import load_schema, look_in, parse_schema
from training.core.schema.tokens import token_of

DECLARATION = """
title = "Payments of a toll road"
time = "event_time"
amount = "toll"
amount_decimals = 2
label = "fraud"
card = "plate"
past_days = 30
{declared}
[source]
event_time = "passed_at"
transaction_id = "id"

{further}
[[feature]]
name = "toll"
unit = "EUR"
minimum = 0.0
maximum = 500.0
description = "What was paid."

[[entity]]
name = "plate"
description = "Token of the number plate."
history_limit = 200
"""
START = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


def toll_rows(times, **columns):
    """As many rows as there are times, the first of them a fraud."""
    count = len(times)
    rows = {
        "id": [f"t{n}" for n in range(count)],
        "passed_at": times,
        "plate": ["p1"] * count,
        "toll": [3.2] * count,
        "fraud": [1] + [0] * (count - 1),
    }
    return pd.DataFrame(rows | columns)


@pytest.fixture
def toll(tmp_path, settings, own_schemas):
    """Declares the schema `toll`, with further lines, and ingests frames for it. Returns what was stored."""
    settings.DATASETS_DIR = tmp_path / "datasets"
    target = parquet_path(settings.DATASETS_DIR, "toll")

    def ingest(frame, *, declared="", further="", suffix=".csv", maximum=500.0, **form):
        (own_schemas / "toll.toml").write_text(
            DECLARATION.format(declared=declared, further=further).replace("500.0", str(maximum))
        )
        look_in(own_schemas)
        path = tmp_path / f"raw{suffix}"
        if suffix == ".csv":
            frame.to_csv(path, index=False, **form)
        elif suffix == ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_parquet(path)
        call_command("ingest", schema="toll", source=str(path))
        return pd.read_parquet(target)

    return ingest


@pytest.fixture
def target(settings, toll):
    return parquet_path(settings.DATASETS_DIR, "toll")


def seconds(*, unit=1):
    return [int(START.timestamp() * unit), int((START + timedelta(minutes=1)).timestamp() * unit)]


@pytest.mark.parametrize(
    "times",
    [
        seconds(),
        seconds(unit=1_000),
        seconds(unit=1_000_000),
        seconds(unit=1_000_000_000),
        [moment + 0.25 for moment in seconds()],
        ["1.7934E9", "1.7935E9"],
        [20261101, 20261102],
        [46327.4, 46327.5],  # days since 1900, of a spreadsheet
        ["20261101093000", "20261101093100"],
        ["01/11/2026 09:30", "02/11/2026 09:31"],
        ["11-01-2026", "11-02-2026"],
        ["01.11.2026 09:30", "02.11.2026 09:31"],
        ["1 Nov 2026", "2 Nov 2026"],
        ["09:30:00", "09:31:00"],
        ["2026-11", "2026-12"],
        ["26-11-01", "26-11-02"],
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_event_times_that_could_mean_several_things_are_refused_with_column_row_and_remedy(toll, times, suffix, target):
    with pytest.raises(CommandError, match=r"Column passed_at: row 1 has .*event_time_(unit|format)"):
        toll(toll_rows(times), suffix=suffix)
    assert not target.exists()


@pytest.mark.parametrize(
    ("times", "declared"),
    [
        (seconds(), 'event_time_unit = "s"'),
        ([float(moment) for moment in seconds()], 'event_time_unit = "s"'),
        (seconds(unit=1_000), 'event_time_unit = "ms"'),
        (seconds(unit=1_000_000), 'event_time_unit = "us"'),
        (seconds(unit=1_000_000_000), 'event_time_unit = "ns"'),
        (["01/11/2026 09:30", "01/11/2026 09:31"], 'event_time_format = "%d/%m/%Y %H:%M"'),
        (["11/01/2026 09:30 AM", "11/01/2026 09:31 AM"], 'event_time_format = "%m/%d/%Y %I:%M %p"'),
        ([20261101093000, 20261101093100], 'event_time_format = "%Y%m%d%H%M%S"'),
        (["2026-11-01T09:30:00Z", "2026-11-01T09:31:00Z"], ""),
        (["2026-11-01T10:30:00+01:00", "2026-11-01T04:31:00-05:00"], ""),
        (["2026-11-01t09:30:00z", "2026-11-01t09:31:00z"], ""),
        (["2026-11-01 09:30:00", "2026-11-01 09:31:00"], ""),
        (["2026-11-01 09:30:00 UTC", "2026-11-01 09:31:00.000000 UTC"], ""),
        (["2026/11/01 09:30", "2026/11/01 09:31"], ""),
        (["20261101T0930", "20261101T0931"], ""),
        (["2026-11-01T09:30:00,000", "2026-11-01T09:31:00"], ""),
        ([START, START + timedelta(minutes=1)], ""),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_event_times_of_iso_8601_or_of_the_declared_unit_or_form_are_read(toll, times, declared, suffix):
    stored = toll(toll_rows(times), declared=declared, suffix=suffix)
    assert list(stored["event_time"]) == [START, START + timedelta(minutes=1)]


def test_fractions_of_seconds_may_have_any_number_of_digits(toll):
    times = ["2026-11-01T09:30:00Z", "2026-11-01T09:30:00.5Z", "2026-11-01T09:30:00.123456Z"]
    stored = toll(toll_rows(times))
    assert [moment.microsecond for moment in stored["event_time"]] == [0, 123456, 500000]


def test_a_datetime_without_zone_is_taken_for_utc_and_with_one_converted(toll):
    naive = pd.Series([START.replace(tzinfo=None)] * 2)
    assert set(toll(toll_rows(naive), suffix=".parquet")["event_time"]) == {START}
    paris = pd.Series([START] * 2).dt.tz_convert("Europe/Paris")
    assert set(toll(toll_rows(paris), suffix=".parquet")["event_time"]) == {START}


@pytest.mark.parametrize(
    ("times", "declared", "message"),
    [
        (["2026-11-01T09:30:00Z", "01/11/2026"], "", "row 2 has 01/11/2026"),
        (["2026-11-01T09:30:00Z", "2026-11-01T09:30:00"], "", "row 2 has .*no offset from UTC"),
        (["2026-11-01T09:30:00Z", "2026-13-01T09:30:00Z"], "", "row 2 has 2026-13-01.*ISO 8601"),
        (["2026-11-01T09:30:00Z", "2026-02-30T09:30:00Z"], "", "row 2 has 2026-02-30"),
        (["2026-11-01T09:30:00Z", "1793525400"], "", "row 2 has 1793525400"),
        (["1793525400", "2026-11-01T09:30:00Z"], 'event_time_unit = "s"', "row 2 has 2026-11-01.*event_time_unit"),
        (["01/11/2026", "13/31/2026"], 'event_time_format = "%d/%m/%Y"', "row 2 has 13/31/2026"),
        (seconds(), 'event_time_unit = "ms"', "read as 1970-01-21.*EVENT_TIME_EARLIEST"),
        (seconds(unit=1_000), 'event_time_unit = "s"', "row 1 has 1793525400000"),
        (["1970-01-01T00:00:00Z", "2026-11-01T09:30:00Z"], "", "row 1 has 1970-01-01"),
        (["2026-11-01T09:30:00Z", "2226-11-01T09:30:00Z"], "", "row 2 has 2226-11-01"),
        (["09:30", "09:31"], 'event_time_format = "%H:%M"', "read as 1900-01-01"),
    ],
)
def test_an_event_time_that_cannot_be_is_refused_with_its_row(toll, times, declared, message):
    with pytest.raises(CommandError, match=message):
        toll(toll_rows(times), declared=declared)


def test_a_missing_event_time_is_missing(toll):
    with pytest.raises(CommandError, match="event_time: 1 missing"):
        toll(toll_rows(["2026-11-01T09:30:00Z", None]))


def test_the_first_day_that_is_believed_is_a_setting(toll, settings):
    settings.EVENT_TIME_EARLIEST = datetime(1960, 1, 1, tzinfo=UTC)
    assert toll(toll_rows(["1970-01-01", "1970-01-02"]))["event_time"].dt.year.tolist() == [1970, 1970]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ('event_time_unit = "y"', "event_time_unit is one of s, ms, us, ns, min, h, d"),
        ('event_time_unit = "s"\nevent_time_format = "%Y"', "declare one"),
    ],
)
def test_a_unit_that_does_not_exist_is_refused_by_the_schema(toll, declared, message):
    with pytest.raises(CommandError, match=message):
        toll(toll_rows(seconds()), declared=declared)


def test_what_is_said_of_the_raw_file_changes_no_model():
    plain, declared = (
        parse_schema("toll", DECLARATION.format(declared=line, further="")) for line in ("", 'event_time_unit = "s"')
    )
    assert plain.hash == declared.hash


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "N/A", "#N/A", "-", "007", "1e3", "True"])
def test_every_text_of_an_id_or_an_entity_is_that_text(toll, settings, text):
    stored = toll(toll_rows(["2026-11-01", "2026-11-02"], id=[text, "t1"], plate=[text, "p1"]))
    assert set(stored["transaction_id"]) == {text, "t1"}
    token = token_of(settings.ENTITY_HASH_KEY, "toll", "plate", text)
    assert token in set(stored["plate"])


def test_one_id_on_different_rows_is_refused_with_the_rows(toll):
    times = [f"2026-11-{day:02}" for day in range(1, 6)]
    with pytest.raises(
        CommandError, match=r"transaction_id: .* same id, 2 times \(rows 1, 4; rows 2, 5; the first row"
    ):
        toll(toll_rows(times, id=["a", "b", "c", "a", "b"]))


def test_copies_of_a_row_are_left_out_and_counted(toll, capsys):
    rows = toll_rows([f"2026-11-{day:02}" for day in range(1, 6)])
    stored = toll(pd.concat([rows, rows[:2]]))
    assert list(stored["transaction_id"]) == ["t0", "t1", "t2", "t3", "t4"]
    output = capsys.readouterr().out
    assert "5 rows, 1 of them fraud" in output
    assert "2 copies of an earlier row, id included, left out" in output


def test_different_transactions_of_equal_values_are_all_trained_on(toll, tmp_path, settings, target):
    from training.core.configuration.sections import SplitSettings
    from training.core.datasets.splits import split_rows

    rows = 4_000
    random = np.random.default_rng(0)
    frame = toll_rows(
        pd.Series(pd.Timestamp("2026-06-01", tz="UTC") + pd.to_timedelta(np.arange(rows), unit="min")),
        toll=random.choice([1.0, 2.0, 3.0, 4.0], rows),
        fraud=(random.random(rows) < 0.1).astype(int),
    )
    toll(frame, suffix=".parquet")
    dataset = storage.read(target, load_schema("toll"))
    split = split_rows(SplitSettings(), dataset)
    assert sum(map(len, vars(split).values())) == rows
    assert (dataset.report.rows, dataset.report.duplicates) == (rows, 0)


def test_a_number_that_is_no_model_input_is_stored_and_not_trained_on(toll, target):
    axles = '[[feature]]\nname = "axles"\nunit = "1"\nminimum = 0\nmaximum = 9\ndescription = "Axles."\nmodel = false\n'
    times = ["2026-11-01", "2026-11-02"]
    stored = toll(toll_rows(times, axles=[2, 3]), further=axles)
    dataset = storage.read(target, load_schema("toll"))
    assert list(stored["axles"]) == [2, 3]
    assert dataset.features.tolist() == [[3.2], [3.2]]
    assert dataset.labels.tolist() == [1, 0]


GOOD = toll_rows(["2026-11-01", "2026-11-02"])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (GOOD[:0], "There are no rows"),
        (GOOD.assign(fraud=0), "The column fraud has nothing but 0"),
        (GOOD.assign(fraud=1), "The column fraud has nothing but 1"),
        (GOOD.assign(fraud=[1, 0.5]), "fraud: 1 neither 0 nor 1"),
        (GOOD.assign(toll=[3.2, -1]), "toll: 1 out of range"),
        (GOOD.assign(toll=[3.2, np.inf]), "toll: 1 out of range"),
        (GOOD.assign(toll=["3.2", "NA"]), "Column toll"),
        (GOOD.assign(toll=["3.2", "3,2"]), "Column toll"),
        (GOOD.assign(id=["a", "a"]), "several different rows have the same id"),
        (GOOD.drop(columns="plate"), "plate"),
        (
            GOOD.assign(plate=["p1", "p" * 65]),
            r"Column plate: 1 values are refused .* in row 2\). Send a string of 1 to",
        ),
        (pd.DataFrame(), "no Parquet, JSON Lines or CSV file"),
    ],
)
def test_what_is_refused_leaves_the_dataset_that_was_there(toll, frame, message, target):
    toll(GOOD)
    before = target.read_bytes()
    with pytest.raises(CommandError, match=message):
        toll(frame)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_dataset_that_cannot_be_written_whole_leaves_the_one_that_was_there(toll, monkeypatch, target):
    toll(GOOD)
    before = target.read_bytes()

    def fails(writer, table, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.pq.ParquetWriter, "write_table", fails)
    with pytest.raises(OSError, match="No space"):
        toll(GOOD)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_csv_is_read_in_the_form_that_its_schema_declares(toll, tmp_path):
    form = 'event_time_unit = "h"\n[file]\nseparator = ";"\nencoding = "latin-1"\ndecimal = ","\nthousands = "."\n'
    form += 'missing = ["-"]\nfraud = "j\u00e1"\norigin = "2026-11-01T09:00:00"\n'
    rows = toll_rows(["0", "1"], toll=["1.000,50", "3,2"], fraud=["j\u00e1", "no"], plate=["K\u00f6ln", "1.000"])
    further = '[[feature]]\nname = "axles"\nunit = "1"\nminimum = 0\nmaximum = 9\ndescription = "A."\noptional = true\n'
    stored = toll(
        rows.assign(axles=["-", "2"]), declared=form, further=further, sep=";", encoding="latin-1", maximum=5000.0
    )
    assert stored["toll"].tolist() == [1000.5, 3.2]
    assert stored["fraud"].tolist() == [1, 0]
    assert stored["event_time"].tolist() == [START - timedelta(minutes=30), START + timedelta(minutes=30)]
    assert stored["axles"].isna().tolist() == [True, False]


def test_json_lines_are_read(toll):
    stored = toll(toll_rows(["2026-11-01T09:30:00Z", "2026-11-01T09:31:00Z"]), suffix=".jsonl")
    assert stored["toll"].tolist() == [3.2, 3.2]
    assert stored["event_time"].tolist() == [START, START + timedelta(minutes=1)]


def test_a_file_without_ids_has_a_transaction_in_each_row(toll):
    rows = toll_rows(["2026-11-01", "2026-11-01", "2026-11-01"]).drop(columns="id")
    stored = toll(rows, declared="[file]\nrow_ids = true")
    assert stored["transaction_id"].tolist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ('separator = ";;"', "separator is one character"),
        ('encoding = "latin-99"', "there is no encoding 'latin-99'"),
        ('encoding = "hex"', "there is no encoding 'hex'"),
        ('encoding = "a\\u0000b"', "there is no encoding"),
        ('decimal = ";"', 'decimal is "." or ","'),
        ('thousands = "."', "thousands is one character, and not that of decimal"),
        ('origin = "1.11.2026"', "origin is a date or time of ISO 8601, not '1.11.2026'"),
        ('seperator = ";"', r"\[file\] there is no seperator. Did you mean separator?"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_by_its_name(toll, declared, message):
    with pytest.raises(CommandError, match=message):
        toll(GOOD, declared=f"[file]\n{declared}")


def test_what_is_declared_of_the_file_changes_no_model():
    plain, declared = (
        parse_schema("toll", DECLARATION.format(declared=line, further="")) for line in ("", '[file]\nseparator = ";"')
    )
    assert plain.hash == declared.hash
