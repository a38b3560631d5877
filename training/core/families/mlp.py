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
from msgspec.structs import replace
from safetensors import SafetensorError
from safetensors.numpy import load, save
from sklearn.metrics import average_precision_score, log_loss

from training.core import families, stages
from training.core.configuration.sections import NetworkHyperparameters, TreeHyperparameters
from training.core.exceptions import BundleRefused
from training.core.families import Fitted, OnEpoch, Rows, preprocessing
from training.core.families.distillation import Lessons

FILE = "weights.safetensors"

EXPLAIN_STEPS = 32
DAY_S = 86_400
LOOKED_AT_ONCE = 8192  # validation rows

# Of what is wanted, [n, m], and logits, [n, m], to the loss of each.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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


class Dropout(keras.layers.Layer):
    """Keras's `Dropout`, cheaper: where a network is small, drawing a float for each unit takes longer
    than learning. Here a byte is drawn, so `rate` counts in 256ths (Srivastava et al., Dropout, JMLR 15, 2014)."""

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


class Network(NamedTuple):
    """The two halves of a model. `encoder` treats each feature by itself: rows [n, f] to [n, f * e], `e` numbers for
    the first feature, then for the second. `head` makes of them [n, m] logits, of which the mean counts. Of those
    `students` says the last ones, if any learn from a teacher; `learners` says the others, who learn from labels."""

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
    """`members` such networks side by side, on `bins` per feature, and its standardised value with the tails pulled in.
    The first `binless_members` of them see no bins. The last `students` of them learn what boosted trees say
    (`training.core.families.distillation`), without dropout: of that word nothing is left to chance.

    Networks that differ in nothing but their first weights are wrong in different places (Lakshminarayanan, Pritzel and
    Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017).
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
    # Bins find what is narrow; who sees none of them bends less, and is wrong elsewhere.
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
    """Moments [n] in seconds as the sine and the cosine of the time of day: the day says nothing of days to come, and
    midnight is no edge."""
    angle = seconds % DAY_S * (2 * math.pi / DAY_S)
    return [keras.ops.sin(angle), keras.ops.cos(angle)]


def _replaced(encoded: Any, feature: int, numbers: list[Any]) -> Any:
    """`encoded` [n, f, e] with other numbers, [n] each, for one feature; 0 where they are fewer than `e`."""
    rest = encoded.shape[2] - len(numbers)
    block = keras.ops.pad(keras.ops.stack(numbers, axis=1)[:, None], ((0, 0), (0, 0), (0, rest)))
    return keras.ops.concatenate([encoded[:, :feature], block, encoded[:, feature + 1 :]], axis=1)


def _dense(hidden: Any, hyperparameters: NetworkHyperparameters, prefix: str) -> Any:
    for number, units in enumerate(hyperparameters.units, start=1):
        hidden = keras.layers.Dense(units, activation="relu", name=f"{prefix}dense_{number}")(hidden)
        hidden = Dropout(hyperparameters.dropout, name=f"{prefix}dropout_{number}")(hidden)
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


def fit(hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch) -> Fitted:
    """See `families.Family`. The one file has the weights, the preprocessing among them, as float32 arrays by name."""
    keras.utils.set_random_seed(hyperparameters.seed)
    tf.config.experimental.enable_op_determinism()
    chosen = ARCHITECTURES[hyperparameters.architecture]
    network = chosen.build(train[0].shape[1], hyperparameters)
    frozen = {variable.name: variable for variable in network.encoder.variables}
    statistics = preprocessing.statistics(*train, bins=hyperparameters.bins if "edges" in frozen else 0)
    for name, variable in frozen.items():
        variable.assign(statistics[name])
    train, validation = ((rows.astype(np.float32), labels) for rows, labels in (train, validation))
    history, kept_epoch = chosen.fit(network, hyperparameters, train, validation, on_epoch)
    weights = {variable.path: variable.numpy() for variable in network.variables}
    return Fitted({FILE: save(weights)}, history, kept_epoch)


def restore(hyperparameters: NetworkHyperparameters, files: Mapping[str, bytes]) -> "Scorer":
    """See `families.Family`."""
    try:
        weights = load(files[FILE])
    except (KeyError, SafetensorError) as error:
        raise BundleRefused(f"{FILE} is missing or cannot be read.") from error
    return Scorer(hyperparameters, weights)


def _lessons(hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows) -> Lessons:
    """What the teacher has to say. Like the bag, it sees the time of day in place of the moment, if that is wanted."""
    time, seed = hyperparameters.time_feature, hyperparameters.seed
    if time is not None:
        train, validation = ((rows.copy(), labels) for rows, labels in (train, validation))
        for rows, _ in (train, validation):
            rows[:, time] %= DAY_S
    taught = hyperparameters.teacher or TreeHyperparameters()
    teacher = families.train(replace(taught, seed=seed), train, validation, role="teacher")
    stages.enter("Asking the teacher about the training rows")
    return Lessons(*train, teacher.scorer, np.random.default_rng(seed))


def _fit_until_it_stops_improving(
    network: Network, hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch
) -> tuple[dict[str, list[float]], int]:
    """The seed system's way: all rows in each epoch, Adam; keeps the epoch with the lowest validation loss."""
    random = np.random.default_rng(hyperparameters.seed)
    rows, labels = _tensors(*train)
    orders = (random.permutation(len(rows)) for _ in range(hyperparameters.epochs))
    learn = _learning(network, network.learners, keras.optimizers.Adam(hyperparameters.learning_rate), _of_labels)
    epochs = (learn(rows, labels, _batches(order, hyperparameters.batch_size)) for order in orders)
    history: dict[str, list[float]] = {}
    kept_epoch, kept = 0, []
    for epoch, said in _judged(network, epochs, validation):
        _note(history, said)
        on_epoch(epoch, said)
        if said["val_loss"] <= min(history["val_loss"]):
            kept_epoch, kept = epoch, [variable.numpy() for variable in network.variables]
        elif epoch - kept_epoch >= hyperparameters.patience:
            break
    for variable, value in zip(network.variables, kept, strict=True):
        variable.assign(value)
    return history, kept_epoch


