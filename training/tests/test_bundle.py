"""A bundle is read as it was written; anything else is refused before it is parsed."""

import hashlib
import hmac
import json
import shutil

import numpy as np
import pytest
from django.conf import settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.numpy import save

from training.core.bundle import load_bundle, write_bundle
from training.core.exceptions import BundleRefused
from training.core.families import scorer_of
from training.core.scored import ScoredRows
from training.tests.support import made_up_rows

KEY = settings.BUNDLE_SIGNING_KEY
FILES = [
    "bundle.json",
    "weights.safetensors",
    "reference.json",
    "test_rows.safetensors",
    "scored.safetensors",
    "plots/precision_recall.png",
    "plots/reliability.png",
    "plots/roc.png",
    "plots/scores.png",
    "plots/training.png",
]


@pytest.fixture
def directory(bundle, tmp_path):
    """A copy of a real bundle."""
    return shutil.copytree(bundle.path, tmp_path / bundle.version)


def refusal(directory, key=KEY):
    with pytest.raises(BundleRefused) as refused:
        load_bundle(directory, signing_key=key)
    return str(refused.value)


def sign(directory, manifest, key=KEY):
    content = json.dumps(manifest).encode()
    (directory / "manifest.json").write_bytes(content)
    (directory / "manifest.sig").write_text(hmac.new(key.encode(), content, hashlib.sha256).hexdigest())


def signed_anew(directory, key=KEY, **changes):
    """Sign what lies there, as somebody with the key could."""
    present = [name for name in FILES if (directory / name).exists()]
    names = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in present}
    sign(directory, {"format": 1, "files": names} | changes, key)


def test_a_bundle_comes_back_as_it_was_written(tmp_path, bundle):
    random = np.random.default_rng(0)
    weights = {
        "standardise/mean": random.normal(size=30).astype(np.float32),
        "dense/kernel": np.eye(3, dtype=np.float32),
    }
    files = {"weights.safetensors": save(weights)}
    scored = {
        part: ScoredRows(
            np.array([0, 1, 0], np.int8), np.array([0.1, share, 0.0]), np.array([5, 0, np.nan], np.float32)
        )
        for part, share in (("validation", 1 / 3), ("test", 2 / 3))
    }
    written = write_bundle(
        tmp_path / "new" / "v1",
        description=bundle.description,
        model_files=files,
        reference=bundle.reference,
        test_rows=np.array([5, 1, 9]),
        scored=scored,
        plots={"roc": b"picture"},
        signing_key=KEY,
    )
    read = load_bundle(tmp_path / "new" / "v1", signing_key=KEY)
    for found in (written, read):
        assert found.version == "v1"
        assert found.description == bundle.description
        assert found.files == files
        assert found.scored.keys() == scored.keys()
        for part, rows in scored.items():
            for one, other in zip(found.scored[part], rows, strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
        assert found.weights.keys() == weights.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(found.weights[name], array)
        assert found.reference == bundle.reference
        assert found.test_rows.tolist() == [5, 1, 9]
        assert found.plots == {"roc": b"picture"}


def test_a_bundle_holds_data_only(directory):
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert found == {*FILES, "manifest.json", "manifest.sig"}


def test_a_copied_bundle_is_as_good_as_the_original(directory, bundle):
    assert load_bundle(directory, signing_key=KEY).description == bundle.description


def test_a_bundle_under_the_name_of_another_version_is_refused(directory, bundle):
    swapped = directory.rename(directory.with_name("another"))
    with pytest.raises(BundleRefused, match=f"another: this is the bundle of {bundle.version}"):
        load_bundle(swapped, signing_key=KEY)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*FILES, "manifest.json", "manifest.sig"]), st.floats(0, 1, exclude_max=True), st.integers(1, 255)
)
def test_one_altered_byte_anywhere_is_refused(directory, name, place, difference):
    path = directory / name
    original = path.read_bytes()
    altered = bytearray(original)
    altered[int(place * len(altered))] ^= difference
    path.write_bytes(altered)
    try:
        refusal(directory)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig"])
