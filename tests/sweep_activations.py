"""tanh and sigmoid of the float32 kernels against float64, over all 2**32 floats, on every instruction set here.

    make sweep                                       all floats
    python tests/sweep_activations.py --stride 101   every 101st: seconds

Prints the largest error of each, in units of the last place, and whether the instruction sets with FMA gave the same
bits. Exit status 1 where an error is over 2 or bits differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lstm_fast import _engine, reference
from lstm_fast.activations import SIGMOID, TANH, Activation

#: What is promised, in ulps.
BOUND = 2.0

CHUNK = 1 << 20
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
EXPONENT_BITS = np.int64(0x7FF << 52)


class Found(NamedTuple):
    """The largest error of one instruction set and the float it came from."""

    error: float
    at: float


def floats(start: int, stop: int, step: int = 1) -> np.ndarray:
    """The floats whose bits are ``range(start, stop, step)``."""
    return np.arange(start, stop, step, dtype=np.int64).astype(np.uint32).view(np.float32)


def exact(activation: Activation, x: np.ndarray) -> np.ndarray:
    """The activation in float64."""
    with np.errstate(all="ignore"):
        return reference.activate(activation, x.astype(np.float64))


def errors(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Float32 ulps between the two. A subnormal result may be zero instead, as it is with FTZ; NaN must meet NaN."""
    got = got.astype(np.float64)
    size = np.maximum(np.abs(expected), SMALLEST_NORMAL)
    ulp = ((size.view(np.int64) & EXPONENT_BITS) - (23 << 52)).view(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(got - expected) / ulp
    error[(got == 0) & (np.abs(expected) < SMALLEST_NORMAL)] = 0
    absent = np.isnan(expected)
    error[absent] = 0
    error[absent != np.isnan(got)] = np.inf
    return error


def sweep(
    activation: Activation, isas: list[str], stride: int = 1, watch: Callable[[Iterable], Iterable] = iter
) -> tuple[dict[str, Found], int]:
    """Try every ``stride``-th float on each of ``isas``.

    Args:
        watch: wraps the iteration over chunks, to show progress.

    Returns:
        What was found on each instruction set, and for how many floats those with FMA differed in any bit.
    """
    found = dict.fromkeys(isas, Found(0.0, 0.0))
    differing = 0
    for start in watch(range(0, 2**32, CHUNK * stride)):
        x = floats(start, min(start + CHUNK * stride, 2**32), stride)
        expected = exact(activation, x)
        results = {isa: _engine.activate(activation, x, isa) for isa in isas}
        for isa, got in results.items():
            error = errors(got, expected)
            at = int(np.argmax(error))
            found[isa] = max(found[isa], Found(float(error[at]), float(x[at])))
        fused = [got.view(np.uint32) for isa, got in results.items() if isa != "generic"]
        differing += sum(int(np.count_nonzero(a != b)) for a, b in pairwise(fused))
    return found, differing


def main() -> int:
    parser = argparse.ArgumentParser(description="tanh and sigmoid against float64 over all floats")
    parser.add_argument("--stride", type=int, default=1, help="try every n-th float (default: all)")
    stride = parser.parse_args().stride
    if stride < 1:
        parser.error(f"--stride: expected at least 1, got {stride}")
    isas = _engine.available()["isas"]
    failed = False
    print(f"{'':8} {'':8} {'largest error':>14}  at")
    for activation in (TANH, SIGMOID):
        watch = partial(tqdm, desc=activation.name, unit="chunk", disable=None, leave=False)
        found, differing = sweep(activation, isas, stride, watch)
        for isa, (error, at) in found.items():
            print(f"{activation.name:8} {isa:8} {error:10.4f} ulp  {at!r} ({at.hex()})", flush=True)
        print(f"{activation.name:8} with FMA: {f'{differing} results differ' if differing else 'the same bits'}")
        failed |= differing > 0 or max(found.values()).error > BOUND
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