def _fit_on_fresh_samples(
    network: Network, hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch
) -> tuple[dict[str, list[float]], int]:
    """In each epoch, `draws` times: all frauds and, drawn anew, `legitimate_per_fraud` as many other rows; 0 takes
    all of them; and a lesson for the students. AdamW, its rate falling to 0 along a cosine; keeps the last epoch.
    Validation rows are only looked at, which takes longer than learning from a draw where frauds are few: so an epoch
    may have several."""
    frauds, legitimate = np.flatnonzero(train[1]), np.flatnonzero(train[1] == 0)
    taken = min(len(frauds) * hyperparameters.legitimate_per_fraud or len(legitimate), len(legitimate))
    batch_size, draws = hyperparameters.batch_size, hyperparameters.draws
    random = np.random.default_rng(hyperparameters.seed)
    rows, labels = _tensors(*train)
    # Added while training, this makes the logits those of all rows, not of the sample, with nothing to undo later.
    log_oversampling = float(np.log(len(legitimate) / taken))

    def learning(
        head: keras.Model, loss: Loss, drawn_rows: int
    ) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        steps = hyperparameters.epochs * len(_batches(np.arange(draws * drawn_rows), batch_size))
        rate = keras.optimizers.schedules.CosineDecay(hyperparameters.learning_rate, steps)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=hyperparameters.weight_decay)
        return _learning(network, head, optimizer, loss)

    def of_the_sample(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return _of_labels(wanted, logits + log_oversampling)

    def sample() -> np.ndarray:
        return random.permutation(np.concatenate([frauds, random.choice(legitimate, taken, replace=False)]))

    learn = learning(network.learners, of_the_sample, len(frauds) + taken)
    if network.students is not None:
        lessons = _lessons(hyperparameters, train, validation)
        imitate = learning(network.students, _of_logits, len(lessons))

    def epochs() -> Iterator[tf.Tensor]:
        for _ in range(hyperparameters.epochs):
            if network.students is not None:
                drawn, logits = (
                    np.concatenate(parts) for parts in zip(*(lessons.draw() for _ in range(draws)), strict=True)
                )
                imitate(*_tensors(drawn, logits), _batches(np.arange(len(drawn)), batch_size))
            yield learn(rows, labels, _batches(np.concatenate([sample() for _ in range(draws)]), batch_size))

    history: dict[str, list[float]] = {}
    for epoch, said in _judged(network, epochs(), validation):
        _note(history, said)
        on_epoch(epoch, said)
    return history, hyperparameters.epochs


def _of_labels(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)


def _of_logits(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Huber's: squares would have a student mind the odds of what is surely good more than the border."""
    off = tf.abs(wanted - logits)
    return tf.where(off < 1, off**2 / 2, off - 0.5)


def _tensors(rows: np.ndarray, wanted: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows [n, f], and what is wanted of them, [n, 1]."""
    return tf.constant(rows, tf.float32), tf.constant(wanted[:, None], tf.float32)


def _batches(order: np.ndarray, size: int) -> tf.Tensor:
    """Numbers of rows as [b, size]. What does not fill a batch is left out; fewer rows than that are one batch."""
    size = min(size, len(order))
    return tf.constant(order[: len(order) // size * size].reshape(-1, size), tf.int32)


def _learning(
    network: Network, head: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """A compiled function that takes `_tensors` through `head` in `_batches` and returns the mean loss.

    Keras's own loop spends more on handing over a batch than a network of this size spends on learning from it.
    """
    model = network.from_rows(head)
    optimizer.build(model.trainable_variables)

    @tf.function
    def learn(rows: tf.Tensor, wanted: tf.Tensor, batches: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for batch in batches:
            with tf.GradientTape() as tape:
                logits = model(tf.gather(rows, batch), training=True)
                # Every member learns for itself: of a loss of their mean, one would learn and the others lean on it.
                mean = tf.reduce_mean(loss(tf.broadcast_to(tf.gather(wanted, batch), tf.shape(logits)), logits))
            optimizer.apply(tape.gradient(mean, model.trainable_variables))
            total += mean
        return total / tf.cast(len(batches), tf.float32)

    return learn


def _judged(network: Network, epochs: Iterable[tf.Tensor], validation: Rows) -> Iterator[tuple[int, dict[str, float]]]:
    """Run `epochs`, which say their loss. Yields the number of each, from 1, and what came of it."""
    model = network.from_rows(network.head)
    rows, labels = validation

    @tf.function(input_signature=[tf.TensorSpec((None, rows.shape[1]), tf.float32)])
    def score(rows: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(tf.reduce_mean(model(rows, training=False), axis=1))

    for epoch, loss in enumerate(epochs, start=1):
        parts = range(0, len(rows), LOOKED_AT_ONCE)
        scores = np.concatenate([score(rows[part : part + LOOKED_AT_ONCE]).numpy() for part in parts])
        yield (
            epoch,
            {
                "loss": float(loss),
                "val_loss": float(log_loss(labels, scores, labels=[0, 1])),
                "val_auprc": float(average_precision_score(labels, scores)),
            },
        )


def _note(history: dict[str, list[float]], said: dict[str, float]) -> None:
    for name, value in said.items():
        history.setdefault(name, []).append(value)


class Architecture(NamedTuple):
    """How a network is built, and how it is trained."""

    build: Callable[[int, NetworkHyperparameters], Network]
    fit: Callable[
        [Network, NetworkHyperparameters, Rows, Rows, OnEpoch],
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

    def __init__(self, hyperparameters: NetworkHyperparameters, weights: Mapping[str, np.ndarray]) -> None:
        architecture = hyperparameters.architecture
        try:
            self._width = len(weights["standardise/mean"])
            network = ARCHITECTURES[architecture].build(self._width, hyperparameters)
            encoder, head = network.encoder, network.head
            for variable in network.variables:
                variable.assign(weights[variable.path])
        except (KeyError, ValueError) as error:
            raise BundleRefused(f"The weights do not fit the architecture {architecture}: {error}.") from error
        average = encoder(weights["standardise/mean"][None], training=False)
        self.baseline = float(tf.reduce_mean(head(average, training=False)))

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
