"""Builds networks, by architecture."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from msgspec.structs import replace

from training.core.configuration.sections import NetworkHyperparameters
from training.core.families.networks.layers import Dropout, OneHot, PiecewiseLinear, Standardise
from training.core.families.networks.layout import Layout, layout_of

DAY_S = 86_400


class Network(NamedTuple):
    """The two halves of a model. `encoder` encodes each feature by itself: rows [n, f] to [n, e], as `layout` says.
    `head` turns them into [n, m] logits, whose mean is the model's. `students` gives the last of these logits, if some
    members learn from a teacher; `learners` those that learn from labels."""

    layout: Layout
    encoder: keras.Model
    head: keras.Model
    learners: keras.Model
    students: keras.Model | None = None

    def from_rows(self, head: keras.Model) -> keras.Model:
        return keras.Model(self.encoder.input, head(self.encoder.output))

    @property
    def variables(self) -> list[Any]:
        """The variables that make the model; dropout's random state does not."""
        every = [*self.encoder.variables, *self.head.variables]
        return [variable for variable in every if "seed_generator" not in variable.path]


def mlp(features: int, hyperparameters: NetworkHyperparameters) -> Network:
    """The seed system's network: standardised features, dense layers of `units` with ReLU and dropout, one logit."""
    layout = layout_of(features, hyperparameters.columns, per_number=1)
    inputs = keras.Input((features,), name="features")
    numbers, missing = _numbers(inputs, layout)
    standardised = Standardise(name="standardise")(numbers)
    if missing is not None:
        standardised = keras.ops.where(missing, 0.0, standardised)
    encoder = keras.Model(inputs, _with_categories(standardised, inputs, missing, layout))
    encoded = keras.Input((layout.encoded,), name="encoded")
    head = keras.Model(encoded, _dense(_embedded(encoded, layout, ""), hyperparameters, ""))
    return Network(layout, encoder, head, learners=head)


def bag(features: int, hyperparameters: NetworkHyperparameters) -> Network:
    """`members` such networks side by side. Their inputs are `bins` per feature and its standardised value, squashed.
    The first `binless_members` get no bins. The last `students` learn the scores of boosted trees
    (`training.core.families.distillation`), without dropout, as these scores have no noise.

    Networks that differ only in their initial weights make different errors (Lakshminarayanan, Pritzel and Blundell,
    Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017).
    """
    bins = hyperparameters.bins
    layout = layout_of(features, hyperparameters.columns, per_number=bins + 1)
    inputs = keras.Input((features,), name="features")
    numbers, missing = _numbers(inputs, layout)
    squashed = keras.ops.arcsinh(Standardise(name="standardise")(numbers))[:, :, None]
    both = keras.layers.Concatenate()([squashed, PiecewiseLinear(bins, name="bins")(numbers)])
    amount, time = (
        None if column is None else layout.numbers.index(column)
        for column in (hyperparameters.amount_feature, hyperparameters.time_feature)
    )
    if amount is not None:
        both = _replaced(
            both, amount, [_log_amount(numbers[:, amount]), *keras.ops.unstack(both[:, amount, 1:], axis=1)]
        )
    if time is not None:
        both = _replaced(both, time, _clock(numbers[:, time]))
    if missing is not None:
        both = keras.ops.where(missing[:, :, None], 0.0, both)
    encoder = keras.Model(inputs, _with_categories(keras.layers.Flatten()(both), inputs, missing, layout))
    encoded = keras.Input((layout.encoded,), name="encoded")
    learners = hyperparameters.members - hyperparameters.students
    logits = [
        _dense(
            _embedded(_without_bins(encoded, layout, time), layout, f"{member}_")
            if member <= hyperparameters.binless_members
            else _embedded(encoded, layout, f"{member}_"),
            hyperparameters if member <= learners else replace(hyperparameters, dropout=0.0),
            f"{member}_",
        )
        for member in range(1, hyperparameters.members + 1)
    ]
    head, *parts = (
        keras.Model(encoded, keras.ops.concatenate(some, axis=1))
        for some in (logits, logits[:learners], logits[learners:])
        if some
    )
    return Network(layout, encoder, head, *parts)


