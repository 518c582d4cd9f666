"""``out=``: what cannot take the result is refused; what shares memory with the input gets the right result."""

from __future__ import annotations

import numpy as np
import pytest
from nets import bits, inputs, network, random_state, zeros
from refusal import refused
from specs import stack

from lstm_fast import Model
from lstm_fast.errors import DTypeError, ShapeError

LSTM = network(stack("lstm", 3, 4, name="encoder"))


@pytest.fixture
def model():
    return Model(LSTM)


def test_out_of_another_kind(model):
    x = inputs(LSTM, 2, 5)
    for out in ([0.0], np.ma.zeros((2, 5, 4), np.float32), memoryview(zeros(2, 5, 4)), np.float32(0)):
        refused(model, DTypeError, ["out", "float32", type(out).__name__], x, out=out)
    for dtype in ("float64", "int32", ">f4"):
        refused(model, DTypeError, ["out", "float32", str(np.dtype(dtype))], x, out=zeros(2, 5, 4, dtype=dtype))
    for shape in ((2, 5, 3), (5, 2, 4), (5, 4), (2, 5, 4, 1), ()):
        refused(model, ShapeError, ["out", "(2, 5, 4)", str(shape)], x, out=zeros(*shape))


def test_out_that_is_read_only(model):
    out = zeros(2, 5, 4)
    out.flags.writeable = False
    refused(model, ValueError, ["out", "read-only"], inputs(LSTM, 2, 5), out=out)
    assert not out.any()


def test_out_whose_elements_share_memory(model):
    """Two outputs cannot lie in one place."""
    x = inputs(LSTM, 2, 5)
    strided = np.lib.stride_tricks.as_strided
    memory = zeros(200)
    for strides in ((0, 16, 4), (80, 0, 4), (80, 16, 0), (80, 8, 4), (16, 16, 4), (4, 16, 4), (-80, 8, 4)):
        out = strided(memory[100:], (2, 5, 4), strides)
        refused(model, ValueError, ["out", "overlap"], x, out=out)
    assert not memory.any()


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_out_that_overlaps_the_input(kind, engine_options):
    """As many features come out as go in, so that each of these is a natural thing to try."""
    spec = network(stack(kind, 4, 4))
    model = Model(spec, **engine_options)
    x, state = inputs(spec, 3, 6), random_state(spec, 3)
    expected = bits(model.forward_sequence(x, state)[0])
    same = x.copy()
    assert bits(model.forward_sequence(same, state, out=same)[0]) == expected
    memory = zeros(3 * 6 * 4 + 9)
    for shift in (1, 4, 9):
        own = memory[: x.size].reshape(x.shape)
        own[...] = x
        out = memory[shift : shift + x.size].reshape(x.shape)
        assert bits(model.forward_sequence(own, state, out=out)[0]) == expected
    own = x[::-1].copy()[::-1]
    assert bits(model.forward_sequence(own, state, out=own[::-1])[0]) == expected


def test_out_that_overlaps_the_state_or_the_lengths(engine_options):
    spec = network(stack("lstm", 3, 4))
    model = Model(spec, **engine_options)
    x, (h, c) = inputs(spec, 300, 1), random_state(spec, 300)
    expected = bits(model.forward_sequence(x, (h, c)))
    for which in (0, 1):
        state = [h.copy(), c.copy()]
        out = state[which].reshape(300, 1, 4)
        assert bits(model.forward_sequence(x, tuple(state), out=out)) == expected
    out = zeros(300, 1, 4)
    lengths = out.view(np.int64).reshape(-1)[:300]
    lengths[:] = np.arange(300) % 2
    expected = bits(model.forward_sequence(x, lengths=lengths.copy()))
    assert bits(model.forward_sequence(x, lengths=lengths, out=out)) == expected


def test_out_between_the_features_of_x(engine_options):
    """One array holds both, and no element belongs to the two of them."""
    model = Model(LSTM, **engine_options)
    memory = zeros(2, 5, 8)
    x, out = memory[..., :3], memory[..., 4:]
    x[...] = inputs(LSTM, 2, 5)
    kept = bits(x)
    expected = bits(model.forward_sequence(x.copy()))
    y, state = model.forward_sequence(x, out=out)
    assert y is out
    assert bits((y, state)) == expected
    assert bits(x) == kept
    assert not memory[..., 3].any()
