"""The family of Keras models.

The one package that imports TensorFlow, and itself imported late: it takes seconds to load.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Without oneDNN the score of a row does not depend on its batch, and a seed repeats a run to the last bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from safetensors import SafetensorError
from safetensors.numpy import load, save

from training.core.configuration.sections import NetworkHyperparameters
from training.core.exceptions import BundleRefused
from training.core.families import Fitted, OnEpoch, Rows, preprocessing
from training.core.families.networks.architectures import BUILD
from training.core.families.networks.learning import FIT
from training.core.families.networks.scorer import Scorer

FILE = "weights.safetensors"


def limit_threads(threads: int) -> None:
    """Limit TensorFlow's threads. Call it before the first computation of the process.

    A transaction needs only a few small matrix products: more threads would only wait for each other.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def device() -> str:
    """The device of TensorFlow: the GPU with Metal on Apple silicon, or the CPU."""
    gpus = tf.config.list_physical_devices("GPU")
    return f"GPU ({tf.config.experimental.get_device_details(gpus[0]).get('device_name', 'Metal')})" if gpus else "CPU"


def fit(hyperparameters: NetworkHyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch) -> Fitted:
    """See `families.Family`. The one file has the weights, the preprocessing among them, as float32 arrays by name."""
    keras.utils.set_random_seed(hyperparameters.seed)
    tf.config.experimental.enable_op_determinism()
    architecture = hyperparameters.architecture
    network = BUILD[architecture](train[0].shape[1], hyperparameters)
    layout = network.layout
    frozen = {variable.name: variable for variable in network.encoder.non_trainable_weights}
    rows, labels = train
    numbers = rows[:, layout.numbers] if layout.categories else rows
    statistics = preprocessing.statistics(numbers, labels, bins=hyperparameters.bins if "edges" in frozen else 0)
    if layout.categories:
        statistics["frequencies"] = preprocessing.frequencies(rows[:, layout.categories], layout.places)
    for name, values in statistics.items():
        frozen[name].assign(values)
    train, validation = ((rows.astype(np.float32), labels) for rows, labels in (train, validation))
    history, kept_epoch = FIT[architecture](network, hyperparameters, train, validation, on_epoch)
    weights = {variable.path: variable.numpy() for variable in network.variables}
    return Fitted({FILE: save(weights)}, history, kept_epoch)


def restore(hyperparameters: NetworkHyperparameters, files: Mapping[str, bytes]) -> Scorer:
    """See `families.Family`."""
    try:
        weights = load(files[FILE])
    except (KeyError, SafetensorError) as error:
        raise BundleRefused(f"{FILE} is missing or cannot be read.") from error
    return Scorer(hyperparameters, weights)
