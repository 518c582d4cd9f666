"""A recurrent stack as an ONNX model, for the engines that read one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lstm_fast.spec import Cell, ModelSpec

from ..shapes import Feed
from . import recurrent_bias, states_by_layer

_ORDER = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "rnn": (0,)}  # ONNX has i, o, f, c and z, r, h
_OPSET, _IR_VERSION = 17, 8  # known to every release of today
NO_PROJECTION = "no projections in ONNX"


def onnx_inputs(feed: Feed, num_layers: int) -> dict[str, np.ndarray]:
    """The model's, in its order: X, (time, batch, features), and each layer's states, (directions, batch, size)."""
    return {"X": np.ascontiguousarray(feed.x.swapaxes(0, 1)), **states_by_layer(feed, num_layers)}


def onnx_outputs(inputs: Iterable[str]) -> list[str]:
    """The model's, in its order: Y, and a final state for each that is among its inputs."""
    return ["Y", *(f"final_{name}" for name in inputs if name != "X")]


def onnx_output(y: np.ndarray) -> np.ndarray:
    """(batch, time, directions * size) from the model's Y, (time, directions, batch, size)."""
    time, _, batch, _ = y.shape
    return y.transpose(2, 0, 1, 3).reshape(batch, time, -1)


def onnx_model(spec: ModelSpec, feed: Feed) -> bytes:
    """The model; sizes and lengths are fixed, and the last output is not rearranged."""
    from onnx import TensorProto, helper, numpy_helper

    [stack] = spec.recurrent
    batch, time = feed.x.shape[:2]
    directions, size = stack.num_directions, stack.layers[0][0].hidden_size
    nodes, constants, source = [], {}, "X"
    given = onnx_inputs(feed, len(stack.layers))
    if feed.lengths is not None:
        constants["lengths"] = feed.lengths.astype(np.int32)
    for index, cells in enumerate(stack.layers):
        last = index == len(stack.layers) - 1
        weights = {f"{name}{index}": array for name, array in _weights(cells).items()}
        constants |= weights
        options = {"hidden_size": size, "direction": "bidirectional" if directions == 2 else "forward"}
        options |= {"linear_before_reset": int(cells[0].reset_after)} if stack.kind == "gru" else {}
        target = "Y" if last else f"y{index}"
        states = [name for name in (f"h{index}", f"c{index}") if name in given]
        inputs = [source, *weights, "lengths" if feed.lengths is not None else "", *states]
        outputs = [target, *(f"final_{name}" for name in states)]
        nodes.append(helper.make_node(stack.kind.upper(), inputs, outputs, **options))
        if last:
            break
        source = f"x{index + 1}"
        if directions == 1:
            constants["directions"] = np.array([1])
            nodes.append(helper.make_node("Squeeze", [target, "directions"], [source]))
        else:
            constants["joined"] = np.array([time, batch, directions * size])
            nodes.append(helper.make_node("Transpose", [target], [f"turned{index}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"turned{index}", "joined"], [source]))
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in given.items()],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [time] * (name == "Y") + [directions, batch, size])
            for name in onnx_outputs(given)
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION).SerializeToString()


def _weights(cells: tuple[Cell, ...]) -> dict[str, np.ndarray]:
    """W, R and B = [Wb, Rb] of one layer, directions first."""
    parts: dict[str, list[np.ndarray]] = {"W": [], "R": [], "B": []}
    for cell in cells:
        parts["W"].append(_reorder(cell.kind, cell.weight_ih))
        parts["R"].append(_reorder(cell.kind, cell.weight_hh))
        parts["B"].append(np.concatenate([_reorder(cell.kind, bias) for bias in (cell.bias, recurrent_bias(cell))]))
    return {name: np.stack(arrays) for name, arrays in parts.items()}


def _reorder(kind: str, value: np.ndarray) -> np.ndarray:
    gates = np.split(value, len(_ORDER[kind]))
    return np.concatenate([gates[gate] for gate in _ORDER[kind]])
