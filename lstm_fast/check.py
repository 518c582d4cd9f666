"""Deterministic inputs, and the measure by which two outputs agree.

A native file records one such input with the float64 reference's output; ``lstm-fast verify`` replays it and runs
fresh ones.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from .arrays import single
from .spec import Embedding, Masking, ModelSpec

#: Rows and steps of a recorded input: two ragged rows, small beside any model.
RECORDED_BATCH, RECORDED_TIME = 2, 5


@dataclass(frozen=True, eq=False)
class Check:
    """An input and the output it must give.

    ``x`` is (batch, time, features) float32, or (batch, time) int64 ids, whatever ``batch_first`` says; ``lengths``
    is (batch,) int64; ``y`` is (batch, time, features) or (batch, features), float32.
    """

    x: np.ndarray
    lengths: np.ndarray
    y: np.ndarray


def record(spec: ModelSpec) -> Check:
    """The check that belongs in ``spec``'s file.

    The output is the float64 reference's, rounded to float32, so that the last bits of one machine's BLAS and
    libm do not reach the file; every NaN is the same NaN.
    """
    x, lengths = probe(spec, RECORDED_BATCH, RECORDED_TIME, "recorded")
    with np.errstate(over="ignore"):
        y = expected_output(spec, x, lengths).astype(np.float32)
    y[np.isnan(y)] = np.nan
    return Check(x, lengths, y)


def probe(spec: ModelSpec, batch: int, time: int, label: str) -> tuple[np.ndarray, np.ndarray]:
    """An input for ``spec`` and its lengths, the same on every machine and for every version of NumPy.

    Features are multiples of 2**-15 in [-1, 1), taken from SHAKE-256 of ``label``; ids cover the vocabulary evenly.
    The first row is whole, later ones shorter; every fourth step is masked where the first layer masks.
    """
    lengths = np.array([max(time - 2 * row, 1) for row in range(batch)], np.int64)
    first = spec.layers[0]
    if isinstance(first, Embedding):
        x = (_noise(batch * time, label, 8) % np.uint64(spec.vocabulary)).astype(np.int64).reshape(batch, time)
        if first.mask_zero:
            x[:, 1::4] = 0
        return x, lengths
    size = spec.input_size
    noise = _noise(batch * time * size, label, 2).astype(np.float32)
    x = (noise / np.float32(2**15) - np.float32(1)).reshape(batch, time, size)
    if isinstance(first, Masking) and single(first.mask_value) == first.mask_value:  # else float64 may never equal it
        x[:, 1::4] = first.mask_value
    return x, lengths


def expected_output(spec: ModelSpec, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The float64 reference's output; infinities and NaNs are results like any other."""
    from . import reference

    with np.errstate(all="ignore"):
        return reference.forward(spec, x, lengths=lengths)[0]


def difference(y: np.ndarray, expected: np.ndarray) -> float:
    """The largest ``|y - expected| / max(1, |expected|)``; infinite where shapes, infinities or NaNs differ."""
    if y.shape != expected.shape:
        return math.inf
    y, expected = y.astype(np.float64), expected.astype(np.float64)
    same = (y == expected) | (np.isnan(y) & np.isnan(expected))
    if same.all():
        return 0.0
    y, expected = y[~same], expected[~same]
    if not (np.isfinite(y).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.max(np.abs(y - expected) / np.maximum(1, np.abs(expected))))


def _noise(count: int, label: str, width: int) -> np.ndarray:
    """``count`` unsigned little-endian integers of ``width`` bytes."""
    stream = hashlib.shake_256(f"lstm_fast {label}".encode()).digest(count * width)
    return np.frombuffer(stream, np.dtype(f"<u{width}"))
