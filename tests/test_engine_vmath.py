"""tanh and sigmoid of the float32 kernels: a sample of all floats and every special one, against float64.

``make sweep`` tries all 2**32.
"""

from __future__ import annotations

import numpy as np
import pytest
from nets import bits
from sweep_activations import BOUND, errors, exact, floats, sweep

from lstm_fast import _engine
from lstm_fast.activations import SIGMOID, TANH, Activation

#: A prime, so that the sample meets every kind of mantissa.
STRIDE = 199


def around(values, floats_each_side: int = 20) -> np.ndarray:
    """The floats next to ``values``, and their negatives."""
    places = np.asarray(values, np.float32).view(np.int32)[:, None] + np.arange(-floats_each_side, floats_each_side + 1)
    found = places.ravel().astype(np.int32).view(np.float32)
    return np.concatenate([found, -found])


#: Zeros, infinities, NaN, subnormals; where the kernels go from one reduction to the next or stop, and results get
#: subnormal, reach 1 or vanish.
SPECIAL = np.concatenate(
    [
        np.array([0, np.inf, np.nan, 1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38], np.float32),
        -np.array([0, np.inf, np.nan, 1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38], np.float32),
        around((np.arange(129) + 0.5) * np.log(2)),
        around((np.array([3, 4, 6, 8, 12, 16, 24]) - 2) / 3.25),
        around([9.010913, 9.23, 16.635532, 17.328680, 20, 87.33654, 87.33655, 88, 88.37626, 88.72284, 89, 103.97208]),
    ]
)


@pytest.mark.parametrize("activation", [TANH, SIGMOID], ids=str)
def test_a_sample_of_all_floats_is_within_bounds_and_the_same_wherever_there_is_fma(activation):
    found, differing = sweep(activation, _engine.available()["isas"], STRIDE)
    assert {isa: worst for isa, worst in found.items() if worst.error > BOUND} == {}
    assert differing == 0


@pytest.mark.parametrize("activation", [TANH, SIGMOID], ids=str)
def test_special_values(activation, isa):
    error = errors(_engine.activate(activation, SPECIAL, isa), exact(activation, SPECIAL))
    assert error.max() <= BOUND, f"{error.max()} ulp at {SPECIAL[np.argmax(error)]!r}"


@pytest.mark.parametrize("activation", [TANH, SIGMOID], ids=str)
def test_special_values_have_the_same_bits_wherever_there_is_fma(activation):
    fused = [isa for isa in _engine.available()["isas"] if isa != "generic"]
    assert len({str(bits(_engine.activate(activation, SPECIAL, isa))) for isa in fused}) <= 1


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
