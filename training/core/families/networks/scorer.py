"""Trained networks as workers run them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from training.core.configuration.sections import NetworkHyperparameters
from training.core.exceptions import BundleRefused
from training.core.families.networks.architectures import BUILD, Network
from training.core.families.networks.paths import members_of


class Scorer:
    """A trained network, compiled for a few fixed batch sizes. See `families.Scorer`.

    A batch is padded to the next size, so nothing is ever compiled while a transaction waits. Products of matrices are
    cut into blocks by the caches of the processor, and sums of the last rows of a block may be added in another order:
    so of the sizes those are used in which a row has the same score at any place.

    Raises:
        BundleRefused: the architecture is unknown or the weights do not fit it.
    """

    # With smaller batches, sums are added in another order, and the score of a row would depend on its batch.
    BATCH_SIZES = (40, 64, 144, 256)
    # Where scores differ by place, those of every third to hundredth row do.
    TRIED = 2_048

    def __init__(self, hyperparameters: NetworkHyperparameters, weights: Mapping[str, np.ndarray]) -> None:
        architecture = hyperparameters.architecture
        try:
            columns, mean = hyperparameters.columns, weights["standardise/mean"]
            self._width = len(columns.values) if columns else len(mean)
            network = BUILD[architecture](self._width, hyperparameters)
            encoder, head = network.encoder, network.head
            for variable in network.variables:
                variable.assign(weights[variable.path])
        except (KeyError, ValueError) as error:
            raise BundleRefused(f"The weights do not fit the architecture {architecture}: {error}.") from error
        self._average = _average(network, mean, weights.get("categories/frequencies", np.empty(0, np.float32)))
        self.baseline = float(tf.reduce_mean(head(self._average, training=False)))
        self._members, self._column_of = members_of(head), network.layout.column_of

        def score(rows: tf.Tensor) -> tf.Tensor:
            return tf.sigmoid(tf.reduce_mean(head(encoder(rows, training=False), training=False), axis=1))

        self._score = {size: _compiled(score, (size, self._width)) for size in self.BATCH_SIZES}
        tried = np.zeros((self.TRIED, self._width), np.float32)
        spread = np.random.default_rng(0).normal(mean, weights["standardise/scale"], (self.TRIED, len(mean)))
        tried[:, network.layout.numbers] = spread
        self._sizes = self._even(tried)
        self._encode = _compiled(lambda rows: encoder(rows, training=False), (None, self._width))

    def warm(self) -> None:
        """Run everything once, so that the first transaction meets a warm model."""
        for size in self._sizes:
            self.score(np.zeros((size, self._width), np.float32))
        self.explain(np.zeros((1, self._width), np.float32))

    def score(self, features: np.ndarray) -> np.ndarray:
        """Score rows of features, [n, f] float32 for any n. Returns [n] float32 in [0, 1]."""
        return self._score_in(self._sizes, features)

    def _even(self, rows: np.ndarray) -> Sequence[int]:
        """The sizes in which each of the rows has the same score, at its place and at the opposite one; all if there
        are none."""
        even: list[int] = []
        expected = None
        for size in reversed(self.BATCH_SIZES):
            scores = self._score_in([size], rows)
            if np.array_equal(scores, self._score_in([size], rows[::-1])[::-1]):
                expected = scores if expected is None else expected
                even += [size] if np.array_equal(scores, expected) else []
        return even[::-1] or self.BATCH_SIZES

    def _score_in(self, sizes: Sequence[int], features: np.ndarray) -> np.ndarray:
        """Score rows in batches of these sizes, in ascending order."""
        largest = sizes[-1]
        starts = range(0, len(features), largest)
        chunks = [self._score_chunk(sizes, features[start : start + largest]) for start in starts]
        return np.concatenate(chunks) if chunks else np.empty(0, np.float32)

    def _score_chunk(self, sizes: Sequence[int], features: np.ndarray) -> np.ndarray:
        size = next(size for size in sizes if size >= len(features))
        padded = np.zeros((size, self._width), np.float32)
        padded[: len(features)] = features
        return self._score[size](tf.constant(padded)).numpy()[: len(features)]

    def explain(self, features: np.ndarray) -> np.ndarray:
        """The contribution of each feature to the logit, against the average training row; [n, f] float64. That row
        has the mean of each number, and of each category all values at once, each with its share.

        Integrated gradients (Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017), on the
        straight line between the encodings of both rows, and without steps: `paths` has the integrals as they are. A
        row's contributions add up to its logit minus that of the average row.
        """
        start = self._average.numpy()[0]
        encoded = self._encode(tf.constant(features, tf.float32)).numpy()
        return np.array([self._contributions(start, end) for end in encoded]).reshape(len(encoded), self._width)

    def _contributions(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The contributions of each feature on the line between two encoded rows."""
        gradient = sum(member.mean_gradient(start, end) for member in self._members) / len(self._members)
        return np.bincount(self._column_of, (end - start) * gradient, self._width)


def _average(network: Network, mean: np.ndarray, frequencies: np.ndarray) -> tf.Tensor:
    """The encoding of the average training row, [1, e]."""
    row = np.zeros((1, network.layout.width), np.float32)
    row[0, network.layout.numbers] = mean
    encoded = network.encoder(row, training=False)
    return tf.concat([encoded[:, : encoded.shape[1] - len(frequencies)], frequencies[None]], axis=1)


def _compiled(
    function: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int | None, ...]
) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)]).get_concrete_function()
