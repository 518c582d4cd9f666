"""The same bits: a sequence's result does not depend on what is around it, how it is cut, or how it lies in memory.

The packed backend promises it to the last bit, over batches, cuts, padding, threads, memory layouts, and over the
instruction sets with fused multiply-adds; the blas backend only up to rounding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import arrays, bits, inputs, network, random_state, rows_of
from specs import dense, embedding, stack

from lstm_fast import Model, _engine
from lstm_fast.activations import ACTIVATIONS, Activation
from lstm_fast.spec import Elementwise, Masking, ModelSpec, Recurrent, Softmax

#: Networks that look only forwards in time, so that a stream of them can be cut; inputs below and above 8 features.
FORWARD = {
    "lstm": network(stack("lstm", 21, 33, layers=2)),
    "lstm, narrow": network(stack("lstm", 3, 17)),
    "four copies of weights": network(stack("lstm", 12, 88)),
    "three copies": network(stack("lstm", 9, 100), stack("gru", 100, 116, name="b")),
    "two copies": network(stack("lstm", 9, 128)),
    "projected": network(stack("lstm", 12, 20, layers=2, proj=7)),
    "gru": network(stack("gru", 13, 24, layers=2)),
    "gru, narrow": network(stack("gru", 1, 9)),
    "gru, reset before": network(stack("gru", 17, 10, reset_after=False, layers=2)),
    "rnn": network(stack("rnn", 30, 50, layers=3)),
    "masked": network(Masking("mask"), stack("lstm", 9, 8, masked_output="repeat"), dense(8, 5), Softmax("softmax")),
    "text": network(embedding(20, 18, mask_zero=True), stack("gru", 18, 19), dense(19, 20), Softmax("log", log=True)),
    "other activations": network(
        stack(
            "lstm",
            10,
            11,
            gate_activation=Activation("hard_sigmoid", 0.2, 0.5),
            activation=Activation("relu"),
            output_activation=Activation("gelu"),
        ),
        dense(11, 3, activation=Activation("mish")),
        Elementwise("act", Activation("leaky_relu", 0.1)),
    ),
}

NETWORKS = {
    **FORWARD,
    "both ways": network(stack("lstm", 11, 19, layers=2, directions=2), dense(38, 6)),
    "reverse": network(stack("gru", 10, 12, reverse=True, name="a"), stack("rnn", 12, 9, name="b")),
    "last output": network(stack("gru", 14, 9, directions=2, return_sequences=False), dense(18, 5), Softmax("softmax")),
}


def cases(networks):
    return pytest.mark.parametrize("spec", networks.values(), ids=networks)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


def packed(spec, isa, dtype, **options) -> Model:
    return Model(spec, backend="packed", isa=isa, dtype=dtype, **options)


def masked_inputs(spec, batch, time, dtype):
    """Random x, its ninth steps masked where the network masks."""
    x = inputs(spec, batch, time, dtype=np.dtype(dtype))
    if isinstance(spec.layers[0], Masking) or spec.takes_ids:
        x[:, 4::9] = 0
    return x


def in_pieces(model, x, cuts, state=None, lengths=None):
    """One call for each piece of x, the state handed on."""
    outputs = []
    for start, end in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        valid = None if lengths is None else np.clip(lengths - start, 0, end - start)
        y, state = model.forward_sequence(x[:, start:end], state, lengths=valid)
        outputs.append(y)
    return np.concatenate(outputs, axis=1), state


@cases(FORWARD)
def test_a_stream_cut_anywhere(spec, isa, dtype):
    model = packed(spec, isa, dtype)
    for batch, time in ((1, 25), (3, 12), (17, 6)):
        x, state = masked_inputs(spec, batch, time, dtype), random_state(spec, batch, dtype=dtype)
        whole = bits(model.forward_sequence(x, state))
        for cut in range(time + 1):
            assert bits(in_pieces(model, x, [cut], state)) == whole, (batch, cut)


@cases(FORWARD)
def test_a_stream_step_by_step(spec, isa, dtype):
    model = packed(spec, isa, dtype)
    for batch in (1, 5, 16):
        x = masked_inputs(spec, batch, 19, dtype)
        assert bits(in_pieces(model, x, range(1, 19))) == bits(model.forward_sequence(x))


@cases(FORWARD)
def test_a_long_stream_cut_around_its_blocks(spec, isa, dtype):
    model = packed(spec, isa, dtype)
    x = masked_inputs(spec, 2, 400, dtype)
    lengths = np.array([400, 240])
    whole = bits(model.forward_sequence(x, lengths=lengths))
    for cuts in ([133], [134], [135], [1, 191, 193], [50, 60, 399]):
        assert bits(in_pieces(model, x, cuts, lengths=lengths)) == whole, cuts


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_of_weights_beyond_the_cache(threads, isa):
    """Calls in a row walk over such weights to and fro."""
    spec = network(stack("lstm", 600, 640), stack("gru", 640, 650, name="b"))
    model = packed(spec, isa, "float32", num_threads=threads)
    x = inputs(spec, 1, 8)
    whole = bits(packed(spec, isa, "float32").forward_sequence(x))
    for cuts in (range(1, 8), [1, 4, 5], [3, 4]):
        assert bits(in_pieces(model, x, cuts)) == whole, cuts


def test_a_stream_that_returns_its_last_output(isa, dtype):
    spec = network(stack("lstm", 12, 10, return_sequences=False), dense(10, 3))
    model = packed(spec, isa, dtype)
    x = inputs(spec, 3, 20)
    whole = bits(model.forward_sequence(x))
    for cut in range(20):
        assert bits(model.forward_sequence(x[:, cut:], model.forward_sequence(x[:, :cut])[1])) == whole


@cases(NETWORKS)
def test_any_batch_around_a_row(spec, isa, dtype):
    model = packed(spec, isa, dtype)
    x, state = masked_inputs(spec, 40, 7, dtype), random_state(spec, 40, dtype=dtype)
    y, final = model.forward_sequence(x, state)
    for size in (*range(1, 8), 12, 13, 15, 16, 17, 31):
        for first in (0, 3, 40 - size):
            rows = np.arange(first, first + size)
            alone = model.forward_sequence(x[rows], rows_of(state, rows))
            assert bits(alone) == bits((y[rows], rows_of(final, rows))), (size, first)
    order = np.random.default_rng(0).permutation(40)
    assert bits(model.forward_sequence(x[order], rows_of(state, order))) == bits((y[order], rows_of(final, order)))


@cases(NETWORKS)
def test_batches_above_what_runs_at_once(spec, isa, dtype):
    model = packed(spec, isa, dtype)
    x = masked_inputs(spec, 530, 2, dtype)
    y, final = model.forward_sequence(x)
    for rows in ([0], [255], [256], [511, 512], [529]):
        assert bits(model.forward_sequence(x[rows])) == bits((y[rows], rows_of(final, rows)))


CELLS = {
    "lstm": {},
    "lstm, projected": {"proj": 3},
    "gru": {"reset_after": True},
    "gru, reset before": {"reset_after": False},
    "rnn": {},
}


def one_cell(name, **options) -> Recurrent:
    """2 features, 5 units."""
    return stack(name.partition(",")[0], 2, 5, **options, **CELLS[name])


def with_weights(layer, **weights) -> ModelSpec:
    [[cell]] = layer.layers
    return network(replace(layer, layers=((replace(cell, **weights),),)))


def loses_no_bit(model, x, odd=0.0) -> bool:
    """Whether the first row of ``x``, from a state of zeros, is as beside another row whose state is not zero.

    There nothing is left out of the first step. ``odd`` is what stands in the state for one of the zeros.
    """

    def numbers(result):
        return bits(tuple(np.where(np.isnan(array), np.nan, array) for array in arrays(result)))

    state = random_state(model.spec, 2, dtype=x.dtype)
    for array in arrays(state):
        array[:, 0] = 0
        array[:, 0, 1] = odd
    y, final = model.forward_sequence(x, state)
    alone = [model.forward_sequence(x[:1], rows_of(state, [0]))]
    alone += [] if np.signbit(odd) else [model.forward_sequence(x[:1])]
    return all(numbers(result) == numbers((y[:1], rows_of(final, [0]))) for result in alone)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("recurrent", [[1.0], [-1.0], [1.0, -1.0], [0.0, -0.0], [1.0, np.inf], [-1.0, np.nan]])
def test_a_state_of_zeros(name, recurrent, isa, dtype):
    """What it saves changes no bit, not even the sign of a zero."""
    rng = np.random.default_rng(0)
    least = [0.0, -0.0, 1e-30, -1e-30]
    for candidate in ACTIVATIONS:
        activation = Activation(candidate, **dict.fromkeys(ACTIVATIONS[candidate], 0.0))
        for gate in ("sigmoid", "linear"):
            options = {"gate_activation": Activation(gate)} if name != "rnn" else {}
            layer = one_cell(name, activation=activation, **options)
            [[cell]] = layer.layers
            drawn = {key: rng.choice(least, value.shape).astype(dtype) for key, value in cell.tensors()}
            drawn["weight_hh"] = rng.choice(recurrent, cell.weight_hh.shape).astype(dtype)
            if np.isinf(recurrent).any():  # in the last gate alone, which may have a product of its own
                drawn["weight_hh"][:-5] = 1
            model = packed(with_weights(layer, **drawn), isa, dtype)
            x = rng.choice([*least, 1.0], (2, 3, 2)).astype(dtype)
            assert loses_no_bit(model, x), (candidate, gate)
            assert loses_no_bit(model, x, odd=-0.0), (candidate, gate)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e38])
def test_a_state_of_zeros_and_gates_that_are_no_numbers(name, odd, isa, dtype):
    """A reset gate that is NaN makes NaN of a state of zeros."""
    layer = one_cell(name)
    [[cell]] = layer.layers
    model = packed(with_weights(layer), isa, dtype)
    for feature in range(2):
        x = inputs(model.spec, 2, 3, dtype=dtype)
        x[0, 0, feature] = odd
        assert loses_no_bit(model, x), feature
    for unit in range(len(cell.bias)):
        bias = cell.bias.copy()
        bias[unit] = odd
        spec = with_weights(layer, bias=bias)
        assert loses_no_bit(packed(spec, isa, dtype), inputs(spec, 2, 3, dtype=dtype)), unit


@cases(NETWORKS)
def test_padding(spec, isa, dtype):
    """A row of a padded batch is the row on its own, whatever lies in the padding."""
    model = packed(spec, isa, dtype)
    lengths = np.array([9, 1, 4, 0, 8, 9, 2])
    x = masked_inputs(spec, 7, 9, dtype)
    state = random_state(spec, 7, dtype=dtype)
    for row, length in enumerate(lengths):
        x[row, length:] = 3 if spec.takes_ids else np.nan
    y, final = model.forward_sequence(x, state, lengths=lengths)
    for row, length in enumerate(lengths):
        rows = [row]
        alone, last = model.forward_sequence(x[rows, :length], rows_of(state, rows))
        assert bits(last) == bits(rows_of(final, rows)), row
        assert bits(alone) == bits(y[rows, :length] if spec.returns_sequences else y[rows]), row


@cases(NETWORKS)
def test_threads(spec, isa, dtype):
    lengths = np.arange(11) % 7
    x, state = masked_inputs(spec, 11, 6, dtype), random_state(spec, 11, dtype=dtype)
    one = bits(packed(spec, isa, dtype).forward_sequence(x, state, lengths=lengths))
    for threads in (2, 3, 4):
        model = packed(spec, isa, dtype, num_threads=threads)
        assert bits(model.forward_sequence(x, state, lengths=lengths)) == one, threads
    many = masked_inputs(spec, 530, 2, dtype)
    one = bits(packed(spec, isa, dtype).forward_sequence(many))
    assert bits(packed(spec, isa, dtype, num_threads=2).forward_sequence(many)) == one


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(x.tobytes(), np.uint8)
    return memory.view(x.dtype).reshape(x.shape)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def spread(x):
    """Every axis strided."""
    memory = np.full([2 * length for length in x.shape], 7, x.dtype)
    view = memory[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "time first": lambda x: x.swapaxes(0, 1).copy().swapaxes(0, 1),
    "strided": spread,
    "rows of a wider array": lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "negative features": lambda x: x[..., ::-1].copy()[..., ::-1],
    "unaligned": unaligned,
    "read-only": read_only,
    "buffer": lambda x: memoryview(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["lstm", "lstm, narrow", "gru, reset before", "masked", "both ways"])
def test_memory_layout(name, layout, isa, dtype):
    spec = NETWORKS[name]
    model = packed(spec, isa, dtype)
    x = masked_inputs(spec, 4, 6, dtype)
    state = random_state(spec, 4, dtype=dtype)
    expected = bits(model.forward_sequence(x, state))
    moved = (LAYOUTS[layout](state[0]), LAYOUTS[layout](state[1]))
    assert bits(model.forward_sequence(LAYOUTS[layout](x), state)) == expected
    assert bits(model.forward_sequence(x, moved)) == expected


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "features" not in name])
def test_memory_layout_of_ids(layout, isa):
    spec = NETWORKS["text"]
    model = packed(spec, isa, "float32")
    ids = inputs(spec, 4, 6)
    assert bits(model.forward_sequence(LAYOUTS[layout](ids))) == bits(model.forward_sequence(ids))


def test_zero_strides(isa, dtype):
    for name in ("lstm", "gru, narrow", "both ways"):
        spec = NETWORKS[name]
        model = packed(spec, isa, dtype)
        one = inputs(spec, 3, 5, dtype=dtype)
        for x in (one[:1], one[:, :1], one[..., :1], one[:1, :1]):
            same = np.broadcast_to(x, one.shape)
            assert bits(model.forward_sequence(same)) == bits(model.forward_sequence(same.copy()))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("read-only", "buffer")])
def test_memory_layout_of_the_output(layout, isa, dtype):
    for spec in NETWORKS.values():
        model = packed(spec, isa, dtype)
        x = masked_inputs(spec, 4, 5, dtype)
        expected = model.forward_sequence(x)
        if expected[0].ndim == 2 and layout == "time first":
            continue
        out = LAYOUTS[layout](np.full_like(expected[0], 7))
        assert model.forward_sequence(x, out=out)[0] is out
        assert bits(out) == bits(expected[0])


def test_nothing_is_written_beside_the_output(isa, dtype):
    """Every width around the vectors: what lies behind a step's features stays as it was."""
    for size in range(1, 34):
        for layer in (stack("lstm", 3, size), dense(3, size), stack("gru", 3, size, directions=2)):
            spec = network(layer)
            x = inputs(spec, 2, 3, dtype=dtype)
            memory = np.full((2, 3, spec.output_size + 20), 7, dtype)
            packed(spec, isa, dtype).forward_sequence(x, out=memory[..., 4:-16])
            assert (memory[..., :4] == 7).all()
            assert (memory[..., -16:] == 7).all()


