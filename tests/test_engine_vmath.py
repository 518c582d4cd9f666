"""tanh and sigmoid of the float32 kernels against float64, in units of the last place, over the whole line of floats.

Every 1021st float is tried here (a prime, so that the sample meets every kind of mantissa), and every special value.
`python tests/test_engine_vmath.py` tries all 2**32, on each instruction set; it takes ten minutes.
"""

from __future__ import annotations

import numpy as np
import pytest
from nets import bits

from lstm_fast import _engine, reference
from lstm_fast.spec import SIGMOID, TANH, Activation

#: The largest errors found over all floats and instruction sets, 2.606 and 2.402 ulp, rounded up.
BOUND = {"tanh": 2.7, "sigmoid": 2.5}

STRIDE = 1021
SMALLEST_NORMAL = np.float64(np.finfo(np.float32).tiny)

SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38, -1.1754942e-38, 1.1754944e-38]
    + [sign * x for sign in (1, -1) for x in (3.4028235e38, 10, 9.999999, 16.6, 87.33654, 87.33655, 88, 88.00001, 104)],
    np.float32,
)


def floats(start: int, stop: int, step: int = 1) -> np.ndarray:
    """The floats whose bits are ``range(start, stop, step)``."""
    return np.arange(start, stop, step, dtype=np.int64).astype(np.uint32).view(np.float32)


def errors(activation: Activation, x: np.ndarray, isa: str) -> np.ndarray:
    """Ulps between the kernel and float64. A subnormal result may be zero instead, as it is with FTZ."""
    got = _engine.activate(activation, x, isa).astype(np.float64)
    with np.errstate(all="ignore"):
        exact = reference.activate(activation, x.astype(np.float64))
        exponent = np.frexp(np.maximum(np.abs(exact), SMALLEST_NORMAL))[1]
        error = np.abs(got - exact) / np.ldexp(1.0, exponent - 24)
    error[(got == 0) & (np.abs(exact) < SMALLEST_NORMAL)] = 0
    error[np.isnan(got) & np.isnan(exact)] = 0
    error[np.isnan(got) != np.isnan(exact)] = np.inf
    return error


def largest(activation: Activation, isa: str, step: int = 1) -> tuple[float, float]:
    """The largest error over every ``step``-th float, in ulps, and where it is."""
    found = (0.0, 0.0)
    chunk = step << 20
    for start in range(0, 2**32, chunk):
        x = floats(start, min(start + chunk, 2**32), step)
        error = errors(activation, x, isa)
        at = int(np.argmax(error))
        found = max(found, (float(error[at]), float(x[at])))
    return found


@pytest.mark.parametrize("activation", [TANH, SIGMOID], ids=str)
def test_error_over_all_floats(activation, isa):
    error, at = largest(activation, isa, STRIDE)
    assert error <= BOUND[activation.name], f"{error} ulp at {at}"


@pytest.mark.parametrize("activation", [TANH, SIGMOID], ids=str)
def test_special_values(activation, isa):
    assert errors(activation, SPECIAL, isa).max() <= BOUND[activation.name]


def test_limits(isa):
    x = np.array([np.inf, 3e38, 20, -np.inf, -3e38, -20], np.float32)
    assert _engine.activate(TANH, x, isa).tolist() == [1, 1, 1, -1, -1, -1]
    assert _engine.activate(SIGMOID, x, isa)[:5].tolist() == [1, 1, 1, 0, 0]
    assert np.isnan(_engine.activate(TANH, np.full(17, np.nan, np.float32), isa)).all()
    assert np.isnan(_engine.activate(SIGMOID, np.full(17, np.nan, np.float32), isa)).all()


def test_tanh_is_odd_to_the_bit_and_keeps_the_sign_of_zero(isa):
    x = floats(0, 2**31, 65521)
    assert bits(_engine.activate(TANH, -x, isa)) == bits(-_engine.activate(TANH, x, isa))
    zeros = np.array([0.0, -0.0], np.float32)
    assert bits(_engine.activate(TANH, zeros, isa)) == bits(zeros)


def test_neither_leaves_its_range_nor_turns_back(isa):
    x = np.sort(floats(0, 0x7F800000, 4093))
    x = np.concatenate([-x[::-1], x])
    for activation, low in ((TANH, -1), (SIGMOID, 0)):
        y = _engine.activate(activation, x, isa)
        assert y.min() >= low
        assert y.max() <= 1
        slack = np.spacing(np.abs(y[1:]))
        assert (np.diff(y) >= -2 * slack).all()


def test_a_value_does_not_depend_on_its_place(isa):
    """Whole vectors and every length of tail."""
    x = np.linspace(-9, 9, 37, dtype=np.float32)
    for activation in (TANH, SIGMOID, Activation("relu"), Activation("softplus")):
        whole = _engine.activate(activation, x, isa)
        for length in range(37):
            assert bits(_engine.activate(activation, x[:length], isa)) == bits(whole[:length])
            assert bits(_engine.activate(activation, x[length:], isa)) == bits(whole[length:])


if __name__ == "__main__":
    for name in _engine.available()["isas"]:
        for function in (TANH, SIGMOID):
            worst, where = largest(function, name)
            print(f"{name:8} {function!s:8} {worst:.4f} ulp at {where!r}", flush=True)
