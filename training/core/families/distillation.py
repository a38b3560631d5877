"""What some members of a bag learn instead of labels: the scores of boosted trees, in the places that matter.

A few hundred frauds are too little for a network to find the borders that boosted trees find. But trees can be asked
about any row, so rows are made up between frauds and legitimate transactions, and the network learns what the trees say
of those (Buciluǎ, Caruana and Niculescu-Mizil, Model Compression, KDD 2006). It bends where the trees bend, in smaller
and smoother steps, and is wrong in other places than members that learn from the labels.
"""

import numpy as np
from scipy.special import logit

from training.core.families import Scorer

# Rows of a lesson, at most. The hardest legitimate rows, by what the teacher says, decide about precision: they are in
# each.
HARDEST = 5_000
DRAWN = 15_000
MADE_UP = 20_000
# So many of the hardest stand beside the frauds as rows to make others of: between the two runs the border.
HARDEST_TO_MIX = 400
# Beyond these odds, 8,103 to 1, it does not matter what a teacher says.
FURTHEST_LOGIT = 9.0


class Lessons:
    """Rows for students, and what their teacher says of them.

    Args:
        rows, labels: the training rows, [n, f] float32 and [n] of 0 and 1.
        teacher: trained on them.
        random: draws.
    """

    def __init__(self, rows: np.ndarray, labels: np.ndarray, teacher: Scorer, random: np.random.Generator) -> None:
        self._teacher, self._random = teacher, random
        frauds, legitimate = rows[labels == 1], rows[labels == 0]
        falling = np.argsort(-teacher.score(legitimate), kind="stable")
        self._always = np.concatenate([frauds, legitimate[falling[:HARDEST]]])
        self._to_mix = np.concatenate([frauds, legitimate[falling[:HARDEST_TO_MIX]]])
        self._legitimate = legitimate
        self._drawn, self._made_up = min(DRAWN, len(legitimate)), min(MADE_UP, len(rows))

    def __len__(self) -> int:
        """The rows of a lesson."""
        return len(self._always) + self._drawn + self._made_up

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a lesson, [len(self), f] float32 in no order, and the teacher's logits of them, [len(self)] float32:
        all frauds, the hardest legitimate rows, others drawn, and rows made up of two."""
        drawn = self._random.choice(self._legitimate, self._drawn, replace=False)
        rows = self._random.permutation(np.concatenate([self._always, drawn, self._make_up()]))
        with np.errstate(divide="ignore"):
            logits = logit(self._teacher.score(rows).astype(np.float64))
        return rows, logits.clip(-FURTHEST_LOGIT, FURTHEST_LOGIT).astype(np.float32)

    def _make_up(self) -> np.ndarray:
        """Frauds and hard legitimate rows in which some values, from none to all, are those of another row: as often
        of such a one as of any legitimate one."""
        count, random = self._made_up, self._random
        whole, near, far = (random.choice(some, count) for some in (self._to_mix, self._to_mix, self._legitimate))
        other = np.where(random.random((count, 1)) < 0.5, near, far)
        changed = random.random(whole.shape) < random.random((count, 1))
        return np.where(changed, other, whole)
