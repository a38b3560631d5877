"""Builds networks, by architecture."""

import math
from typing import Any, NamedTuple

import keras
from msgspec.structs import replace

from training.core.configuration.sections import NetworkHyperparameters
from training.core.families.networks.layers import Dropout, PiecewiseLinear, Standardise

DAY_S = 86_400


class Network(NamedTuple):
    """The two halves of a model. `encoder` encodes each feature by itself: rows [n, f] to [n, f * e], `e` numbers for
    the first feature, then for the second. `head` turns them into [n, m] logits, whose mean is the model's. `students`
    gives the last of these logits, if some members learn from a teacher; `learners` those that learn from labels."""

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
    inputs = keras.Input((features,), name="features")
    encoder = keras.Model(inputs, Standardise(name="standardise")(inputs))
    encoded = keras.Input((features,), name="encoded")
    head = keras.Model(encoded, _dense(encoded, hyperparameters, ""))
    return Network(encoder, head, learners=head)


def bag(features: int, hyperparameters: NetworkHyperparameters) -> Network:
    """`members` such networks side by side. Their inputs are `bins` per feature and its standardised value, squashed.
    The first `binless_members` get no bins. The last `students` learn the scores of boosted trees
    (`training.core.families.distillation`), without dropout, as these scores have no noise.

    Networks that differ only in their initial weights make different errors (Lakshminarayanan, Pritzel and Blundell,
    Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017).
    """
    bins = hyperparameters.bins
    inputs = keras.Input((features,), name="features")
    squashed = keras.ops.arcsinh(Standardise(name="standardise")(inputs))[:, :, None]
    both = keras.layers.Concatenate()([squashed, PiecewiseLinear(bins, name="bins")(inputs)])
    amount, time = hyperparameters.amount_feature, hyperparameters.time_feature
    if amount is not None:
        both = _replaced(
            both, amount, [_log_amount(inputs[:, amount]), *keras.ops.unstack(both[:, amount, 1:], axis=1)]
        )
    if time is not None:
        both = _replaced(both, time, _clock(inputs[:, time]))
    encoder = keras.Model(inputs, keras.layers.Flatten()(both))
    encoded = keras.Input((features * (bins + 1),), name="encoded")
    # Bins find narrow ranges; members without them are smoother, and make other errors.
    blocks = keras.ops.reshape(encoded, (-1, features, bins + 1))
    # The clock has two numbers, and no bins.
    cosine = [] if time is None else [blocks[:, time, 1:2]]
    binless = keras.ops.concatenate([blocks[:, :, 0], *cosine], axis=1)
    without = hyperparameters.binless_members
    learners = hyperparameters.members - hyperparameters.students
    logits = [
        _dense(
            binless if member <= without else encoded,
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
    return Network(encoder, head, *parts)


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
