"""The family of Keras models.

The one module that imports TensorFlow, and itself imported late: it takes seconds to load.
"""

import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Without oneDNN a row scores the same in every batch of `Scorer`, and a seed repeats a run to the last bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from safetensors import SafetensorError
from safetensors.numpy import load, save
from sklearn.metrics import average_precision_score, log_loss

from training import preprocessing
from training.exceptions import BundleRefused
from training.families import Fitted, OnEpoch, Rows

FILE = "weights.safetensors"

EXPLAIN_STEPS = 32
DAY_S = 86_400
LOOKED_AT_ONCE = 8192  # validation rows


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
    """Rows [n, f] to [n, f, bins]: how far each number has come through each bin of its feature, from 0 to 1.

    A linear layer on top can bend at every edge, which thresholds of amounts and times need and a plain network learns
    slowly (Gorishniy, Rubachev and Babenko, On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS
    2022). `edges` [f, bins + 1] are fitted elsewhere, on training rows only, and frozen here.
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


class Network(NamedTuple):
    """The two halves of a model. `encoder` treats each feature by itself: rows [n, f] to [n, f * e], `e` numbers for
    the first feature, then for the second. `head` makes of them [n, m] logits, of which the mean counts."""

    encoder: keras.Model
    head: keras.Model

    @property
    def whole(self) -> keras.Model:
        return keras.Model(self.encoder.input, self.head(self.encoder.output))

    @property
    def variables(self) -> list[Any]:
        """The variables that make the model; dropout's random state does not."""
        every = [*self.encoder.variables, *self.head.variables]
        return [variable for variable in every if "seed_generator" not in variable.path]


def mlp(features: int, hyperparameters: Mapping[str, Any]) -> Network:
    """The seed system's network: standardised features, dense layers of `units` with ReLU and dropout, one logit."""
    inputs = keras.Input((features,), name="features")
    encoder = keras.Model(inputs, Standardise(name="standardise")(inputs))
    encoded = keras.Input((features,), name="encoded")
    return Network(encoder, keras.Model(encoded, _dense(encoded, hyperparameters, "")))


def bag(features: int, hyperparameters: Mapping[str, Any]) -> Network:
    """`members` such networks side by side, on `bins` per feature, and its standardised value with the tails pulled in.
    The first `binless_members` of them see no bins but those of the amount.

    Networks that differ in nothing but their first weights are wrong in different places (Lakshminarayanan, Pritzel and
    Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017).
    """
    bins = hyperparameters["bins"]
    inputs = keras.Input((features,), name="features")
    squashed = keras.ops.arcsinh(Standardise(name="standardise")(inputs))[:, :, None]
    both = keras.layers.Concatenate()([squashed, PiecewiseLinear(bins, name="bins")(inputs)])
    # Bundles made before there was a choice have no such hyperparameters.
    amount, time = hyperparameters.get("amount_feature"), hyperparameters.get("time_feature")
    if amount is not None:
        both = _replaced(
            both, amount, [_log_amount(inputs[:, amount]), *keras.ops.unstack(both[:, amount, 1:], axis=1)]
        )
    if time is not None:
        both = _replaced(both, time, _clock(inputs[:, time]))
    encoder = keras.Model(inputs, keras.layers.Flatten()(both))
    encoded = keras.Input((features * (bins + 1),), name="encoded")
    # Bins find what is narrow; who sees none of them bends less, and is wrong elsewhere.
    blocks = keras.ops.reshape(encoded, (-1, features, bins + 1))
    whole = [blocks[:, feature] for feature in (amount, time) if feature is not None]
    binless = keras.ops.concatenate([blocks[:, :, 0], *whole], axis=1)
    without = hyperparameters.get("binless_members", 0)
    logits = [
        _dense(binless if member <= without else encoded, hyperparameters, f"{member}_")
        for member in range(1, hyperparameters["members"] + 1)
    ]
    return Network(encoder, keras.Model(encoded, keras.ops.concatenate(logits, axis=1)))


def _log_amount(amounts: Any) -> Any:
    """The logarithm of amounts [n], at about the scale of a standardised feature."""
    return keras.ops.log1p(keras.ops.relu(amounts)) / 2 - 1.5


