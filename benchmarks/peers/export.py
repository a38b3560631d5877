"""Writes the champion's network in the forms that the peers read, so that all of them score the same model."""

import sys
from pathlib import Path

import django

django.setup()

import keras
import numpy as np
import onnx
from django.conf import settings
from onnx import TensorProto, helper, numpy_helper

from training import registry


def main(directory: Path) -> None:
    """Write model.keras and model.onnx, both from raw features to the score."""
    weights = registry.load(registry.champion(settings.DEFAULT_SCHEMA)).weights
    layers = ("dense_1", "dense_2", "logit")
    pairs = [(weights[f"{name}/kernel"], weights[f"{name}/bias"]) for name in layers]
    _write_keras(directory / "model.keras", weights["standardise/mean"], weights["standardise/scale"], pairs)
    _write_onnx(directory / "model.onnx", weights["standardise/mean"], weights["standardise/scale"], pairs)


def _write_keras(path: Path, mean: np.ndarray, scale: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    model = keras.Sequential([keras.Input((len(mean),)), keras.layers.Normalization(mean=mean, variance=scale**2)])
    for number, (kernel, _) in enumerate(pairs, start=1):
        model.add(keras.layers.Dense(kernel.shape[1], activation="relu" if number < len(pairs) else "sigmoid"))
        model.layers[-1].set_weights(pairs[number - 1])
    model.save(path)


def _write_onnx(path: Path, mean: np.ndarray, scale: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    nodes = [
        helper.make_node("Sub", ["rows", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["x0"]),
    ]
    constants = {"mean": mean, "scale": scale}
    for number, (kernel, bias) in enumerate(pairs):
        constants |= {f"kernel{number}": kernel, f"bias{number}": bias}
        nodes.append(helper.make_node("Gemm", [f"x{number}", f"kernel{number}", f"bias{number}"], [f"sum{number}"]))
        activation = "Relu" if number < len(pairs) - 1 else "Sigmoid"
        nodes.append(helper.make_node(activation, [f"sum{number}"], [f"x{number + 1}"]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, len(mean)])],
        [helper.make_tensor_value_info(f"x{len(pairs)}", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
