"""Raw arrays in PyTorch's layout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..activations import ACTIVATIONS, SIGMOID, TANH, Activation
from ..arrays import as_array
from ..errors import DTypeError, ShapeError, UnsupportedModelError, all_faults
from ..spec import GATES, ModelSpec
from . import _torch_stack
from ._torch_kinds import named_activation

#: One array, or a list or tuple of one array per layer and direction in PyTorch's order, layers outermost.
Arrays = Any


def torch_arrays(
    kind: str,
    weight_ih: Arrays,
    weight_hh: Arrays,
    bias_ih: Arrays | None = None,
    bias_hh: Arrays | None = None,
    weight_hr: Arrays | None = None,
    *,
    bidirectional: bool = False,
    reverse: bool = False,
    batch_first: bool = True,
    return_sequences: bool = True,
    reset_after: bool = True,
    gate_activation: str | Activation = SIGMOID,
    activation: str | Activation = TANH,
    output_activation: str | Activation = TANH,
) -> ModelSpec:
    """A recurrent stack from arrays laid out and ordered as PyTorch's parameters.

    Args:
        kind: "lstm", "gru" or "rnn", with gates i, f, g, o; r, z, n; or one.
        weight_ih, weight_hh: (gates * hidden_size, inputs) and (gates * hidden_size, proj_size or hidden_size).
        bias_ih, bias_hh: (gates * hidden_size,); where one is None it is zero.
        weight_hr: (proj_size, hidden_size), LSTM only. Each of these five is one array, or for several layers or
            directions a list of arrays, layers outermost.
        bidirectional: the arrays of a layer's backward direction follow those of its forward one.
        reverse: run a single direction backwards in time.
        batch_first, return_sequences: layout of ``x`` and ``y``; False returns the last output only.
        reset_after: GRU only; False applies the reset gate before the recurrent product (Cho et al. 2014), and then
            both biases are summed.
        gate_activation, activation, output_activation: names in :data:`lstm_fast.activations.ACTIVATIONS`, or
            Activation where parameters are needed; for gates (LSTM and GRU), candidate, and output (LSTM).

    Raises:
        ShapeError: with every fault in the shapes. DTypeError: arrays that are not floating point.
    """
    if kind not in GATES:
        raise ValueError(f"kind: expected one of {', '.join(GATES)}, got {kind!r}")
    given = {
        "weight_ih": weight_ih,
        "weight_hh": weight_hh,
        "bias_ih": bias_ih,
        "bias_hh": bias_hh,
        "weight_hr": weight_hr,
    }
    arrays = _named(given, bidirectional)
    where = {name: name for name in arrays}
    _add_zeros(arrays, where)
    stack, faults = _torch_stack.analyse({name: value.shape for name, value in arrays.items()}, where, kind)
    if stack is None or faults:
        raise ShapeError(all_faults(faults, "the arrays"))
    layer = _torch_stack.build(
        kind,
        stack,
        arrays,
        reset_after=reset_after,
        gate_activation=_activation(gate_activation),
        activation=_activation(activation),
        output_activation=_activation(output_activation),
    )
    layer = replace(layer, reverse=reverse, return_sequences=return_sequences)
    origins = _torch_stack.provenance(kind, stack, where)
    return ModelSpec((layer,), batch_first=batch_first, provenance=tuple(origins)).validate(ShapeError)


def _named(given: dict[str, Arrays], bidirectional: bool) -> dict[str, np.ndarray]:
    """The arrays as floats of one dtype, under PyTorch's names; copies, for the model outlives the caller's arrays."""
    for part in ("weight_ih", "weight_hh"):
        if given[part] is None:
            raise ShapeError(f"{part}: expected an array, got None")
    directions = ("", "_reverse") if bidirectional else ("",)
    counts = {part: len(value) if isinstance(value, list | tuple) else 1 for part, value in given.items()}
    count = counts["weight_ih"]
    if count == 0 or count % len(directions):
        raise ShapeError(f"weight_ih: expected {len(directions)} arrays per layer, got {count} in all")
    arrays = {}
    for part, value in given.items():
        if value is None:
            continue
        if counts[part] != count:
            raise ShapeError(f"{part}: expected {count} arrays as in weight_ih, got {counts[part]}")
        for index, item in enumerate(value if isinstance(value, list | tuple) else [value]):
            name = f"{part}_l{index // len(directions)}{directions[index % len(directions)]}"
            array = as_array(item, name)
            if array.dtype not in (np.float16, np.float32, np.float64):
                raise DTypeError(f"{name}: expected dtype float16, float32 or float64, got {array.dtype}")
            arrays[name] = array
    dtype = np.float64 if any(array.dtype == np.float64 for array in arrays.values()) else np.float32
    return {name: array.astype(dtype, order="C") for name, array in arrays.items()}


def _add_zeros(arrays: dict[str, np.ndarray], where: dict[str, str]) -> None:
    """PyTorch has both biases or neither; the one not given is zero."""
    for name in list(arrays):
        part, _, suffix = name.rpartition("_l")
        other = {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}.get(part)
        if other and f"{other}_l{suffix}" not in arrays:
            weight = arrays[f"weight_ih_l{suffix}"]
            arrays[f"{other}_l{suffix}"] = np.zeros(weight.shape[:1], weight.dtype)
            where[f"{other}_l{suffix}"] = "zeros"


def _activation(value: str | Activation) -> Activation:
    if isinstance(value, Activation):
        return value
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ValueError(f"unknown activation {value!r}; known: {', '.join(ACTIVATIONS)}")
    try:
        return named_activation(value)
    except UnsupportedModelError:
        raise ValueError(
            f"{value} takes {', '.join(ACTIVATIONS[value])}: give lstm_fast.Activation({value!r}, ...)"
        ) from None
