"""What callers pass, as plain NumPy arrays the engine can read in place; refused with a message where it cannot be.

Accepted: NumPy arrays, anything with ``__dlpack__`` (PyTorch, JAX, ... on the CPU) and anything that NumPy can view
or build an array from. Results have native byte order, are aligned, and have contiguous features.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .errors import DTypeError, ShapeError

#: What is read as features or states, in either byte order; none is wider than what a network can compute in.
_FLOATS = (np.float16, np.float32, np.float64)


def as_array(value: Any, name: str) -> np.ndarray:
    """``value`` as an ndarray, without a copy where that can be."""
    masked = sys.modules.get("numpy.ma")  # where nobody has imported it, there is no masked array
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise DTypeError(f"{name}: a masked array's mask would be ignored; pass lengths=, or fill it first")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        ragged = "inhomogeneous" in str(error)  # NumPy has no class of its own for this
        reason = "its parts differ in shape" if ragged else error
        advice = "pad sequences to one length and pass lengths=" if ragged else "pass a NumPy array"
        raise DTypeError(f"{name}: cannot be read as an array ({reason}); {advice}") from error


def as_real(value: Any, dtype: np.dtype, name: str) -> np.ndarray:
    """Floating-point input in the network's ``dtype``, its last axis contiguous."""
    array = as_array(value, name)
    if array.dtype.type not in _FLOATS:
        raise DTypeError(
            f"{name}: expected dtype float16, float32 or float64, got {array.dtype} ({type(value).__name__});"
            f" if it holds real numbers, pass np.asarray({name.split()[0]}, np.float32)"
        )
    contiguous = array.ndim == 0 or array.shape[-1] <= 1 or array.strides[-1] == array.itemsize
    if array.dtype == dtype and array.flags.aligned and contiguous:
        return array
    with np.errstate(over="ignore"):  # what exceeds float32 becomes infinite, as in any framework, without a word
        return np.ascontiguousarray(array, dtype)


def single(value: float) -> float:
    """``value`` as a float32 holds it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def as_ids(value: Any, name: str) -> np.ndarray:
    """Integer ids as int64."""
    array = as_array(value, name)
    if not _holds_integers(array):
        raise DTypeError(f"{name}: the network starts with an embedding and takes integers, got dtype {array.dtype}")
    return np.require(array, np.int64, "A") if array.dtype != np.int64 or not array.flags.aligned else array


def as_lengths(value: Any, batch: int, time: int) -> np.ndarray:
    """Valid steps of each row as contiguous int64, each in 0 .. time."""
    array = as_array(value, "lengths")
    if not _holds_integers(array):
        raise DTypeError(f"lengths: expected integers, got dtype {array.dtype}")
    if array.shape != (batch,):
        raise ShapeError(f"lengths: expected shape ({batch},), one length per sequence, got {array.shape}")
    outside = np.flatnonzero((array < 0) | (array > time))
    if outside.size:
        at = outside[0]
        raise ShapeError(f"lengths[{at}]: expected 0 .. {time}, the steps in x, got {array[at]}")
    return np.ascontiguousarray(array, np.int64)


def _holds_integers(array: np.ndarray) -> bool:
    """Whether it can be read as integers: an empty one of floats can, for that is what NumPy makes of an empty list."""
    return array.dtype.kind in "iu" or (array.dtype.kind == "f" and array.size == 0)


def usable_output(out: Any, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether ``out`` is laid out as the engine writes; where it is not, results can be copied into it.

    Raises:
        DTypeError, ShapeError: no result can be put there.
    """
    if type(out) is not np.ndarray or out.dtype != dtype:
        raise DTypeError(f"out: expected a NumPy array of dtype {dtype}, got {describe(out)}")
    if out.shape != shape:
        raise ShapeError(f"out: expected shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ShapeError("out: the array is read-only; pass a writeable one")
    if _overlaps_itself(out):
        raise ShapeError("out: its elements overlap in memory; pass an array with a place for each output")
    contiguous = out.strides[-1] == out.itemsize or out.shape[-1] <= 1
    return out.flags.aligned and contiguous


def _overlaps_itself(array: np.ndarray) -> bool:
    """Whether some axis steps by less than the axes below it span."""
    span = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True)):
        if length > 1 and stride < span:
            return array.size > 0
        span += stride * (length - 1)
    return False


def describe(value: Any) -> str:
    """A value in an error message: its type, and shape and dtype where it has them."""
    words = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{words} of shape {tuple(value.shape)} and dtype {value.dtype}"
    return f"{words} of {len(value)}" if isinstance(value, tuple | list) else words
