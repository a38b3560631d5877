"""Layers that Keras does not have."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("fraudsite")
class Standardise(keras.layers.Layer):
    """(x - mean) / scale, with both fitted elsewhere, on training rows only, and frozen here."""

    def build(self, input_shape: tuple[int | None, int]) -> None:
        width = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=width, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=width, initializer="ones", trainable=False)

    def call(self, rows: Any) -> Any:
        return (rows - self.mean) / self.scale


@keras.saving.register_keras_serializable("fraudsite")
class PiecewiseLinear(keras.layers.Layer):
    """Encodes rows [n, f] as [n, f, bins]: the position of each number in each bin of its feature, from 0 to 1.

    A linear layer on top can change its slope at every edge. Thresholds of amounts and times need this, and a plain
    network learns it slowly (Gorishniy, Rubachev and Babenko, On Embeddings for Numerical Features in Tabular Deep
    Learning, NeurIPS 2022). `edges` [f, bins + 1] are fitted elsewhere, on training rows only, and frozen here.
    """

    # A bin between two equal edges is a step; float32 divides by this without overflow.
    NARROWEST = 1e-6

    def __init__(self, bins: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins

    def build(self, input_shape: tuple[int | None, int]) -> None:
        shape = (input_shape[-1], self.bins + 1)
        self.edges = self.add_weight(name="edges", shape=shape, initializer="zeros", trainable=False)

    def call(self, rows: Any) -> Any:
        below, above = self.edges[:, :-1], self.edges[:, 1:]
        width = keras.ops.maximum(above - below, self.NARROWEST)
        return keras.ops.clip((rows[:, :, None] - below) / width, 0.0, 1.0)


class Dropout(keras.layers.Layer):
    """A cheaper `Dropout` than Keras's: in a small network, drawing a float for each unit takes longer than learning.
    It draws a byte, so `rate` is rounded to 256ths (Srivastava et al., Dropout, JMLR 15, 2014)."""

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropped = round(rate * 256)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.dropped:
            return inputs
        units = tf.size(inputs)
        drawn = tf.random.stateless_uniform(
            [units // 4 + 1], self.seed_generator.next(), minval=None, maxval=None, dtype=tf.uint32
        )
        kept = tf.reshape(tf.reshape(tf.bitcast(drawn, tf.uint8), [-1])[:units] >= self.dropped, tf.shape(inputs))
        return inputs * (tf.cast(kept, tf.float32) * (256 / (256 - self.dropped)))


@keras.saving.register_keras_serializable("fraudsite")
class OneHot(keras.layers.Layer):
    """Encodes categories [n, c], numbered from 0, as [n, sum of places], with a 1 at the place of each.

    Missing values, NaN, have the last place of a category that `may_miss` them; otherwise all of its places are NaN. In
    training a share of the values is dropped to place 0, so that it is learned how to do with unseen ones.
    `frequencies` are fitted elsewhere: the mean of each place over training rows.
    """

    DROPPED = 0.03

    def __init__(self, places: Sequence[int], may_miss: Sequence[bool], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.places, self.may_miss = places, may_miss
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: tuple[int | None, int]) -> None:
        width = (sum(self.places),)
        self.frequencies = self.add_weight(name="frequencies", shape=width, initializer="zeros", trainable=False)

    def call(self, rows: Any, training: bool = False) -> Any:
        missing = tf.math.is_nan(rows)
        last = np.where(self.may_miss, np.array(self.places) - 1, np.nan).astype(np.float32)
        known = rows
        if training:
            drawn = keras.random.uniform(tf.shape(rows), seed=self.seed_generator)
            known = tf.where(drawn < self.DROPPED, 0.0, rows)
        # All categories at once: a worker pays for each operation, however small it is.
        category = np.repeat(np.arange(len(self.places)), self.places)
        place = np.concatenate([np.arange(places) for places in self.places]).astype(np.float32)
        own = tf.gather(tf.where(missing, last, known), category, axis=1)
        return tf.where(tf.math.is_nan(own), np.nan, tf.cast(own == place, tf.float32))
