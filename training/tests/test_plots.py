import io

import numpy as np
import pytest
from matplotlib.image import imread

from training.core.evaluation import plots
from training.core.scored import ScoredRows


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_every_plot_is_a_png_even_when_nothing_is_an_alert(threshold):
    random = np.random.default_rng(0)
    labels = (np.arange(400) % 20 == 0).astype(np.int8)
    scored = {name: ScoredRows(labels, random.uniform(0, 0.9, 400), np.ones(400)) for name in ("validation", "test")}
    history = {"loss": [0.5, 0.3, 0.2], "val_loss": [0.4, 0.2, 0.25]}
    drawn = plots.draw(scored, scored, history, kept_epoch=2, threshold=threshold)
    assert drawn.keys() == {"precision_recall", "reliability", "roc", "scores", "training"}
    for image in drawn.values():
        assert image.startswith(b"\x89PNG\r\n")
        pixels = imread(io.BytesIO(image), format="png")
        assert pixels.shape[:2] == (440, 660)
        assert pixels.std() > 0


def test_the_bins_of_the_reliability_plot_hold_all_rows_and_about_as_many_expected_frauds_each():
    random = np.random.default_rng(0)
    scores = random.beta(0.1, 8, 200_000)
    labels = random.random(200_000) < scores
    means, shares, counts = plots.reliability(labels, scores)
    assert counts.sum() == 200_000
    assert (means * counts).max() < 2 * scores.sum() / 10
    np.testing.assert_allclose(shares, means, rtol=0.3)