def _numbers(inputs: Any, layout: Layout) -> tuple[Any, Any]:
    """Of inputs [n, f] those that are numbers, [n, k], with 0 for missing ones, and where these are, [n, k] bool; None
    if none may be missing. NaN stays where nothing may be missing."""
    numbers = keras.ops.take(inputs, layout.numbers, axis=1) if layout.categories else inputs
    if not layout.flags:
        return numbers, None
    may_miss = np.isin(layout.numbers, layout.flags)[None]
    missing = keras.ops.logical_and(keras.ops.isnan(numbers), may_miss)
    return keras.ops.where(missing, 0.0, numbers), missing


def _with_categories(encoded: Any, inputs: Any, missing: Any, layout: Layout) -> Any:
    """Encoded numbers [n, k], followed by the flags of missing ones and by the categories, as `Layout` says."""
    parts = [encoded]
    if layout.flags:
        flags = keras.ops.take(missing, np.flatnonzero(np.isin(layout.numbers, layout.flags)), axis=1)
        parts.append(keras.ops.cast(flags, "float32"))
    if layout.categories:
        categories = keras.ops.take(inputs, layout.categories, axis=1)
        parts.append(OneHot(layout.places, layout.may_miss, name="categories")(categories))
    return keras.ops.concatenate(parts, axis=1) if len(parts) > 1 else encoded


def _without_bins(encoded: Any, layout: Layout, time: int | None) -> Any:
    """The encoded numbers without bins, and all else of `encoded`. Bins find narrow ranges; members without them are
    smoother, and make other errors."""
    end = len(layout.numbers) * layout.per_number
    blocks = keras.ops.reshape(encoded[:, :end], (-1, len(layout.numbers), layout.per_number))
    # The clock has two numbers, and no bins.
    cosine = [] if time is None else [blocks[:, time, 1:2]]
    rest = [encoded[:, end:]] if end < layout.encoded else []
    return keras.ops.concatenate([blocks[:, :, 0], *cosine, *rest], axis=1)


def _embedded(encoded: Any, layout: Layout, prefix: str) -> Any:
    """What a member sees: embeddings of its own in place of the categories, which are the last of `encoded`."""
    if not layout.categories:
        return encoded
    start = encoded.shape[1] - sum(layout.places)
    parts = [encoded[:, :start]]
    for number, (places, size) in enumerate(zip(layout.places, layout.embeddings, strict=True), start=1):
        embed = keras.layers.Dense(size, use_bias=False, name=f"{prefix}embedding_{number}")
        parts.append(embed(encoded[:, start : start + places]))
        start += places
    return keras.ops.concatenate(parts, axis=1)


def _log_amount(amounts: Any) -> Any:
    """The logarithm of amounts [n], at about the scale of a standardised feature."""
    return keras.ops.log1p(keras.ops.relu(amounts)) / 2 - 1.5


def _clock(seconds: Any) -> list[Any]:
    """Times [n] in seconds as the sine and the cosine of the time of day: the day itself does not generalise to later
    days, and the encoding has no jump at midnight."""
    angle = seconds % DAY_S * (2 * math.pi / DAY_S)
    return [keras.ops.sin(angle), keras.ops.cos(angle)]


def _replaced(encoded: Any, feature: int, numbers: list[Any]) -> Any:
    """`encoded` [n, f, e] with other numbers, [n] each, for one feature, padded with zeros to `e`."""
    rest = encoded.shape[2] - len(numbers)
    block = keras.ops.pad(keras.ops.stack(numbers, axis=1)[:, None], ((0, 0), (0, 0), (0, rest)))
    return keras.ops.concatenate([encoded[:, :feature], block, encoded[:, feature + 1 :]], axis=1)


def _dense(hidden: Any, hyperparameters: NetworkHyperparameters, prefix: str) -> Any:
    for number, units in enumerate(hyperparameters.units, start=1):
        hidden = keras.layers.Dense(units, activation="relu", name=f"{prefix}dense_{number}")(hidden)
        hidden = Dropout(hyperparameters.dropout, name=f"{prefix}dropout_{number}")(hidden)
    return keras.layers.Dense(1, name=f"{prefix}logit")(hidden)


# By architecture: from the number of features and the hyperparameters to the network.
BUILD = {"mlp": mlp, "bag": bag}
