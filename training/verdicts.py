"""Whether one model is better than another, by AUPRC on rows that neither has learned."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.core import evaluation
from training.core.bundle import Bundle
from training.core.exceptions import FraudsiteError
from training.core.scored import ScoredRows

RESAMPLES = 500


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison with the champion as text: whether it allows to promote a version, and whether the
    version is certainly better."""

    allows: bool
    text: str
    is_better: bool = False


def compare(bundle: Bundle, champion: Bundle, datasets_dir: Path) -> Verdict:
    """Compare a bundle with the champion by AUPRC on the same test rows. It is worse if the paired 95 % interval of the
    difference lies below 0, and better if it lies above. A bundle that cannot be compared is not allowed.

    If the bundle was trained on a snapshot, the champion scores the snapshot's test rows: they are later than what it
    was trained on, as they are later than what the bundle was trained on.
    """
    from training.core.datasets import snapshots  # late: web processes need no PyArrow

    name = champion.version
    rows = bundle.test_rows
    if bundle.description.data.sha256 != champion.description.data.sha256:
        path = snapshots.find(datasets_dir, bundle.schema, bundle.description.data.sha256)
        if path is None:
            return Verdict(False, f"It cannot be compared with the champion {name}: trained and tested on other data.")
        try:
            theirs = _scored_by(champion, path, rows)
        except FraudsiteError as error:
            return Verdict(False, f"It cannot be compared with the champion {name}: {error}")
    elif not bundle.has_test_rows_of(champion):
        return Verdict(False, f"It cannot be compared with the champion {name}: tested on other rows.")
    elif "test" not in bundle.scored or "test" not in champion.scored:
        return Verdict(False, f"It cannot be compared with the champion {name}: an older bundle keeps no scores.")
    else:
        theirs = champion.scored["test"].once(champion.test_rows)[1]
    _, ours, weights = bundle.scored["test"].once(rows)
    pair = (ours.scores, bundle.review_threshold), (theirs.scores, champion.review_threshold)
    difference = evaluation.paired(ours.labels, *pair, resamples=RESAMPLES, seed=0, weights=weights)["auprc"]
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return Verdict(False, f"It cannot be compared with the champion {name}: too few frauds among the test rows.")
    text = (
        f"AUPRC on {len(weights):,} test rows is {difference['value']:+.4f} against the champion {name}, "
        f"95 % interval {low:+.4f} to {high:+.4f}"
    )
    return Verdict(high >= 0, f"{text}: worse." if high < 0 else f"{text}.", is_better=low > 0)


def _scored_by(bundle: Bundle, path: Path, rows: np.ndarray) -> ScoredRows:
    """A snapshot's rows of these numbers, each once, as a bundle's model scores them.

    Raises:
        FraudsiteError: the snapshot lacks what the model needs, or the model is refused.
    """
    from training.core import families
    from training.core.datasets import storage
    from training.core.families import encoding

    once = np.unique(rows)
    dataset = storage.read(path, bundle.declared)
    dataset = replace(dataset, features=dataset.features[once], labels=dataset.labels[once])
    inputs = encoding.of_bundle(bundle).applied_to(dataset).features.astype(np.float32)
    return dataset.scored(np.arange(len(once)), families.scorer_of(bundle).score(inputs))
