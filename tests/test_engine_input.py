"""Wrong input is refused by what was expected and what came, and changes nothing; odd but right input is right."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from nets import bits, inputs, network, random_state, zeros
from refusal import refused
from specs import dense, embedding, stack

from lstm_fast import Model
from lstm_fast.errors import DTypeError, IndexRangeError, ShapeError, StateError
from lstm_fast.spec import Dense, Masking, ModelSpec, Softmax

LSTM = network(stack("lstm", 3, 4, name="encoder"))
GRU = network(stack("gru", 3, 4))
TEXT = network(embedding(7, 3), stack("gru"))
DEEP = network(stack("lstm", 3, 4, name="first"), stack("gru", 4, 2, name="second"))


@pytest.fixture
def model():
    return Model(LSTM)


#: Floats beside the native ones.
OTHER_FLOATS = ("float16", ">f2", ">f4", ">f8")


@pytest.mark.parametrize("dtype", ["int32", ">i4", "uint8", "bool", "complex64", "longdouble", "S4", "object", "M8[s]"])
def test_x_of_another_dtype(model, dtype):
    x = np.zeros((2, 5, 3), dtype)
    refused(model, DTypeError, ["x", "float32", str(x.dtype), "pass np.asarray(x, np.float32)"], x)


@pytest.mark.parametrize("dtype", OTHER_FLOATS)
def test_floats_of_every_kind(dtype):
    """Half precision and the other byte order; what is widened or swapped loses nothing."""
    for spec in (LSTM, GRU):
        for precision in ("float32", "float64"):
            model = Model(spec, dtype=precision)
            x, state = inputs(spec, 2, 5).astype(dtype), random_state(spec, 2)
            state = tuple(s.astype(dtype) for s in state) if isinstance(state, tuple) else state.astype(dtype)
            native = tuple(s.astype(precision) for s in state) if isinstance(state, tuple) else state.astype(precision)
            expected = bits(model.forward_sequence(x.astype(precision), native))
            assert bits(model.forward_sequence(x, state)) == expected
            assert bits(model.forward_sequence(x[:, ::-1][:, ::-1], state)) == expected


def test_x_that_is_no_array(model):
    for x in (None, "text", {"a": 1}, object(), [[1.0], [2.0, 3.0]], 1 + 2j):
        with pytest.raises(DTypeError, match="x: "):
            model.forward_sequence(x)
    refused(model, DTypeError, ["x", "float32", "(NoneType)"], None)
    refused(model, DTypeError, ["x", "float32", "(str)"], "text")


def test_sequences_of_several_lengths(model):
    words = ["x", "its parts differ in shape", "pad sequences to one length and pass lengths="]
    refused(model, DTypeError, words, [[[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]] * 2])
    refused(model, DTypeError, words, [zeros(5, 3), zeros(4, 3)])
    refused(Model(TEXT), DTypeError, words, [[1, 2], [3]])


def test_an_empty_list(model):
    """NumPy makes floats of it, which says nothing of what was meant."""
    refused(model, ShapeError, ["x", "(batch, time, 3)", "(1, 0)"], [[]])
    y, _ = Model(TEXT).forward_sequence([[]])
    assert y.shape == (1, 0, 4)
    refused(Model(TEXT), DTypeError, ["x", "integers", "<U1"], np.zeros((1, 0), "U1"))


def test_a_structured_dtype(model):
    refused(model, DTypeError, ["x", "float32"], np.zeros((2, 5), [("a", "f4"), ("b", "f4")]))


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 4), (5, 2), (1, 2, 5, 3), (2, 5, 0), (2, 3, 5)])
def test_x_of_another_shape(model, shape):
    refused(model, ShapeError, ["x", "(batch, time, 3)", "(time, 3)", str(shape)], np.zeros(shape, np.float32))


def test_the_layout_in_the_message_is_the_models():
    model = Model(replace(LSTM, batch_first=False))
    refused(model, ShapeError, ["(time, batch, 3)", "(2, 5, 4)"], np.zeros((2, 5, 4), np.float32))


def test_a_masked_array(model):
    x = inputs(LSTM, 2, 5)
    refused(model, DTypeError, ["x", "masked array", "lengths="], np.ma.masked_invalid(x))
    refused(model, DTypeError, ["lengths", "masked array"], x, lengths=np.ma.masked_equal([5, 4], 4))
    h = np.ma.masked_invalid(np.zeros((1, 2, 4), np.float32))
    refused(model, DTypeError, ["state[0] (h)", "masked array"], x, (h, h))


@pytest.mark.parametrize("lengths", [[5.0, 4.0], [True, False], ["5", "4"], [None, 1]])
def test_lengths_of_another_dtype(model, lengths):
    refused(
        model, DTypeError, ["lengths", "integers", str(np.asarray(lengths).dtype)], inputs(LSTM, 2, 5), lengths=lengths
    )


@pytest.mark.parametrize(("lengths", "index"), [([5, -1], 1), ([6, 5], 0), ([5, 2**40], 1), ([-(2**63), 9], 0)])
def test_lengths_out_of_range(model, lengths, index):
    words = [f"lengths[{index}]", "0 .. 5", str(lengths[index])]
    refused(model, ShapeError, words, inputs(LSTM, 2, 5), lengths=lengths)


def test_lengths_out_of_range_without_a_sign(model):
    lengths = np.array([1, 2**64 - 1], np.uint64)
    refused(model, ShapeError, ["lengths[1]", "0 .. 5", str(2**64 - 1)], inputs(LSTM, 2, 5), lengths=lengths)


@pytest.mark.parametrize("lengths", [[5], [5, 5, 5], [[5, 5]], 5, []])
def test_lengths_of_another_shape(model, lengths):
    lengths = np.array(lengths, np.int64)
    refused(model, ShapeError, ["lengths", "(2,)", str(lengths.shape)], inputs(LSTM, 2, 5), lengths=lengths)


def test_lengths_of_every_integer_kind(model):
    x = inputs(LSTM, 2, 5)
    expected = bits(model.forward_sequence(x, lengths=np.array([5, 3])))
    for dtype in ("int8", "uint8", "int32", "uint64", ">i4", ">i8"):
        assert bits(model.forward_sequence(x, lengths=np.array([5, 3], dtype))) == expected
    assert bits(model.forward_sequence(x, lengths=[5, 3])) == expected
    assert bits(model.forward_sequence(x, lengths=np.array([5, 0, 3])[::2])) == expected


def test_the_length_of_an_unbatched_sequence(model):
    x = inputs(LSTM, 1, 5)
    expected = bits(model.forward_sequence(x, lengths=[3])[0][0])
    assert bits(model.forward_sequence(x[0], lengths=3)[0]) == expected
    assert bits(model.forward_sequence(x[0], lengths=[3])[0]) == expected
    refused(model, ShapeError, ["lengths[0]", "0 .. 5", "6"], x[0], lengths=6)


@pytest.mark.parametrize("bad", [-1, 7, 2**40, -(2**63)])
def test_ids_outside_the_table(bad):
    model = Model(TEXT)
    ids = inputs(TEXT, 2, 5)
    ids[1, 3] = bad
    refused(model, IndexRangeError, ["sequence 1", "step 3", "7 rows"], ids)
    with pytest.raises(IndexError):
        model.forward_sequence(ids)
    out = np.full((2, 5, 4), 7, np.float32)
    refused(model, ShapeError, [], ids, out=out)
    assert (out == 7).all()


def test_ids_outside_the_table_in_padding_are_refused_as_well():
    """What is past a row's length is looked at, so that it cannot depend on the lengths whether a call is right."""
    ids = inputs(TEXT, 1, 4)
    ids[0, 3] = 99
    refused(Model(TEXT), IndexRangeError, ["sequence 0", "step 3"], ids, lengths=[2])