def test_a_missing_file_is_refused_by_name(directory, name):
    (directory / name).unlink()
    assert name in refusal(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused_by_name(directory, name):
    (directory / name).write_bytes((directory / name).read_bytes()[:-1])
    assert f"{name} has been altered" in refusal(directory)


@pytest.mark.parametrize("name", ["weights.pkl", "model.keras", "plots/more.png"])
def test_a_surplus_file_is_refused_by_name(directory, name):
    (directory / name).write_bytes(b"surplus")
    assert f"{name} is not part of what was signed" in refusal(directory)


def test_what_a_file_manager_leaves_behind_does_no_harm(directory):
    (directory / ".DS_Store").write_bytes(b"window positions")
    load_bundle(directory, signing_key=KEY)


def test_a_bundle_signed_with_another_key_is_refused(directory):
    signed_anew(directory, key="k" * 40)
    assert "signature" in refusal(directory)


def test_our_bundle_is_refused_where_another_key_holds(directory):
    assert "signature" in refusal(directory, key="k" * 40)


def test_an_empty_signature_is_refused(directory):
    (directory / "manifest.sig").write_bytes(b"")
    assert "signature" in refusal(directory)


@pytest.mark.parametrize("name", FILES[:4])
def test_nothing_is_parsed_before_its_hash_is_checked(directory, name):
    # Each of these would make its parser fail first.
    (directory / name).write_bytes(b"{" * 100_000)
    assert f"{name} has been altered" in refusal(directory)


def test_the_manifest_is_not_parsed_before_its_signature_is_checked(directory):
    (directory / "manifest.json").write_bytes(b"{" * 100_000)
    assert "signature" in refusal(directory)


@pytest.mark.parametrize("name", FILES[:4])
def test_a_signed_manifest_that_leaves_a_part_out_is_refused(directory, bundle, name):
    signed_anew(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["files"][name]
    sign(directory, manifest)
    # What the model needs is known from bundle.json alone, and before that is read, every file must have been signed.
    assert f"{name} is {'not part of what was signed' if name in bundle.files else 'missing'}" in refusal(directory)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_manifest_cannot_lead_outside_of_the_bundle(directory, absolute):
    outside = directory.parent / "secret.txt"
    outside.write_text("secret")
    signed_anew(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    name = str(outside) if absolute else "../secret.txt"
    manifest["files"][name] = hashlib.sha256(b"secret").hexdigest()
    sign(directory, manifest)
    assert "outside its own directory" in refusal(directory)


def test_a_link_cannot_lead_outside_of_the_bundle(directory):
    outside = (directory / "plots/roc.png").rename(directory.parent / "roc.png")
    (directory / "plots/roc.png").symlink_to(outside)
    assert "outside its own directory" in refusal(directory)


def test_a_bundle_from_before_there_were_families_goes_on_scoring(directory, bundle):
    description = json.loads((directory / "bundle.json").read_text())
    del description["model"]["files"]
    (directory / "bundle.json").write_text(json.dumps(description))
    (directory / "scored.safetensors").unlink()
    names = {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in FILES if "scored" not in name
    }
    sign(directory, {"format": 1, "files": names})
    older = load_bundle(directory, signing_key=KEY)
    assert older.scored == {}
    rows = made_up_rows(rows=10, frauds=2)[0].astype(np.float32)
    np.testing.assert_array_equal(scorer_of(older).score(rows), scorer_of(bundle).score(rows))


def test_a_bundle_whose_model_is_not_all_there_is_refused(directory):
    description = json.loads((directory / "bundle.json").read_text())
    description["model"]["files"] = ["weights.safetensors", "trees.ubj"]
    (directory / "bundle.json").write_text(json.dumps(description))
    signed_anew(directory)
    assert "trees.ubj is missing" in refusal(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"device": None}, "device"), ({"data": {"sha256": "1"}}, "rows"), ({"split": {"protocol": "seed"}}, "train")],
)
def test_a_description_that_cannot_be_one_is_refused_with_the_name_of_what_is_wrong(directory, changes, message):
    path = directory / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    signed_anew(directory)
    assert message in refusal(directory)


def test_an_unknown_format_is_refused(directory):
    signed_anew(directory, format=2)
    assert "format 2" in refusal(directory)


@pytest.mark.parametrize(
    ("schema", "message"),
    [({"hash": "0" * 64}, "another version of the schema ulb"), ({"name": "moon"}, "schema moon")],
)
def test_a_bundle_for_another_schema_is_refused(directory, schema, message):
    path = directory / "bundle.json"
    description = json.loads(path.read_text())
    description["schema"] |= schema
    path.write_text(json.dumps(description))
    signed_anew(directory)
    assert message in refusal(directory)


def test_a_bundle_that_is_not_there_is_refused(tmp_path):
    assert "manifest.json is missing" in refusal(tmp_path / "absent")


def test_a_version_is_never_written_over(directory, bundle):
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError):
        write_bundle(
            directory,
            description=bundle.description,
            model_files=bundle.files,
            reference=bundle.reference,
            test_rows=bundle.test_rows,
            scored=bundle.scored,
            plots={},
            signing_key=KEY,
        )
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert list(directory.parent.iterdir()) == [directory]


def test_bundles_compare_only_when_they_were_tested_on_the_same_rows_of_the_same_data(directory, bundle):
    assert bundle.has_test_rows_of(load_bundle(directory, signing_key=KEY))
    for changes in (
        {"test_rows": bundle.test_rows[1:]},
        {"description": replace(bundle.description, data=replace(bundle.description.data, sha256="1"))},
    ):
        other = write_bundle(
            directory.with_name(f"other-{'-'.join(changes)}"),
            **{
                "description": bundle.description,
                "model_files": bundle.files,
                "scored": bundle.scored,
                "reference": bundle.reference,
                "test_rows": bundle.test_rows,
                "plots": {},
                "signing_key": KEY,
            }
            | changes,
        )
        assert not bundle.has_test_rows_of(other)
