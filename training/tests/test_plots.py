import io

import numpy as np
import pytest
from matplotlib.image import imread

from training import plots
from training.bundle import Scored


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_every_plot_is_a_png_even_when_nothing_is_an_alert(threshold):
    random = np.random.default_rng(0)
    labels = (np.arange(400) % 20 == 0).astype(np.int8)
    scored = {name: Scored(labels, random.uniform(0, 0.9, 400), np.ones(400)) for name in ("validation", "test")}
    history = {"loss": [0.5, 0.3, 0.2], "val_loss": [0.4, 0.2, 0.25]}
    drawn = plots.draw(scored, history, kept_epoch=2, threshold=threshold)
    assert drawn.keys() == {"precision_recall", "roc", "scores", "training"}
    for image in drawn.values():
        assert image.startswith(b"\x89PNG\r\n")
        pixels = imread(io.BytesIO(image), format="png")
        assert pixels.shape[:2] == (440, 660)
        assert pixels.std() > 0
