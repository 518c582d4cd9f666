"""A recurrent network as a plain, careful NumPy loop: the yardstick the compiled kernels are timed against.

What a good NumPy programmer writes: float32 throughout, transposes laid out once, the input product of all steps in
one matrix product, one product with the recurrent weights per step. It runs a ModelSpec from zero states, without
masks or lengths; :mod:`lstm_fast.reference` is the full and exact judge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_fast.activations import Activation
from lstm_fast.reference import activate
from lstm_fast.spec import Cell, Dense, Elementwise, Embedding, ModelSpec, Recurrent, Softmax

Step = Callable[[np.ndarray], np.ndarray]


def numpy_loop(spec: ModelSpec) -> Step:
    """A function from x, (batch, time, features) or integer (batch, time), to y, both as in ``spec``."""
    stages = [_stage(layer) for layer in spec.astype(np.float32).layers]

    def run(x: np.ndarray) -> np.ndarray:
        for stage in stages:
            x = stage(x)
        return x

    return run


def _stage(layer) -> Step:
    if isinstance(layer, Recurrent):
        return _recurrent(layer)
    if isinstance(layer, Dense):
        return _dense(layer)
    if isinstance(layer, Embedding) and not layer.mask_zero:
        return layer.weight.__getitem__
    if isinstance(layer, Elementwise):
        return _activation(layer.activation)
    if isinstance(layer, Softmax):
        return _log_softmax if layer.log else _softmax
    raise NotImplementedError(f"{layer.name}: the NumPy loop has no masks")


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _activation(activation: Activation) -> Step:
    fast = {"tanh": np.tanh, "sigmoid": _sigmoid, "relu": _relu, "linear": np.asarray}
    return fast.get(activation.name) or (lambda x: activate(activation, x))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _dense(layer: Dense) -> Step:
    weight = np.ascontiguousarray(layer.weight.T)
    bias = np.float32(0) if layer.bias is None else layer.bias
    activation = _activation(layer.activation)
    return lambda x: activation(x @ weight + bias)


def _recurrent(layer: Recurrent) -> Step:
    stack = [[_cell(cell) for cell in directions] for directions in layer.layers]

    def run(x: np.ndarray) -> np.ndarray:
        for directions in stack:
            outputs, last = [], []
            for direction, scan in enumerate(directions):
                backward = layer.reverse or direction == 1
                y = scan(x[:, ::-1] if backward else x)
                outputs.append(y[:, ::-1] if backward else y)
                last.append(y[:, -1])
            x = np.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
        return x if layer.return_sequences else np.concatenate(last, axis=-1)

    return run


def _cell(cell: Cell) -> Step:
    """A scan over time, (batch, time, features) -> (batch, time, outputs)."""
    advance = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[cell.kind](cell)
    weight_ih = np.ascontiguousarray(cell.weight_ih.T)
    bias = np.float32(0) if cell.bias is None else cell.bias

    def scan(x: np.ndarray) -> np.ndarray:
        batch, time = x.shape[:2]
        projected = x @ weight_ih + bias
        y = np.empty((batch, time, cell.output_size), np.float32)
        h = np.zeros((batch, cell.output_size), np.float32)
        c = np.zeros((batch, cell.hidden_size), np.float32)
        for t in range(time):
            h, c = advance(projected[:, t], h, c)
            y[:, t] = h
        return y

    return scan


def _lstm(cell: Cell):
    size = cell.hidden_size
    weight_hh = np.ascontiguousarray(cell.weight_hh.T)
    weight_hr = None if cell.weight_hr is None else np.ascontiguousarray(cell.weight_hr.T)
    gate, candidate, output = map(_activation, (cell.gate_activation, cell.activation, cell.output_activation))

    def advance(projected, h, c):
        gates = projected + h @ weight_hh
        i_f = gate(gates[:, : 2 * size])
        c = i_f[:, size:] * c + i_f[:, :size] * candidate(gates[:, 2 * size : 3 * size])
        h = gate(gates[:, 3 * size :]) * output(c)
        return (h if weight_hr is None else h @ weight_hr), c

    return advance


def _gru(cell: Cell):
    size = cell.hidden_size
    weight_hh = np.ascontiguousarray(cell.weight_hh.T)
    weight_zr = np.ascontiguousarray(weight_hh[:, : 2 * size])
    weight_n = np.ascontiguousarray(weight_hh[:, 2 * size :])
    bias_hn = np.float32(0) if cell.bias_hn is None else cell.bias_hn
    gate, candidate = _activation(cell.gate_activation), _activation(cell.activation)

    def reset_after(projected, h, c):
        recurrent = h @ weight_hh
        zr = gate(projected[:, : 2 * size] + recurrent[:, : 2 * size])
        n = candidate(projected[:, 2 * size :] + zr[:, size:] * (recurrent[:, 2 * size :] + bias_hn))
        return n + zr[:, :size] * (h - n), c

    def reset_before(projected, h, c):
        zr = gate(projected[:, : 2 * size] + h @ weight_zr)
        n = candidate(projected[:, 2 * size :] + (zr[:, size:] * h) @ weight_n)
        return n + zr[:, :size] * (h - n), c

    return reset_after if cell.reset_after else reset_before


def _rnn(cell: Cell):
    weight_hh = np.ascontiguousarray(cell.weight_hh.T)
    activation = _activation(cell.activation)
    return lambda projected, h, c: (activation(projected + h @ weight_hh), c)