def test_ids_without_a_sign():
    ids = np.array([[1, 2**64 - 1]], np.uint64)
    refused(Model(TEXT), IndexRangeError, ["step 1"], ids)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "U1", "object"])
def test_ids_of_another_dtype(dtype):
    refused(Model(TEXT), DTypeError, ["x", "integers", dtype], np.zeros((2, 5), dtype))


@pytest.mark.parametrize("shape", [(), (2, 5, 1)])
def test_ids_of_another_shape(shape):
    refused(Model(TEXT), ShapeError, ["(batch, time)", "(time,)", str(shape)], np.zeros(shape, np.int64))


def test_ids_of_every_integer_kind():
    model = Model(TEXT)
    ids = inputs(TEXT, 2, 5)
    expected = bits(model.forward_sequence(ids))
    for dtype in ("int8", "uint8", "int16", "int32", "uint64", ">i8", ">i2"):
        assert bits(model.forward_sequence(ids.astype(dtype))) == expected
    assert bits(model.forward_sequence(ids.tolist())) == expected


@pytest.mark.parametrize(
    "state",
    [zeros(1, 2, 4), (zeros(1, 2, 4),), (zeros(1, 2, 4),) * 3, "hc", 0, {"h": zeros(1, 2, 4)}],
    ids=["h alone", "one", "three", "text", "number", "dict"],
)
def test_state_of_another_structure(model, state):
    refused(model, StateError, ["state", "(h, c)", "encoder", type(state).__name__], inputs(LSTM, 2, 5), state)