def _clock(seconds: Any) -> list[Any]:
    """Moments [n] in seconds as the sine and the cosine of the time of day: the day says nothing of days to come, and
    midnight is no edge."""
    angle = seconds % DAY_S * (2 * math.pi / DAY_S)
    return [keras.ops.sin(angle), keras.ops.cos(angle)]


def _replaced(encoded: Any, feature: int, numbers: list[Any]) -> Any:
    """`encoded` [n, f, e] with other numbers, [n] each, for one feature; 0 where they are fewer than `e`."""
    rest = encoded.shape[2] - len(numbers)
    block = keras.ops.pad(keras.ops.stack(numbers, axis=1)[:, None], ((0, 0), (0, 0), (0, rest)))
    return keras.ops.concatenate([encoded[:, :feature], block, encoded[:, feature + 1 :]], axis=1)


def _dense(hidden: Any, hyperparameters: Mapping[str, Any], prefix: str) -> Any:
    for number, units in enumerate(hyperparameters["units"], start=1):
        hidden = keras.layers.Dense(units, activation="relu", name=f"{prefix}dense_{number}")(hidden)
        hidden = keras.layers.Dropout(hyperparameters["dropout"], name=f"{prefix}dropout_{number}")(hidden)
    return keras.layers.Dense(1, name=f"{prefix}logit")(hidden)


def limit_threads(threads: int) -> None:
    """Have TensorFlow use so many threads. Call it before the first computation of the process.

    A transaction is a few small products of matrices: threads would only wait for each other.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def device() -> str:
    """Where TensorFlow computes here: the GPU that Metal offers on Apple silicon, or the CPU."""
    gpus = tf.config.list_physical_devices("GPU")
    return f"GPU ({tf.config.experimental.get_device_details(gpus[0]).get('device_name', 'Metal')})" if gpus else "CPU"


def fit(
    *,
    architecture: str,
    hyperparameters: Mapping[str, Any],
    train: Rows,
    validation: Rows,
    seed: int,
    on_epoch: OnEpoch,
) -> Fitted:
    """See `families.Family`. The one file has the weights, the preprocessing among them, as float32 arrays by name."""
    statistics = preprocessing.statistics(*train, bins=hyperparameters["bins"])
    train, validation = ((rows.astype(np.float32), labels) for rows, labels in (train, validation))
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    chosen = ARCHITECTURES[architecture]
    network = chosen.build(train[0].shape[1], hyperparameters)
    for variable in network.encoder.variables:
        variable.assign(statistics[variable.name])
    history, kept_epoch = chosen.fit(network, hyperparameters, train, validation, on_epoch)
    weights = {variable.path: variable.numpy() for variable in network.variables}
    return Fitted({FILE: save(weights)}, history, kept_epoch)


def restore(architecture: str, hyperparameters: Mapping[str, Any], files: Mapping[str, bytes]) -> "Scorer":
    """See `families.Family`."""
    try:
        weights = load(files[FILE])
    except (KeyError, SafetensorError) as error:
        raise BundleRefused(f"{FILE} is missing or cannot be read.") from error
    return Scorer(architecture, hyperparameters, weights)


def _fit_until_it_stops_improving(
    network: Network, hyperparameters: Mapping[str, Any], train: Rows, validation: Rows, on_epoch: OnEpoch
) -> tuple[dict[str, list[float]], int]:
    """The seed system's way: all rows in each epoch, Adam; keeps the epoch with the lowest validation loss."""
    random = np.random.default_rng(hyperparameters["seed"])
    orders = (random.permutation(len(train[0])) for _ in range(hyperparameters["epochs"]))
    batch_size = min(hyperparameters["batch_size"], len(train[0]))
    optimizer = keras.optimizers.Adam(hyperparameters["learning_rate"])
    history: dict[str, list[float]] = {}
    kept_epoch, kept = 0, []
    for epoch, said in _train(network, optimizer, train, validation, orders, batch_size):
        _note(history, said)
        on_epoch(epoch, said)
        if said["val_loss"] <= min(history["val_loss"]):
            kept_epoch, kept = epoch, [variable.numpy() for variable in network.variables]
        elif epoch - kept_epoch >= hyperparameters["patience"]:
            break
    for variable, value in zip(network.variables, kept, strict=True):
        variable.assign(value)
    return history, kept_epoch


