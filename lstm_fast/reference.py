"""A slow, obvious NumPy forward pass of a ModelSpec: the judge of every kernel.

One loop over time, one row of gates at a time, any float dtype. It follows the formulas in :mod:`lstm_fast.spec` and
takes every liberty that makes it easier to believe, none that makes it faster.
"""

from __future__ import annotations

import math

import numpy as np

from .activations import Activation
from .spec import Cell, Dense, Elementwise, Embedding, Masking, ModelSpec, Recurrent, Softmax

State = tuple[np.ndarray, np.ndarray] | np.ndarray

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_erf = np.vectorize(math.erf, otypes=[float])


def forward(
    spec: ModelSpec,
    x: np.ndarray,
    states: list[State] | None = None,
    *,
    lengths: np.ndarray | None = None,
    dtype: np.dtype | type = np.float64,
) -> tuple[np.ndarray, list[State]]:
    """Run ``spec`` on a batch.

    Args:
        spec: a valid model.
        x: (batch, time, features), or integer (batch, time) where the model starts with an embedding.
        states: one state per recurrent stack, ``(h, c)`` or ``h``, each (layers * directions, batch, size).
        lengths: valid steps of each row, (batch,); recurrent layers skip later steps and yield zeros there.
        dtype: precision of all arithmetic.

    Returns:
        ``y``, (batch, time, features) or (batch, features), and the final states.
    """
    single = spec.dtype == np.float32
    spec = spec.astype(dtype)
    batch, time = x.shape[:2]
    values = x if spec.takes_ids else x.astype(dtype)
    within = np.ones((batch, time), bool) if lengths is None else np.arange(time) < np.asarray(lengths)[:, None]
    mask = np.ones((batch, time), bool)
    final: list[State] = []
    for layer in spec.layers:
        if isinstance(layer, Embedding):
            mask = mask & (values != 0) if layer.mask_zero else mask
            values = layer.weight[values]
        elif isinstance(layer, Masking):
            with np.errstate(over="ignore"):
                judged = values.astype(np.float32) if single else values
                differs = np.any(judged != judged.dtype.type(layer.mask_value), axis=-1)
            mask = mask & differs
            values = np.where(differs[..., None], values, 0)
        elif isinstance(layer, Recurrent):
            start = None if states is None else states[len(final)]
            values, state = _recurrent(layer, values, start, mask, within)
            final.append(state)
        elif isinstance(layer, Dense):
            values = values @ layer.weight.T
            values = activate(layer.activation, values if layer.bias is None else values + layer.bias)
        elif isinstance(layer, Elementwise):
            values = activate(layer.activation, values)
        elif isinstance(layer, Softmax):
            shifted = values - values.max(axis=-1, keepdims=True)
            total = np.exp(shifted).sum(axis=-1, keepdims=True)
            values = shifted - np.log(total) if layer.log else np.exp(shifted) / total
    return values, final


def activate(activation: Activation, x: np.ndarray) -> np.ndarray:
    """Apply one elementwise activation, in the precision of ``x``."""
    a, b = activation.alpha, activation.beta
    with np.errstate(over="ignore"):
        return _FORMULAS[activation.name](x, a, b).astype(x.dtype, copy=False)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_FORMULAS = {
    "linear": lambda x, a, b: x,
    "tanh": lambda x, a, b: np.tanh(x),
    "sigmoid": lambda x, a, b: _sigmoid(x),
    "relu": lambda x, a, b: np.maximum(x, 0),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "relu6": lambda x, a, b: np.clip(x, 0, 6),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(x), x),
    "selu": lambda x, a, b: _SELU_SCALE * np.where(x < 0, _SELU_ALPHA * np.expm1(x), x),
    "gelu": lambda x, a, b: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x, a, b: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x, a, b: x * _sigmoid(x),
    "hard_silu": lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1),
    "mish": lambda x, a, b: x * np.tanh(_softplus(x)),
    "softplus": lambda x, a, b: _softplus(x),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "exponential": lambda x, a, b: np.exp(x),
    "affine": lambda x, a, b: a * x + b,
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x),
    "thresholded_relu": lambda x, a, b: np.where(x <= a, 0, x),
}


def _recurrent(
    layer: Recurrent, x: np.ndarray, state: State | None, mask: np.ndarray, within: np.ndarray
) -> tuple[np.ndarray, State]:
    batch, dtype = x.shape[0], x.dtype
    h_start, c_start = state if isinstance(state, tuple) else (state, None)
    h_final, c_final = [], []
    for directions in layer.layers:
        outputs = []
        for direction, cell in enumerate(directions):
            index = len(h_final)
            h = np.zeros((batch, cell.output_size), dtype) if h_start is None else h_start[index].astype(dtype)
            c = np.zeros((batch, cell.hidden_size), dtype) if c_start is None else c_start[index].astype(dtype)
            backward = layer.reverse or direction == 1
            y, h, c = _direction(cell, x, h, c, mask, within, backward, layer.masked_output)
            outputs.append(y)
            h_final.append(h)
            c_final.append(c)
        x = np.concatenate(outputs, axis=-1)
    h_n = np.stack(h_final)
    final = (h_n, np.stack(c_final)) if layer.kind == "lstm" else h_n
    if layer.return_sequences:
        return x, final
    return np.concatenate(h_final[-layer.num_directions :], axis=-1), final


def _direction(cell, x, h, c, mask, within, backward, masked_output):
    batch, time = x.shape[:2]
    y = np.zeros((batch, time, cell.output_size), x.dtype)
    for t in reversed(range(time)) if backward else range(time):
        h_new, c_new = _step(cell, x[:, t], h, c)
        active = (mask[:, t] & within[:, t])[:, None]
        h, c = np.where(active, h_new, h), np.where(active, c_new, c)
        shown = within[:, t][:, None] if masked_output == "repeat" else active
        y[:, t] = np.where(shown, h, 0)
    return y, h, c


def _step(cell: Cell, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = cell.hidden_size
    xs = x @ cell.weight_ih.T
    if cell.bias is not None:
        xs = xs + cell.bias
    if cell.kind == "rnn":
        return activate(cell.activation, xs + h @ cell.weight_hh.T), c
    if cell.kind == "lstm":
        i, f, g, o = np.split(xs + h @ cell.weight_hh.T, 4, axis=-1)
        i, f, o = (activate(cell.gate_activation, gate) for gate in (i, f, o))
        c = f * c + i * activate(cell.activation, g)
        h = o * activate(cell.output_activation, c)
        return (h if cell.weight_hr is None else h @ cell.weight_hr.T), c
    zr = activate(cell.gate_activation, xs[:, : 2 * size] + h @ cell.weight_hh[: 2 * size].T)
    z, r = zr[:, :size], zr[:, size:]
    u_n = cell.weight_hh[2 * size :]
    if cell.reset_after:
        hn = h @ u_n.T if cell.bias_hn is None else h @ u_n.T + cell.bias_hn
        n = activate(cell.activation, xs[:, 2 * size :] + r * hn)
    else:
        n = activate(cell.activation, xs[:, 2 * size :] + (r * h) @ u_n.T)
    return z * h + (1 - z) * n, c