def test_time_first_is_the_same_numbers(isa, dtype):
    spec = NETWORKS["both ways"]
    other = replace(spec, batch_first=False)
    x = inputs(spec, 4, 6, dtype=dtype)
    y, state = packed(spec, isa, dtype).forward_sequence(x)
    swapped, same_state = packed(other, isa, dtype).forward_sequence(x.swapaxes(0, 1))
    assert bits((swapped.swapaxes(0, 1), same_state)) == bits((y, state))
    one, own = packed(spec, isa, dtype).forward_sequence(x[2])
    assert bits((one, own)) == bits((y[2], (state[0][:, 2], state[1][:, 2])))


def fused() -> list[str]:
    """Instruction sets with fused multiply-adds: the portable one keeps bits of its own."""
    return [isa for isa in _engine.available()["isas"] if isa != "generic"]


@cases(NETWORKS)
def test_instruction_sets_agree(spec, dtype):
    x, state = masked_inputs(spec, 18, 13, dtype), random_state(spec, 18, dtype=dtype)
    found = {isa: bits(packed(spec, isa, dtype).forward_sequence(x, state)) for isa in fused()}
    assert all(result == found[fused()[0]] for result in found.values())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_agree_over_instruction_sets(name, dtype):
    activation = Activation(name, **dict.fromkeys(ACTIVATIONS[name], 0.3))
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(5000) * scale for scale in (1e-30, 1e-3, 1, 10, 100)]).astype(dtype)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, -3e38]
    x = np.concatenate([x, np.array(special, dtype)])
    found = [bits(_engine.activate(activation, x, isa)) for isa in fused()]
    assert all(result == found[0] for result in found)