def _fit_on_fresh_samples(
    network: Network, hyperparameters: Mapping[str, Any], train: Rows, validation: Rows, on_epoch: OnEpoch
) -> tuple[dict[str, list[float]], int]:
    """In each epoch, `draws` times: all frauds and, drawn anew, `legitimate_per_fraud` as many other rows; 0 takes
    all of them. AdamW, its rate falling to 0 along a cosine; keeps the last epoch. Validation rows are only looked at,
    which takes longer than learning from a draw where frauds are few: so an epoch may have several."""
    frauds, legitimate = np.flatnonzero(train[1]), np.flatnonzero(train[1] == 0)
    taken = min(len(frauds) * hyperparameters["legitimate_per_fraud"] or len(legitimate), len(legitimate))
    epochs, batch_size = hyperparameters["epochs"], min(hyperparameters["batch_size"], len(frauds) + taken)
    random = np.random.default_rng(hyperparameters["seed"])

    def draw() -> np.ndarray:
        return random.permutation(np.concatenate([frauds, random.choice(legitimate, taken, replace=False)]))

    draws = hyperparameters["draws"]
    orders = (np.concatenate([draw() for _ in range(draws)]) for _ in range(epochs))
    steps = epochs * (draws * (len(frauds) + taken) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(hyperparameters["learning_rate"], steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=hyperparameters["weight_decay"])
    oversampling = len(legitimate) / taken
    history: dict[str, list[float]] = {}
    for epoch, said in _train(network, optimizer, train, validation, orders, batch_size, oversampling):
        _note(history, said)
        on_epoch(epoch, said)
    return history, epochs


def _train(
    network: Network,
    optimizer: keras.optimizers.Optimizer,
    train: Rows,
    validation: Rows,
    orders: Iterable[np.ndarray],
    batch_size: int,
    oversampling: float = 1.0,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train an epoch on each of `orders`, numbers of training rows. Yields the epoch, from 1, and what came of it.

    An epoch is one call of a compiled function that has all rows at hand: Keras's own loop spends more on handing over
    a batch than a network of this size spends on learning from it. What does not fill a batch is left out; the order is
    another in each epoch. `oversampling` says how many times more frequent, in odds, frauds are there than they are.
    """
    model = network.whole
    rows, labels = tf.constant(train[0]), tf.constant(train[1][:, None], tf.float32)
    # Added while training, this makes the logits those of all rows, not of the sample, with nothing to undo later.
    log_oversampling = float(np.log(oversampling))
    optimizer.build(model.trainable_variables)

    @tf.function
    def learn(batches: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for batch in batches:
            with tf.GradientTape() as tape:
                logits = model(tf.gather(rows, batch), training=True)
                # Every member learns for itself: of a loss of their mean, one would learn and the others lean on it.
                wanted = tf.broadcast_to(tf.gather(labels, batch), tf.shape(logits))
                losses = tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits + log_oversampling)
                loss = tf.reduce_mean(losses)
            optimizer.apply(tape.gradient(loss, model.trainable_variables))
            total += loss
        return total / tf.cast(len(batches), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, train[0].shape[1]), tf.float32)])
    def score(rows: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(tf.reduce_mean(model(rows, training=False), axis=1))

    for epoch, order in enumerate(orders, start=1):
        batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
        loss = learn(tf.constant(batches, tf.int32))
        parts = range(0, len(validation[0]), LOOKED_AT_ONCE)
        scores = np.concatenate([score(validation[0][part : part + LOOKED_AT_ONCE]).numpy() for part in parts])
        yield (
            epoch,
            {
                "loss": float(loss),
                "val_loss": float(log_loss(validation[1], scores, labels=[0, 1])),
                "val_auprc": float(average_precision_score(validation[1], scores)),
            },
        )


def _note(history: dict[str, list[float]], said: dict[str, float]) -> None:
    for name, value in said.items():
        history.setdefault(name, []).append(value)


class Architecture(NamedTuple):
    """How a network is built, and how it is trained."""

    build: Callable[[int, Mapping[str, Any]], Network]
    fit: Callable[
        [Network, Mapping[str, Any], Rows, Rows, OnEpoch],
        tuple[dict[str, list[float]], int],
    ]


ARCHITECTURES = {
    "mlp": Architecture(mlp, _fit_until_it_stops_improving),
    "bag": Architecture(bag, _fit_on_fresh_samples),
}


class Scorer:
    """A trained network, compiled for a few fixed batch sizes. See `families.Scorer`.

    A batch is padded to the next size, so nothing is ever compiled while a transaction waits.

    Raises:
        BundleRefused: the architecture is unknown or the weights do not fit it.
    """

    # Of fewer rows the sums are added up in another order, and a row alone would score otherwise than among others.
    BATCH_SIZES = (32, 128, 256)

    def __init__(
        self, architecture: str, hyperparameters: Mapping[str, Any], weights: Mapping[str, np.ndarray]
    ) -> None:
        try:
            self._width = len(weights["standardise/mean"])
            encoder, head = network = ARCHITECTURES[architecture].build(self._width, hyperparameters)
            for variable in network.variables:
                variable.assign(weights[variable.path])
        except (KeyError, ValueError) as error:
            raise BundleRefused(f"The weights do not fit the architecture {architecture}: {error}.") from error
        average = encoder(weights["standardise/mean"][None], training=False)

        def score(rows: tf.Tensor) -> tf.Tensor:
            return tf.sigmoid(tf.reduce_mean(head(encoder(rows, training=False), training=False), axis=1))

        def explain(row: tf.Tensor) -> tf.Tensor:
            # The midpoint rule on the straight line from the average row to this one, both encoded: there the model
            # bends less than between the rows themselves, where a bin may be narrower than a step.
            steps = (tf.range(EXPLAIN_STEPS, dtype=tf.float32) + 0.5)[:, None] / EXPLAIN_STEPS
            difference = encoder(row[None], training=False) - average
            path = average + steps * difference
            with tf.GradientTape() as tape:
                tape.watch(path)
                logits = tf.reduce_mean(head(path, training=False), axis=1)
            contributions = difference[0] * tf.reduce_mean(tape.gradient(logits, path), axis=0)
            return tf.reduce_sum(tf.reshape(contributions, (self._width, -1)), axis=1)

        self._score = {size: _compiled(score, (size, self._width)) for size in self.BATCH_SIZES}
        self._explain = _compiled(explain, (self._width,))

    def warm(self) -> None:
        """Run everything once, so that the first transaction meets a warm model."""
        for size in self.BATCH_SIZES:
            self.score(np.zeros((size, self._width), np.float32))
        self.explain(np.zeros((1, self._width), np.float32))

    def score(self, features: np.ndarray) -> np.ndarray:
        """Score rows of features, [n, f] float32 for any n. Returns [n] float32 in [0, 1]."""
        largest = self.BATCH_SIZES[-1]
        chunks = [self._score_chunk(features[start : start + largest]) for start in range(0, len(features), largest)]
        return np.concatenate(chunks) if chunks else np.empty(0, np.float32)

    def _score_chunk(self, features: np.ndarray) -> np.ndarray:
        size = next(size for size in self.BATCH_SIZES if size >= len(features))
        padded = np.zeros((size, self._width), np.float32)
        padded[: len(features)] = features
        return self._score[size](tf.constant(padded)).numpy()[: len(features)]

    def explain(self, features: np.ndarray) -> np.ndarray:
        """What each feature adds to the logit, against the average training row; [n, f] in, [n, f] float32 out.

        Integrated gradients (Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017): a row's
        contributions add up to its logit minus that of the average row, up to the error of 32 steps.
        """
        return np.array([self._explain(tf.constant(row, tf.float32)).numpy() for row in features])


def _compiled(function: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)]).get_concrete_function()
