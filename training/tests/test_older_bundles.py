"""Bundles that earlier code wrote still load, score and explain themselves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from training.core.bundle import load_bundle
from training.core.families import hyperparameters_of, scorer_of
from training.core.model_card import model_card
from training.tests.support import made_up_rows
from training.tests.test_bundle import signed_anew

# A bag with a student, on the made-up rows, written before hyperparameters and descriptions were typed.
WRITTEN_THEN = Path(__file__).parent / "fixtures" / "bundle_of_2026"
KEY = "the key of a fixture for tests"
# What that code scored of the first rows of `made_up_rows(seed=1)`.
SCORES_THEN = [0.02663484414365776, 0.0006594789687919464, 0.001610325917011596, 0.0015294523850338693]
# What the first bundles did not have.
MISSING_AT_FIRST = ("calibration", "calibration_losses", "days", "importance", "kept_epoch", "parent")


@pytest.fixture
def older(tmp_path):
    """The same bundle as the first versions would have written it."""
    directory = shutil.copytree(WRITTEN_THEN, tmp_path / "older")
    description = json.loads((directory / "bundle.json").read_text())
    description = {name: value for name, value in description.items() if name not in MISSING_AT_FIRST}
    del description["model"]["files"]
    for name in ("choose", "review_cost", "alerts_per_day"):
        del description["policy"][name]
    (directory / "bundle.json").write_text(json.dumps(description))
    (directory / "scored.safetensors").unlink()
    signed_anew(directory, KEY)
    return load_bundle(directory, signing_key=KEY)


def test_a_bundle_written_before_descriptions_were_typed_scores_as_it_did():
    bundle = load_bundle(WRITTEN_THEN, signing_key=KEY)
    scores = scorer_of(bundle).score(made_up_rows(seed=1)[0][:4].astype(np.float32))
    np.testing.assert_allclose(scores, SCORES_THEN, rtol=1e-4)
    assert bundle.review_threshold == 0.008590242983948903
    found = hyperparameters_of(bundle)
    assert (found.members, found.students, found.teacher.epochs) == (3, 1, 20)


def test_a_bundle_that_does_not_say_what_later_ones_say_has_a_model_card_all_the_same(older):
    card = model_card(older, stage="retired", review_threshold=0.5, block_threshold=None)
    assert "Not measured: the bundle is older than the measurement." in card
    assert "the highest recall with a precision of at least 0.3" in card
    assert "none, or not recorded" in card
    assert scorer_of(older).score(made_up_rows(seed=1)[0][:4].astype(np.float32)).shape == (4,)