def test_the_portable_kernels_stay_close(dtype):
    tolerance = 5e-6 if dtype == "float32" else 1e-13
    for spec in NETWORKS.values():
        x = masked_inputs(spec, 3, 9, dtype)
        results = [arrays(packed(spec, isa, dtype).forward_sequence(x)) for isa in _engine.available()["isas"]]
        for result in results:
            for got, wanted in zip(result, results[0], strict=True):
                np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


@cases(FORWARD)
def test_the_blas_backend_up_to_rounding(spec, backend, dtype):
    """Its library sums a row in another order when the rows around it are more or fewer."""
    tolerance = 5e-6 if dtype == "float32" else 1e-13
    model = Model(spec, backend=backend, dtype=dtype)
    x = masked_inputs(spec, 9, 20, dtype)
    whole = arrays(model.forward_sequence(x))
    for got, wanted in zip(arrays(in_pieces(model, x, [1, 8])), whole, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
    np.testing.assert_allclose(model.forward_sequence(x[4:6])[0], whole[0][4:6], rtol=0, atol=tolerance)


def test_rows_of_a_network_too_wide_for_a_whole_batch_at_once():
    spec = network(stack("gru", 900, 1100))
    model = Model(spec, backend="packed")
    x = inputs(spec, 260, 2)
    whole, _ = model.forward_sequence(x)
    for row in (0, 127, 128, 259):
        assert bits(model.forward_sequence(x[row : row + 1])[0]) == bits(whole[row : row + 1])
