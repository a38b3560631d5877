"""Files of schemas that change while a process runs, and what becomes of the models of the declaration before."""

import shutil

import pytest

from training import declarations, registry
from training.core.exceptions import SchemaInvalid, SchemaNotFound
from training.core.schema import comparison, load_schema, loaded, parse_schema
from training.models import SchemaVersion
from training.tests.test_own_schema import DECLARED

FURTHER = """
[[feature]]
name = "channel"
kind = "category"
optional = true
description = "How it was ordered."
"""
FULL = (
    DECLARED.replace("[[feature]]", 'card = "card"\n[[feature]]', 1)
    + FURTHER
    + """
[[feature]]
name = "note"
kind = "text"
description = "A note, which no model takes."
[[entity]]
name = "card"
description = "A token of the card."
history_limit = 100
[[velocity]]
name = "card_count_1d"
entity = "card"
aggregate = "count"
of = "events"
window_days = 1
unit = "1"
description = "Payments of the card in a day."
"""
)


@pytest.fixture
def shop(own_schemas):
    """Writes the file of the schema `shop`."""
    path = own_schemas / "shop.toml"

    def write(text):
        (path.write_bytes if isinstance(text, bytes) else path.write_text)(text)
        return path

    write(DECLARED)
    assert load_schema("shop").feature_names == ("amount",)
    return write


def test_a_changed_file_is_taken_once_it_has_stood_still(shop):
    shop(DECLARED + FURTHER)
    assert loaded.look() == []
    shop(DECLARED + FURTHER.replace("optional", "# optional"))  # still being written
    assert loaded.look() == []
    assert load_schema("shop").feature_names == ("amount",)
    assert loaded.look() == ["shop"]
    assert load_schema("shop").feature_names == ("amount", "channel")
    assert loaded.look() == []


def test_a_new_file_is_a_new_schema_and_a_removed_one_is_none(shop, own_schemas):
    shutil.copy(own_schemas / "shop.toml", own_schemas / "stall.toml")
    assert (loaded.look(), loaded.look()) == ([], ["stall"])
    assert "stall" in loaded.current
    (own_schemas / "stall.toml").unlink()
    assert (loaded.look(), loaded.look()) == ([], ["stall"])
    assert "stall" not in loaded.current
    with pytest.raises(SchemaNotFound):
        load_schema("stall")


@pytest.mark.parametrize(
    "broken",
    [
        "title = ",
        b"\xff\xfe\x00",
        "x = " + "9" * 5_000,
        "x = " + "[" * 100_000,
        DECLARED.replace("500.0", "-1.0"),
        "",
    ],
    ids=["toml", "bytes", "integer", "nested", "bounds", "empty"],
)
def test_a_file_that_became_invalid_leaves_the_declaration_before(shop, broken):
    shop(broken)
    loaded.look(settled=False)
    assert loaded.current["shop"].feature_names == ("amount",)
    assert loaded.faults["shop"].startswith("Schema shop: ")
    assert "ulb" in loaded.current
    with pytest.raises(SchemaInvalid, match="Schema shop: "):
        load_schema("shop")
    shop(DECLARED + FURTHER)
    loaded.look(settled=False)
    assert not loaded.faults
    assert load_schema("shop").feature_names == ("amount", "channel")


def test_a_file_that_never_was_valid_says_why(own_schemas):
    (own_schemas / "shop.toml").write_text("title = ")
    with pytest.raises(SchemaInvalid, match="Schema shop: Invalid value"):
        load_schema("shop")
    assert "ulb" in loaded.current


@pytest.mark.parametrize(
    ("old", "new", "obstacle"),
    [
        ('title = "Payments"', 'title = "Purchases"', None),
        ("past_days = 30", "past_days = 3", None),
        ("The amount.", "What was paid.", None),
        ("[[entity]]", FURTHER.replace("channel", "colour") + "[[entity]]", None),
        ("maximum = 500.0", "maximum = 400.0", None),
        ('name = "note"', 'name = "remark"', None),
        ("window_days = 1", "window_days = 2", None),
        ('kind = "category"', 'kind = "category"\nmodel = false', None),
        ("maximum = 500.0", "maximum = 600.0", "field amount: its range is wider, 0 to 500 → 0 to 600"),
        ('unit = "EUR"', 'unit = "USD"', "field amount: unit EUR → USD"),
        ("past_days", "amount_decimals = 3\npast_days", "amount_decimals: 2 → 3"),
        ('kind = "category"', 'kind = "text"', "field channel: kind category → text"),
        ('kind = "category"', 'kind = "category"\npersonal = true', "field channel: personal no → yes"),
        ('name = "channel"', 'name = "chanel"', "field channel: removed"),
        ('"A token of the card."', '"A token of the card."\noptional = true', "entity card: may be missing now"),
    ],
)
def test_a_change_is_compatible_if_transactions_still_have_all_that_the_model_reads(old, new, obstacle):
    before, after = parse_schema("shop", FULL), parse_schema("shop", FULL.replace(old, new, 1))
    assert comparison.obstacles(before, before) == comparison.differences(before, before) == []
    assert comparison.differences(before, after)
    assert comparison.obstacles(before, after) == ([] if obstacle is None else [obstacle])


def test_what_may_be_missing_now_but_never_was_is_no_compatible_change():
    before, after = parse_schema("shop", FULL.replace("optional = true", "")), parse_schema("shop", FULL)
    assert comparison.obstacles(before, after) == ["field channel: may be missing now"]
    assert comparison.differences(before, after) == ["field channel: optional no → yes"]
    assert comparison.obstacles(after, before) == []


@pytest.mark.django_db
def test_a_model_scores_under_the_declaration_that_it_was_trained_with_after_its_file_has_changed(
    own_schemas, settings, tmp_path
):
    from training.tests.support import bundle_of_purchases, with_purchases

    settings.BUNDLES_DIR = tmp_path / "models"
    small = {"model.architecture": "xgboost", "xgboost.epochs": 5, "policy.review_precision": 0.1}
    with with_purchases(own_schemas) as declared:
        version = registry.register(
            bundle_of_purchases(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, **small), promote=True
        )
        path = own_schemas / "purchases.toml"
        path.write_text(path.read_text().replace('"Purchases"', '"What was bought"') + FURTHER)
        loaded.forget()  # as in a process that starts now
        assert load_schema("purchases") != declared
        assert registry.load(version).declared == registry.declaration_in_force("purchases") == declared
        assert registry.outdated(load_schema("purchases")) == [version]
        path.unlink()
        loaded.forget()
        assert registry.load(version).declared == declared


@pytest.mark.django_db
def test_each_declaration_that_was_seen_is_kept_once_with_its_text(shop):
    for text in (DECLARED, DECLARED + FURTHER, DECLARED):
        shop(text)
        loaded.look(settled=False)
        declarations.remember()
        declarations.remember()
    rows = SchemaVersion.objects.filter(schema="shop").order_by("pk")
    assert [row.text for row in rows] == [DECLARED, DECLARED + FURTHER]
    assert [parse_schema("shop", row.text).hash for row in rows] == [row.hash for row in rows]
    with pytest.raises(SchemaNotFound, match="has seen the declaration 000000000000 of the schema shop"):
        declarations.find("shop", "0" * 64)