def test_state_of_another_structure_where_there_are_several():
    model = Model(DEEP)
    h, c = zeros(1, 2, 4), zeros(1, 2, 4)
    x = inputs(DEEP, 2, 5)
    refused(model, StateError, ["tuple of 2", "first, second", "tuple of 3"], x, ((h, c), zeros(1, 2, 2), None))
    refused(model, StateError, ["state[0]", "(h, c)", "ndarray"], x, (h, zeros(1, 2, 2)))
    refused(model, ShapeError, ["state[1] (h)", "(1, 2, 2)", "(1, 2, 3)"], x, ((h, c), zeros(1, 2, 3)))
    refused(model, DTypeError, ["state[1] (h)"], x, ((h, c), (zeros(1, 2, 2), zeros(1, 2, 2)[0, 0, :1])))
    assert bits(model.forward_sequence(x, (None, None))) == bits(model.forward_sequence(x))
    assert bits(model.forward_sequence(x, [[h, c], None])) == bits(model.forward_sequence(x))


@pytest.mark.parametrize("shape", [(), (2, 4), (1, 3, 4), (2, 2, 4), (1, 2, 5), (2, 1, 4), (1, 2, 4, 1)])
def test_state_of_another_shape(model, shape):
    x, good, bad = inputs(LSTM, 2, 5), zeros(1, 2, 4), zeros(*shape)
    refused(model, ShapeError, ["state[0] (h)", "(1, 2, 4)", str(shape)], x, (bad, good))
    refused(model, ShapeError, ["state[1] (c)", "(1, 2, 4)", str(shape)], x, (good, bad))
    refused(Model(GRU), ShapeError, ["state (h)", "(1, 2, 4)", str(shape)], x, bad)


@pytest.mark.parametrize("dtype", ["int64", "bool", "object"])
def test_state_of_another_dtype(model, dtype):
    x, good, bad = inputs(LSTM, 2, 5), zeros(1, 2, 4), zeros(1, 2, 4, dtype=dtype)
    words = ["state[1] (c)", "float32", str(bad.dtype), "pass np.asarray(state[1], np.float32)"]
    refused(model, DTypeError, words, x, (good, bad))


def test_state_in_the_other_precision(model):
    x, state = inputs(LSTM, 2, 5), random_state(LSTM, 2)
    wide = tuple(part.astype(np.float64) for part in state)
    assert bits(model.forward_sequence(x, wide)) == bits(model.forward_sequence(x, state))
    assert bits(model.forward_sequence(x, list(state))) == bits(model.forward_sequence(x, state))


