"""Exact means of a network's gradient along a straight line.

With ReLU a network is linear in pieces: along a line, its gradient changes only where a unit is switched on or off. So
these moments are found, layer by layer, and the mean is a sum over the pieces between them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import keras
import numpy as np


class Member(NamedTuple):
    """One of the networks side by side. `kernels` [inputs, outputs] and `biases` [outputs], float32, are those of its
    layers, from the first, which takes all encoded numbers, to the logit."""

    kernels: list[np.ndarray]
    biases: list[np.ndarray]

    def mean_gradient(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The mean derivatives of the logit by the encoded numbers, on the line from `start` to `end`; all [e]."""
        first, bias = self.kernels[0], self.biases[0]
        sums = start @ first + bias
        return first @ _mean_gradient(sums, sums + (end - start) @ first, self.kernels[1:], self.biases[1:])


def members_of(head: keras.Model) -> list[Member]:
    """The members of a head that `architectures` built."""
    layers = {layer.name: layer for layer in head.layers}
    prefixes = [name.removesuffix("logit") for name in layers if name.endswith("logit")]
    names = [[name for name in layers if name.startswith((f"{prefix}dense_", f"{prefix}logit"))] for prefix in prefixes]
    # What stands before a member's first layer (embeddings, a choice of columns) is linear and has no bias, so the
    # images of the unit vectors are its matrix.
    seen = keras.Model(head.input, [layers[of_member[0]].input for of_member in names])
    matrices = seen(np.eye(head.input.shape[1], dtype=np.float32), training=False)
    found = []
    for of_member, matrix in zip(names, matrices if isinstance(matrices, list) else [matrices], strict=True):
        kernels, biases = zip(*(map(np.asarray, layers[name].get_weights()) for name in of_member), strict=True)
        found.append(Member([np.asarray(matrix) @ kernels[0], *kernels[1:]], list(biases)))
    return found


def _mean_gradient(
    start: np.ndarray, end: np.ndarray, kernels: Sequence[np.ndarray], biases: Sequence[np.ndarray]
) -> np.ndarray:
    """The mean derivatives of the logit by the sums of the first layer, from `start` to `end`; all [u].

    `kernels` and `biases` are those of the layers above the first; without any, the first layer is the logit.
    """
    moments = np.array([0, 1], start.dtype)
    sums = np.stack([start, end])  # of a layer's units at the moments; between two moments they are linear
    used = [np.arange(len(start))]  # of each layer the units that are ever on; the others send nothing
    on: list[np.ndarray] = []  # of each layer, which of the used units are on in which piece
    for kernel, bias in zip(kernels, biases, strict=True):
        used[-1] = np.flatnonzero(sums.max(axis=0) > 0)
        moments, piece, sums = _with_switches(moments, sums[:, used[-1]])
        on = [*(of_layer[piece] for of_layer in on), sums[:-1] + sums[1:] > 0]
        sums = np.maximum(sums, 0) @ kernel[used[-1]] + bias
        used.append(np.arange(kernel.shape[1]))
    mean = np.zeros_like(start)
    ends = zip(kernels, pairwise(used), strict=True)
    of_used = [kernel[units].take(above, axis=1) for kernel, (units, above) in ends]
    mean[used[0]] = _mean_backwards(np.diff(moments), on, of_used)
    return mean


def _mean_backwards(lengths: np.ndarray, on: Sequence[np.ndarray], kernels: Sequence[np.ndarray]) -> np.ndarray:
    """The mean derivatives of the logit by the sums of the first layer, over pieces of these lengths."""
    # From the logit down. Pieces that follow each other and have the same units on, from there upwards, share a row.
    row, gradients = np.zeros(len(lengths), np.intp), np.ones((1, 1), lengths.dtype)
    for kernel, of_layer in zip(reversed(kernels), reversed(on), strict=True):
        begins = np.ones(len(lengths), np.bool_)
        begins[1:] = (row[1:] != row[:-1]) | (of_layer[1:] != of_layer[:-1]).any(axis=1)
        gradients = (gradients @ kernel.T)[row[begins]] * of_layer[begins]
        row = np.cumsum(begins) - 1
    return np.bincount(row, lengths).astype(lengths.dtype) @ gradients


def _with_switches(moments: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add the moments at which a unit is switched on or off. Returns all moments, of each new piece the old one that it
    is part of, and the sums at the moments."""
    before, after = sums[:-1], sums[1:]
    piece, unit = np.nonzero((before < 0) != (after < 0))
    below, above = before[piece, unit], after[piece, unit]
    found = moments[piece] + (moments[piece + 1] - moments[piece]) * (below / (below - above))
    more = np.unique(np.concatenate([moments, found]))
    piece = np.searchsorted(moments, more[:-1], side="right") - 1
    share = (more[:-1] - moments[piece]) / (moments[piece + 1] - moments[piece])
    at_moments = before[piece] + share[:, None] * (after - before)[piece]
    return more, piece, np.concatenate([at_moments, sums[-1:]])
