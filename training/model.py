"""The Keras models. The one module that imports TensorFlow, and itself imported late: it takes seconds to load."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Without oneDNN a row scores the same in every batch of `Scorer`, and a seed repeats a run to the last bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from training.bundle import Bundle
from training.exceptions import BundleRefused

EXPLAIN_STEPS = 32


@keras.saving.register_keras_serializable("fraudsite")
class Standardise(keras.layers.Layer):
    """(x - mean) / scale, with both fitted elsewhere, on training rows only, and frozen here."""

    def build(self, input_shape: tuple[int | None, int]) -> None:
        width = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=width, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=width, initializer="ones", trainable=False)

    def call(self, rows: Any) -> Any:
        return (rows - self.mean) / self.scale


def mlp(features: int, hyperparameters: Mapping[str, Any]) -> keras.Model:
    """The seed system's network: dense layers of `units` with ReLU and dropout, one logit."""
    inputs = keras.Input((features,), name="features")
    hidden = Standardise(name="standardise")(inputs)
    for number, units in enumerate(hyperparameters["units"], start=1):
        hidden = keras.layers.Dense(units, activation="relu", name=f"dense_{number}")(hidden)
        hidden = keras.layers.Dropout(hyperparameters["dropout"], name=f"dropout_{number}")(hidden)
    return keras.Model(inputs, keras.layers.Dense(1, name="logit")(hidden))


ARCHITECTURES: dict[str, Callable[[int, Mapping[str, Any]], keras.Model]] = {"mlp": mlp}


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
    mean: np.ndarray,
    scale: np.ndarray,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    seed: int,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """Train a network and return its best weights by validation loss, and the history.

    Args:
        architecture: a key of `ARCHITECTURES`.
        mean, scale: [f], of the training rows.
        train, validation: rows [n, f] float32 and labels [n].
        on_epoch: called with the epoch's number, from 1, and its losses and metrics.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = ARCHITECTURES[architecture](train[0].shape[1], hyperparameters)
    model.get_layer("standardise").set_weights([mean, scale])
    model.compile(
        optimizer=keras.optimizers.Adam(hyperparameters["learning_rate"]),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.AUC(curve="PR", from_logits=True, name="auprc")],
    )
    history = model.fit(
        *train,
        validation_data=validation,
        epochs=hyperparameters["epochs"],
        batch_size=hyperparameters["batch_size"],
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=hyperparameters["patience"], restore_best_weights=True
            ),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: on_epoch(epoch + 1, logs)),
        ],
    )
    weights = {variable.path: variable.numpy() for variable in _own_variables(model)}
    return weights, {name: [float(value) for value in values] for name, values in history.history.items()}


def keras_binned_roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """ROC-AUC as `keras.metrics.AUC` estimates it, over 200 thresholds; on rare frauds it is well below the truth."""
    metric = keras.metrics.AUC()
    metric.update_state(labels, scores)
    return float(metric.result())


class Scorer:
    """A trained model, compiled for a few fixed batch sizes.

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
            mean = tf.constant(weights["standardise/mean"])
            self._width = len(weights["standardise/mean"])
            model = ARCHITECTURES[architecture](self._width, hyperparameters)
            for variable in _own_variables(model):
                variable.assign(weights[variable.path])
        except (KeyError, ValueError) as error:
            raise BundleRefused(f"The weights do not fit the architecture {architecture}: {error}.") from error

        def score(rows: tf.Tensor) -> tf.Tensor:
            return tf.sigmoid(model(rows, training=False))[:, 0]

        def explain(row: tf.Tensor) -> tf.Tensor:
            # The midpoint rule on the straight line from the average row to this one.
            steps = (tf.range(EXPLAIN_STEPS, dtype=tf.float32) + 0.5)[:, None] / EXPLAIN_STEPS
            path = mean + steps * (row - mean)
            with tf.GradientTape() as tape:
                tape.watch(path)
                logits = model(path, training=False)
            return (row - mean) * tf.reduce_mean(tape.gradient(logits, path), axis=0)

        self._score = {size: _compiled(score, (size, self._width)) for size in self.BATCH_SIZES}
        self._explain = _compiled(explain, (self._width,))

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        return cls(bundle.architecture, bundle.hyperparameters, bundle.weights)

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


def _own_variables(model: keras.Model) -> list[Any]:
    """The variables that make the model; dropout's random state does not."""
    return [variable for variable in model.variables if "seed_generator" not in variable.path]


def _compiled(function: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)]).get_concrete_function()
