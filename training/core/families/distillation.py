"""Distillation: some members of a bag, the students, learn the scores of boosted trees, their teacher, not the labels.

A few hundred frauds are too few for a network to find the borders that boosted trees find. But the teacher can score
any row, so synthetic rows between frauds and legitimate transactions are made, and the students learn their scores
(Buciluǎ, Caruana and Niculescu-Mizil, Model Compression, KDD 2006). Students follow the teacher's borders in smaller
and smoother steps, and make other errors than members that learn from the labels.
"""

import numpy as np
from scipy.special import logit

from training.core.families import Scorer

# The most rows of a lesson. Each lesson has the legitimate rows with the teacher's highest scores, as they determine
# precision.
HARDEST = 5_000
DRAWN = 15_000
MADE_UP = 20_000
# How many of the hardest legitimate rows are mixed with frauds into synthetic rows: the border is between the two.
HARDEST_TO_MIX = 400
# Beyond these odds, 8,103 to 1, the teacher's score does not matter.
FURTHEST_LOGIT = 9.0


class Lessons:
    """Rows for students, with their teacher's logits.

    Args:
        rows, labels: the training rows, [n, f] float32 and [n] of 0 and 1.
        teacher: trained on them.
        random: draws the rows.
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
        """The number of rows of a lesson."""
        return len(self._always) + self._drawn + self._made_up

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a lesson, [len(self), f] float32, shuffled, and their logits by the teacher, [len(self)] float32:
        all frauds, the hardest legitimate rows, a sample of the others, and synthetic rows."""
        drawn = self._random.choice(self._legitimate, self._drawn, replace=False)
        rows = self._random.permutation(np.concatenate([self._always, drawn, self._make_up()]))
        with np.errstate(divide="ignore"):
            logits = logit(self._teacher.score(rows).astype(np.float64))
        return rows, logits.clip(-FURTHEST_LOGIT, FURTHEST_LOGIT).astype(np.float32)

    def _make_up(self) -> np.ndarray:
        """Synthetic rows: frauds and hard legitimate rows in which a random share of the values is taken from another
        row, half of the time of the same kind, half of the time any legitimate one."""
        count, random = self._made_up, self._random
        whole, near, far = (random.choice(some, count) for some in (self._to_mix, self._to_mix, self._legitimate))
        other = np.where(random.random((count, 1)) < 0.5, near, far)
        changed = random.random(whole.shape) < random.random((count, 1))
        return np.where(changed, other, whole)