def test_the_state_of_an_unbatched_sequence(model):
    x, (h, c) = inputs(LSTM, 1, 5), random_state(LSTM, 1)
    y, (h_n, c_n) = model.forward_sequence(x[0], (h[:, 0], c[:, 0]))
    batched, (h_b, c_b) = model.forward_sequence(x, (h, c))
    assert bits((y, h_n, c_n)) == bits((batched[0], h_b[:, 0], c_b[:, 0]))
    refused(model, ShapeError, ["state[0] (h)", "(1, 4)", "(1, 1, 4)"], x[0], (h, c))


def test_a_network_without_a_state():
    model = Model(network(dense(3, 4)))
    y, state = model.forward_sequence(zeros(2, 5, 3), ())
    assert (y.shape, state) == ((2, 5, 4), ())
    refused(model, StateError, ["none"], zeros(2, 5, 3), (zeros(1, 2, 4),))


def test_neither_input_nor_state_is_changed(engine_options):
    for spec in (LSTM, GRU, DEEP):
        model = Model(spec, **engine_options)
        x, state = inputs(spec, 2, 5), random_state(spec, 2)
        before = bits((x, state))
        final = model.forward_sequence(x, state)[1]
        kept = bits(final)
        model.forward_sequence(x, final)
        assert (bits((x, state)), bits(final)) == (before, kept)


def test_a_call_in_the_middle_of_a_call(model):
    """Reading an argument may run Python code, which may run the same model."""
    x, state = inputs(LSTM, 2, 5), random_state(LSTM, 2)
    expected = bits(model.forward_sequence(x, state))

    class Runs:
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            assert bits(model.forward_sequence(x, state)) == expected
            return self.values

    arguments = [Runs(x), tuple(map(Runs, state))]
    assert bits(model.forward_sequence(*arguments, out=zeros(2, 5, 4))) == expected
    assert bits(model.forward_sequence(*arguments, lengths=Runs(np.array([5, 5])))) == expected


def test_python_lists(model):
    x = [[[0.5, -0.25, 1.0]] * 4] * 2
    assert bits(model.forward_sequence(x)) == bits(model.forward_sequence(np.array(x, np.float32)))
    refused(model, DTypeError, ["x", "int64"], [[[1, 2, 3]]])


def test_buffers(model):
    x = inputs(LSTM, 1, 5)
    flat = array("f", x.ravel().tolist())
    view = memoryview(flat).cast("B").cast("f", (1, 5, 3))
    assert bits(model.forward_sequence(view)) == bits(model.forward_sequence(x))
    refused(model, DTypeError, ["x", "uint8"], memoryview(bytes(60)).cast("B", (4, 5, 3)))


class Dlpack:
    """An array of another library."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_dlpack(model):
    x, (h, c) = inputs(LSTM, 2, 5), random_state(LSTM, 2)
    expected = bits(model.forward_sequence(x, (h, c), lengths=[5, 4]))
    theirs = model.forward_sequence(Dlpack(x), (Dlpack(h), Dlpack(c)), lengths=Dlpack(np.array([5, 4])))
    assert bits(theirs) == expected
    assert bits(model.forward_sequence(Dlpack(x[::-1]))) == bits(model.forward_sequence(x[::-1]))
    refused(model, DTypeError, ["x", "int32"], Dlpack(np.zeros((2, 5, 3), np.int32)))


class BrokenDlpack:
    def __dlpack__(self, **options):
        raise BufferError("on another device")

    def __dlpack_device__(self):
        return (2, 0)


def test_dlpack_that_fails(model):
    refused(model, DTypeError, ["x: cannot be read as an array"], BrokenDlpack())


def test_numbers_beyond_the_engines_precision(model):
    """They become infinite as a cast makes them, and no warning of NumPy's comes out of a call."""
    huge = np.full((1, 2, model.spec.input_size), 1e300)
    infinite = np.full(huge.shape, np.inf, np.float32)
    for x in (huge, huge.tolist()):
        np.testing.assert_array_equal(model.predict(x), model.predict(infinite))


