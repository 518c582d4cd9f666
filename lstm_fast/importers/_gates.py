"""The only place that knows how each source stacks its gates, lays out its kernels and splits its biases.

Sources: PyTorch's ``nn.LSTM`` / ``nn.GRU`` documentation; Keras' ``LSTMCell`` and ``GRUCell``. Canonical order and
layout are in :mod:`lstm_fast.spec`.
"""

from __future__ import annotations

import numpy as np

from ..activations import SIGMOID, TANH, Activation
from ..errors import ShapeError
from ..spec import GATES, Cell

#: Position in the source of each canonical gate.
_ORDER = {
    ("torch", "lstm"): (0, 1, 2, 3),
    ("torch", "gru"): (1, 0, 2),
    ("torch", "rnn"): (0,),
    ("keras", "lstm"): (0, 1, 2, 3),
    ("keras", "gru"): (0, 1, 2),
    ("keras", "rnn"): (0,),
}

#: For people: how each source stacks its gates.
GATE_NOTES = {
    ("torch", "lstm"): "gates i,f,g,o",
    ("torch", "gru"): "gates r,z,n -> z,r,n",
    ("torch", "rnn"): "",
    ("keras", "lstm"): "gates i,f,c,o; transposed",
    ("keras", "gru"): "gates z,r,h; transposed",
    ("keras", "rnn"): "transposed",
}


def torch_cell(
    kind: str,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray | None = None,
    bias_hh: np.ndarray | None = None,
    weight_hr: np.ndarray | None = None,
    *,
    reset_after: bool = True,
    gate_activation: Activation = SIGMOID,
    activation: Activation = TANH,
    output_activation: Activation = TANH,
) -> Cell:
    """A cell from PyTorch's arrays: weights (gates*H, in), biases (gates*H,) each or None, which means zeros.

    The caller has judged the shapes, under the source's own names; two biases of different shapes are refused here
    because no sum of them could be judged later.
    """
    bias, bias_hn = _sum_torch_bias(kind, bias_ih, bias_hh, reset_after)
    return Cell(
        kind=kind,
        weight_ih=_reorder("torch", kind, weight_ih),
        weight_hh=_reorder("torch", kind, weight_hh),
        bias=None if bias is None else _reorder("torch", kind, bias),
        bias_hn=bias_hn,
        weight_hr=None if weight_hr is None else np.ascontiguousarray(weight_hr),
        reset_after=reset_after,
        gate_activation=gate_activation,
        activation=activation,
        output_activation=output_activation,
    )


def keras_cell(
    kind: str,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    reset_after: bool = True,
    gate_activation: Activation = SIGMOID,
    activation: Activation = TANH,
) -> Cell:
    """A cell from Keras' arrays: kernels (in, gates*H); bias (gates*H,), or (2, 3*H) for a GRU with reset_after.

    Keras uses ``activation`` twice in an LSTM, for the candidate and for the output.
    """
    bias_hn = None
    if bias is not None and kind == "gru" and reset_after and bias.ndim == 2 and bias.shape[0] == 2:
        bias_hn = np.ascontiguousarray(bias[1, 2 * (bias.shape[1] // 3) :])
        bias = _sum_but_candidate(bias[0], bias[1])
    return Cell(
        kind=kind,
        weight_ih=_reorder("keras", kind, kernel.T),
        weight_hh=_reorder("keras", kind, recurrent_kernel.T),
        bias=None if bias is None else _reorder("keras", kind, bias),
        bias_hn=bias_hn,
        reset_after=reset_after,
        gate_activation=gate_activation,
        activation=activation,
        output_activation=activation,
    )


def keras_cudnn_arrays(
    kind: str, kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plain Keras arrays from those of CuDNNLSTM and CuDNNGRU, (in, gates*H), (H, gates*H) and (2*gates*H,).

    Each gate's block is stored transposed, the input kernel's in Fortran order; there are two biases.
    """
    gates = len(GATES[kind])
    kernel = np.hstack([block.T.reshape(block.shape, order="F") for block in np.hsplit(kernel, gates)])
    recurrent_kernel = np.hstack([block.T for block in np.hsplit(recurrent_kernel, gates)])
    bias = bias.reshape(2, -1)
    return kernel, recurrent_kernel, bias if kind == "gru" else bias.sum(axis=0)


def _reorder(source: str, kind: str, stacked: np.ndarray) -> np.ndarray:
    gates = len(GATES[kind])
    if stacked.ndim == 0 or stacked.shape[0] % gates:
        return stacked
    parts = np.split(stacked, gates, axis=0)
    return np.ascontiguousarray(np.concatenate([parts[p] for p in _ORDER[source, kind]], axis=0))


def _sum_torch_bias(
    kind: str, bias_ih: np.ndarray | None, bias_hh: np.ndarray | None, reset_after: bool
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if bias_hh is None:
        return bias_ih, None
    if bias_ih is None:
        bias_ih = np.zeros_like(bias_hh)
    if bias_ih.shape != bias_hh.shape:
        raise ShapeError(f"bias_hh: expected the shape of bias_ih, {bias_ih.shape}, got {bias_hh.shape}")
    if kind != "gru" or not reset_after:
        return _sum(bias_ih, bias_hh), None
    return _sum_but_candidate(bias_ih, bias_hh), np.ascontiguousarray(bias_hh[2 * (len(bias_hh) // 3) :])


def _sum(bias: np.ndarray, recurrent: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # infinite biases make what they make in the source
        return bias + recurrent


def _sum_but_candidate(bias: np.ndarray, recurrent: np.ndarray) -> np.ndarray:
    """Sum two GRU biases whose last third is the candidate's, leaving that third as the input bias alone."""
    first = 2 * (len(bias) // 3)
    return np.concatenate([_sum(bias[:first], recurrent[:first]), bias[first:]])
