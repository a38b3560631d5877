"""Trains networks."""

from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf
from msgspec.structs import replace
from sklearn.metrics import average_precision_score, log_loss

from training.core import families, stages
from training.core.configuration.sections import NetworkHyperparameters, TreeHyperparameters
from training.core.families import OnEpoch, Rows
from training.core.families.distillation import Lessons
from training.core.families.networks.architectures import DAY_S, Network

LOOKED_AT_ONCE = 8192  # validation rows

# From targets [n, m] and logits [n, m] to the loss of each.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _fit_until_it_stops_improving(
    network: Network, hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch
) -> tuple[dict[str, list[float]], int]:
    """Fit as the seed system does: all rows in each epoch, Adam; keep the epoch with the lowest validation loss."""
    random = np.random.default_rng(hyperparameters.seed)
    rows, labels = _tensors(*train)
    orders = (random.permutation(len(rows)) for _ in range(hyperparameters.epochs))
    learn = _learning(network, network.learners, keras.optimizers.Adam(hyperparameters.learning_rate), _of_labels)
    epochs = (learn(rows, labels, _batches(order, hyperparameters.batch_size)) for order in orders)
    history: dict[str, list[float]] = {}
    kept_epoch, kept = 0, []
    for epoch, logs in _evaluated(network, epochs, validation):
        _append(history, logs)
        on_epoch(epoch, logs)
        if logs["val_loss"] <= min(history["val_loss"]):
            kept_epoch, kept = epoch, [variable.numpy() for variable in network.variables]
        elif epoch - kept_epoch >= hyperparameters.patience:
            break
    for variable, value in zip(network.variables, kept, strict=True):
        variable.assign(value)
    return history, kept_epoch


def _fit_on_fresh_samples(
    network: Network, hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch
) -> tuple[dict[str, list[float]], int]:
    """Fit on all frauds and a fresh sample of `legitimate_per_fraud` times as many other rows (0: all of them), and the
    students on a lesson, `draws` times per epoch. AdamW with a cosine decay of the rate to 0; keep the last epoch.
    Validation rows are only scored, which may take longer than learning from a draw: so an epoch may have several."""
    frauds, legitimate = np.flatnonzero(train[1]), np.flatnonzero(train[1] == 0)
    taken = min(len(frauds) * hyperparameters.legitimate_per_fraud or len(legitimate), len(legitimate))
    batch_size, draws = hyperparameters.batch_size, hyperparameters.draws
    random = np.random.default_rng(hyperparameters.seed)
    rows, labels = _tensors(*train)
    # Added during training only, it makes the model's logits those of all rows instead of the sample.
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
    for epoch, logs in _evaluated(network, epochs(), validation):
        _append(history, logs)
        on_epoch(epoch, logs)
    return history, hyperparameters.epochs


def _of_labels(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)


def _of_logits(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Huber's loss: with squares, students would learn the odds of clear cases better than the border."""
    off = tf.abs(wanted - logits)
    return tf.where(off < 1, off**2 / 2, off - 0.5)


def _tensors(rows: np.ndarray, wanted: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows [n, f] and their targets [n, 1]."""
    return tf.constant(rows, tf.float32), tf.constant(wanted[:, None], tf.float32)


def _batches(order: np.ndarray, size: int) -> tf.Tensor:
    """Row numbers as [b, size]. An incomplete last batch is left out; fewer rows than `size` are one batch."""
    size = min(size, len(order))
    return tf.constant(order[: len(order) // size * size].reshape(-1, size), tf.int32)


def _learning(
    network: Network, head: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """A compiled function that takes `_tensors` through `head` in `_batches` and returns the mean loss.

    Keras's own loop has more overhead per batch than a network of this size needs to learn from it.
    """
    model = network.from_rows(head)
    optimizer.build(model.trainable_variables)

    @tf.function
    def learn(rows: tf.Tensor, wanted: tf.Tensor, batches: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for batch in batches:
            with tf.GradientTape() as tape:
                logits = model(tf.gather(rows, batch), training=True)
                # Every member has its own loss: with a loss of their mean, some members would hardly learn.
                mean = tf.reduce_mean(loss(tf.broadcast_to(tf.gather(wanted, batch), tf.shape(logits)), logits))
            optimizer.apply(tape.gradient(mean, model.trainable_variables))
            total += mean
        return total / tf.cast(len(batches), tf.float32)

    return learn


def _evaluated(
    network: Network, epochs: Iterable[tf.Tensor], validation: Rows
) -> Iterator[tuple[int, dict[str, float]]]:
    """Run `epochs`, which give their loss. Yields the number of each, from 1, and its losses and metrics."""
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


def _append(history: dict[str, list[float]], logs: dict[str, float]) -> None:
    for name, value in logs.items():
        history.setdefault(name, []).append(value)


def _lessons(hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows) -> Lessons:
    """Train the teacher, and make the lessons. With `time_of_day` the teacher, too, gets the time of day only."""
    time, seed = hyperparameters.time_feature, hyperparameters.seed
    if time is not None:
        train, validation = ((rows.copy(), labels) for rows, labels in (train, validation))
        for rows, _ in (train, validation):
            rows[:, time] %= DAY_S
    taught = hyperparameters.teacher or TreeHyperparameters()
    teacher = families.train(
        replace(taught, seed=seed, columns=hyperparameters.columns), train, validation, role="teacher"
    )
    stages.enter("Making the lessons of the students")
    return Lessons(*train, teacher.scorer, np.random.default_rng(seed))


# By architecture: trains a network in place. Returns the history and the epoch whose weights the network has.
FIT = {"mlp": _fit_until_it_stops_improving, "bag": _fit_on_fresh_samples}