def test_the_other_precision(engine_options):
    """float64 input is rounded to the network's float32, float32 input is taken as it is by a float64 network."""
    x = inputs(LSTM, 2, 5, dtype=np.float64)
    single, double = Model(LSTM, **engine_options), Model(LSTM, dtype="float64", **engine_options)
    rounded = x.astype(np.float32)
    assert bits(single.forward_sequence(x)) == bits(single.forward_sequence(rounded))
    assert bits(double.forward_sequence(rounded)) == bits(double.forward_sequence(rounded.astype(np.float64)))
    assert single.forward_sequence(x)[0].dtype == np.float32
    assert double.forward_sequence(rounded)[0].dtype == np.float64


SPREADING = {
    "lstm": stack("lstm", 9, 5),
    "projected": stack("lstm", 9, 5, proj=3),
    "gru": stack("gru", 9, 5, directions=2),
    "gru, reset before": stack("gru", 9, 5, reset_after=False),
    "rnn": stack("rnn", 9, 5, return_sequences=False),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", SPREADING)
def test_a_row_that_is_not_finite_stays_alone(name, value, engine_options):
    layer = SPREADING[name]
    spec = network(Masking("mask", 0.25), layer, dense(layer.output_size, 3), Softmax("softmax"))
    model = Model(spec, **engine_options)
    for batch in (2, 5, 7, 17):
        x = inputs(spec, batch, 6)
        expected, _ = model.forward_sequence(x)
        x[1, 2, 4] = value
        y, _ = model.forward_sequence(x)
        rest = np.arange(batch) != 1
        assert bits(y[rest]) == bits(expected[rest])
        if np.isnan(value):
            assert np.isnan(y[1, -1] if y.ndim == 3 and layer.num_directions == 1 else y[1]).any()


def test_not_a_number_in_one_state_stays_there(engine_options):
    model = Model(GRU, **engine_options)
    x, h = inputs(GRU, 4, 5), random_state(GRU, 4)
    expected, _ = model.forward_sequence(x, h)
    h[0, 2, 1] = np.nan
    y, final = model.forward_sequence(x, h)
    assert bits(y[[0, 1, 3]]) == bits(expected[[0, 1, 3]])
    assert np.isnan(y[2]).all()
    assert np.isnan(final[0, 2]).all()


@pytest.mark.parametrize("softmax", [Softmax("softmax"), Softmax("log", log=True)], ids=["softmax", "log_softmax"])
def test_softmax_of_what_is_not_finite(softmax, engine_options):
    model = Model(ModelSpec((Dense("exact", np.eye(3, dtype=np.float32)), softmax)), **engine_options)
    huge = np.array([[[3e38, -3e38, 3e38], [1e4, 0, -1e4], [-3e38, -3e38, -3e38]]], np.float32)
    y, _ = model.forward_sequence(huge)
    expected = np.array([[0.5, 0, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(np.exp(y[0]) if softmax.log else y[0], expected, rtol=1e-6)
    for index in range(3):
        x = np.zeros((1, 1, 3), np.float32)
        x[0, 0, index] = np.nan
        assert np.isnan(model.forward_sequence(x)[0]).all()


def test_steps_of_no_memory_at_all(model):
    """Sizes far above memory are refused before anything is written."""
    endless = np.broadcast_to(np.zeros((1, 1, 3), np.float32), (1, 2**50, 3))
    with pytest.raises(MemoryError):
        model.forward_sequence(endless)
    wide = np.broadcast_to(np.zeros((1, 1, 3), np.float32), (2**50, 1, 3))
    with pytest.raises(MemoryError):
        model.forward_sequence(wide)
    last = Model(network(stack("lstm", 3, 4, return_sequences=False, directions=2, layers=2)))
    with pytest.raises(MemoryError):
        last.forward_sequence(endless)
    assert model.forward_sequence(zeros(1, 2, 3))[0].shape == (1, 2, 4)
