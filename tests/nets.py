"""What the tests of the engine share: random inputs and states, comparison with the reference, comparison of bits."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import product

import numpy as np

from lstm_fast import Model, _engine, reference
from lstm_fast.check import difference
from lstm_fast.spec import ModelSpec, Recurrent

#: Where kernels change their ways: around vectors of 2, 4, 8 and 16 lanes, pairs of them, folded panels, narrow inputs.
EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 20, 21, 24, 25, 31, 32, 33, 40, 47, 48, 49)


def every_engine() -> list[dict[str, str]]:
    """Loader options for each instruction set and backend that this build and this CPU offer."""
    found = _engine.available()
    return [{"isa": isa, "backend": backend} for isa, backend in product(found["isas"], found["backends"])]


def network(*layers, **options) -> ModelSpec:
    """A ModelSpec of ``layers``, recurrent weights scaled as PyTorch does, so that no size explodes or saturates."""
    return ModelSpec(tuple(_tamed(layer) if isinstance(layer, Recurrent) else layer for layer in layers), **options)


def _tamed(stack: Recurrent) -> Recurrent:
    """Weights in +-1/2 become weights in +-1/sqrt(hidden_size) where that is less."""

    def tamed(cell):
        factor = min(1, 2 / np.sqrt(cell.hidden_size))
        return replace(
            cell, **{name: (value.astype(np.float64) * factor).astype(value.dtype) for name, value in cell.tensors()}
        )

    return replace(stack, layers=tuple(tuple(tamed(cell) for cell in directions) for directions in stack.layers))


def inputs(spec: ModelSpec, batch: int, time: int, seed: int = 0, dtype=np.float32) -> np.ndarray:
    """Random x for ``spec``, (batch, time[, features]), or time first where the spec says so."""
    rng = np.random.default_rng(seed)
    shape = (batch, time) if spec.batch_first else (time, batch)
    if spec.takes_ids:
        return rng.integers(0, len(spec.layers[0].weight), shape)
    return rng.standard_normal((*shape, spec.input_size)).astype(dtype)


def random_state(spec: ModelSpec, batch: int, seed: int = 1, dtype=np.float32):
    """A random initial state as callers pass it."""
    rng = np.random.default_rng(seed)
    states = []
    for stack in spec.recurrent:
        cell, cells = stack.layers[0][0], len(stack.layers) * stack.num_directions
        h = rng.uniform(-1, 1, (cells, batch, cell.output_size)).astype(dtype)
        c = rng.uniform(-1, 1, (cells, batch, cell.hidden_size)).astype(dtype)
        states.append((h, c) if stack.kind == "lstm" else h)
    return states[0] if len(states) == 1 else tuple(states)


def disagreement(model: Model, x: np.ndarray, state=None, *, lengths=None) -> float:
    """The largest difference to the float64 reference in y and every final state; see ``lstm_fast.check``."""
    spec = model.spec
    several = len(spec.recurrent) != 1
    swap = not spec.batch_first
    states = None if state is None else list(state) if several else [state]
    with np.errstate(all="ignore"):
        expected, final = reference.forward(spec, x.swapaxes(0, 1) if swap else x, states, lengths=lengths)
    if swap and spec.returns_sequences:
        expected = expected.swapaxes(0, 1)
    y, got = model.forward_sequence(x, state, lengths=lengths)
    pairs = zip(arrays((y, got)), arrays((expected, tuple(final) if several else final[0])), strict=True)
    return max(difference(ours, theirs) for ours, theirs in pairs)


def arrays(value) -> list[np.ndarray]:
    """The arrays in nested tuples, in order."""
    if isinstance(value, tuple | list):
        return [array for item in value for array in arrays(item)]
    return [value]


def bits(value) -> list[tuple]:
    """What tells nested tuples of arrays apart, to the last bit, and is short when a test fails."""
    return [(str(a.dtype), a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for a in arrays(value)]


def zeros(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def rows_of(state, rows):
    """``rows`` of the batch of a state."""
    return tuple(rows_of(item, rows) for item in state) if isinstance(state, tuple) else state[:, rows]
