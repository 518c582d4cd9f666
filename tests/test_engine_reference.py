"""The engine against the float64 reference: every cell, activation, mask and layer, at every edge of the kernels."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import EDGES, disagreement, every_engine, inputs, network, random_state
from specs import dense, embedding, every_spec, stack

from lstm_fast import Model, reference
from lstm_fast.activations import ACTIVATIONS, Activation
from lstm_fast.spec import GATES, Dense, Elementwise, Masking, ModelSpec, Softmax

TOLERANCE = {"float32": 5e-6, "float64": 1e-12}

#: Every cell there is: kind and options.
CELLS = {
    "lstm": ("lstm", {}),
    "projected": ("lstm", {"proj": 3}),
    "gru": ("gru", {}),
    "gru, reset before": ("gru", {"reset_after": False}),
    "rnn": ("rnn", {}),
}

#: Parameters that show a swapped or ignored one.
PARAMETERS = {
    "hard_sigmoid": (0.2, 0.5),
    "leaky_relu": (0.3,),
    "elu": (0.7,),
    "affine": (0.5, 0.1),
    "scaled_tanh": (0.8, 0.6),
    "thresholded_relu": (0.1,),
}


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    return request.param


def check(spec: ModelSpec, x, state=None, *, lengths=None, dtype="float32", **options) -> None:
    model = Model(spec, dtype=dtype, **options)
    found = disagreement(model, x, state, lengths=lengths)
    assert found <= TOLERANCE[dtype], f"{model} on x of {x.shape}: {found}"


def check_everywhere(spec: ModelSpec, x, state=None, *, lengths=None) -> None:
    for options, dtype in product(every_engine(), TOLERANCE):
        check(spec, x, state, lengths=lengths, dtype=dtype, **options)


def activation(name: str) -> Activation:
    return Activation(name, **dict(zip(ACTIVATIONS[name], PARAMETERS.get(name, ()), strict=True)))


@pytest.mark.parametrize("name", every_spec())
def test_every_model_with_lengths_and_a_state(name, engine_options, dtype):
    spec, lengths = every_spec()[name], np.array([9, 0, 1, 8, 5])
    check(spec, inputs(spec, 5, 9), random_state(spec, 5), lengths=lengths, dtype=dtype, **engine_options)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
def test_stacks(cell, directions, layers, engine_options, dtype):
    kind, options = CELLS[cell]
    spec = network(stack(kind, 11, 9, layers=layers, directions=directions, **options))
    for batch in (1, 2, 3, 5):
        check(spec, inputs(spec, batch, 7), random_state(spec, batch), dtype=dtype, **engine_options)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("way", [{}, {"reverse": True}, {"directions": 2}], ids=["forward", "reverse", "both ways"])
def test_what_comes_out(cell, sequences, way, engine_options, dtype):
    """The last output is that of the last step in processing order, past masked and padded steps."""
    kind, options = CELLS[cell]
    for masked_output in ("zero", "repeat"):
        rnn = stack(kind, 5, 6, return_sequences=sequences, masked_output=masked_output, **way, **options)
        spec = network(Masking("mask", 0.5), rnn)
        x = inputs(spec, 6, 8)
        x[0, :3] = x[1, 5:] = x[2, [0, 2, 3, 7]] = x[3] = 0.5  # left padding, right padding, holes, all of it
        check(spec, x, random_state(spec, 6), dtype=dtype, **engine_options)
        check(spec, x, lengths=np.array([8, 6, 3, 4, 0, 5]), dtype=dtype, **engine_options)


@pytest.mark.parametrize("masked_output", ["zero", "repeat"])
def test_ids_that_mask(masked_output, engine_options, dtype):
    ids = np.array([[0, 0, 3, 4], [1, 0, 2, 0], [5, 6, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    for directions, sequences in product((1, 2), (True, False)):
        rnns = (
            stack("gru", 3, 5, directions=directions, name="first", masked_output=masked_output),
            stack("lstm", 5 * directions, 4, name="second", masked_output=masked_output, return_sequences=sequences),
        )
        spec = network(embedding(mask_zero=True), *rnns, dense(4, 3), Softmax("softmax"))
        check(spec, ids, dtype=dtype, **engine_options)
        check(spec, ids, random_state(spec, 5), lengths=[4, 3, 0, 2, 1], dtype=dtype, **engine_options)


def test_masks_meet(engine_options):
    """A mask made inside the chain holds from there on, together with the one made before."""
    first, second = stack("rnn", 3, 3, name="first", bias=False), stack("rnn", 3, 2, name="second")
    relu = Elementwise("relu", Activation("relu"))
    spec = network(embedding(mask_zero=True), first, relu, Masking("mask"), second)
    ids = np.array([[0, 0, 1, 2, 3], [1, 2, 0, 3, 0]])
    check(spec, ids, **engine_options)


def test_the_smallest_features_are_not_masked(engine_options, dtype):
    """The engine's arithmetic takes subnormal numbers as zeros; a mask must not."""
    x = np.zeros((2, 4, 3), dtype)
    x[0, 1, 2] = np.finfo(dtype).smallest_subnormal
    x[1, 2] = -0.0
    check(network(Masking("mask"), stack("lstm", 3, 5)), x, dtype=dtype, **engine_options)


@pytest.mark.parametrize(
    ("value", "x", "single", "double"),
    [
        (0.0, [0.0, 1e-50, 1e-40, -0.0], [True, True, False, True], [True, False, False, True]),
        (
            float(np.float32(0.1)),
            [np.float32(0.1), 0.1, 0.2, 0.1 + 1e-12],
            [True, True, False, True],
            [True] + 3 * [False],
        ),
        (-2.0, [-2.0, -2 - 1e-12, -2.1, 0.0], [True, True, False, False], [True] + 3 * [False]),
    ],
)
def test_features_are_masked_in_the_precision_of_the_weights(engine_options, value, x, single, double):
    """Keras casts x to the precision of the model first, so what equals the value only then is masked."""
    x = np.repeat(np.array(x)[None, :, None], 3, axis=-1)
    spec = network(Masking("mask", value), stack("gru", 3, 5))
    for which, masked in ((spec, single), (spec.astype(np.float64), double)):
        check(which, x, dtype="float64", **engine_options)
        assert [not step.any() for step in reference.forward(which, x)[0][0]] == masked


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_of_equal_bytes_is_no_state_of_zeros(cell, engine_options):
    kind, options = CELLS[cell]
    spec = network(stack(kind, 5, 16, **options))
    state = random_state(spec, 2)
    for array in state if isinstance(state, tuple) else (state,):
        array.view(np.uint8)[:] = 0x3F
    check(spec, inputs(spec, 2, 2), state, **engine_options)


def test_a_threshold_lets_a_nan_pass(engine_options, dtype):
    cut = Activation("thresholded_relu", 0.5)
    x = np.array([[[np.nan, 0.5, 0.75]]], dtype)
    identity = Dense("dense", np.eye(3, dtype=np.float32), None, cut)
    poisoned = replace(identity, weight=np.array([[np.nan], [0.5], [0.75]], np.float32))
    y = Model(ModelSpec((poisoned,)), dtype=dtype, **engine_options).predict(np.ones((1, 1, 1), dtype))
    np.testing.assert_array_equal(y, reference.activate(cut, x))
    np.testing.assert_array_equal(y, [[[np.nan, 0, 0.75]]])


def test_layers_that_share_their_weights(engine_options):
    one = stack("lstm", 4, 4, directions=1)
    for count in (2, 3):
        spec = network(replace(one, layers=one.layers * count, return_sequences=False))
        check(spec, inputs(spec, 3, 5), **engine_options)


def test_a_mask_outlives_blocks_of_time(engine_options):
    """Sequences longer than what the engine projects at once."""
    spec = network(Masking("mask"), stack("lstm", 20, 40, directions=2, name="a"), stack("gru", 80, 30, name="b"))
    x = inputs(spec, 3, 250)
    x[0, 90:110] = x[1, :130] = x[2, 170:] = 0
    check(spec, x, random_state(spec, 3), lengths=np.array([250, 245, 100]), **engine_options)

    spec = network(embedding(9, 20, mask_zero=True), stack("lstm", 20, 40, name="a"), stack("gru", 40, 30, name="b"))
    ids = inputs(spec, 3, 250)
    ids[0, 90:110] = ids[1, :130] = ids[2, 170:] = 0
    check(spec, ids, random_state(spec, 3), lengths=np.array([250, 245, 100]), **engine_options)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", GATES)
def test_every_activation_in_every_role(name, kind, engine_options, dtype):
    roles = {"lstm": ("gate_activation", "activation", "output_activation"), "gru": ("gate_activation", "activation")}
    for role in roles.get(kind, ("activation",)):
        tame = {"gate_activation": Activation("hard_sigmoid", 0.2, 0.5)} if role != "gate_activation" else {}
        for reset_after in (True, False) if kind == "gru" else (True,):
            spec = network(stack(kind, 4, 19, reset_after=reset_after, **tame, **{role: activation(name)}))
            check(spec, inputs(spec, 4, 3), random_state(spec, 4), dtype=dtype, **engine_options)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_as_a_layer(name, engine_options, dtype):
    for layers in ([dense(7, 21, activation=activation(name))], [dense(7, 21), Elementwise("act", activation(name))]):
        spec = network(*layers, dense(21, 5, name="last"))
        check(spec, inputs(spec, 3, 4) / 2, dtype=dtype, **engine_options)


@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
def test_softmax(log, engine_options, dtype):
    for size in (1, 2, 7, 8, 9, 16, 17, 130):
        spec = network(Dense("exact", np.eye(size, dtype=np.float32)), Softmax("softmax", log))
        x = inputs(spec, 2, 3, dtype=dtype)
        x[0, 1] *= 60
        check(spec, x, dtype=dtype, **engine_options)


def test_layers_behind_both_ways_and_a_last_output(engine_options, dtype):
    chain = (
        dense(5, 6, name="in", activation=Activation("relu")),
        stack("gru", 6, 7, directions=2, name="both"),
        dense(14, 9, name="middle", activation=Activation("silu")),
        Elementwise("act", Activation("elu", 1.0)),
        stack("lstm", 9, 8, name="last", return_sequences=False),
        dense(8, 12, name="out"),
        Elementwise("tanh", Activation("tanh")),
        Softmax("softmax", log=True),
    )
    spec = network(*chain)
    for time in (0, 1, 2, 40):
        check(spec, inputs(spec, 3, time), random_state(spec, 3), dtype=dtype, **engine_options)
    both = network(stack("rnn", 5, 6, directions=2, return_sequences=False), dense(12, 3))
    check(both, inputs(both, 3, 6), lengths=[6, 2, 0], dtype=dtype, **engine_options)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize(("batch", "time"), [(0, 0), (0, 4), (3, 0)])
def test_nothing_comes_of_nothing(batch, time, sequences, engine_options, dtype):
    """T = 0: no steps and the state as it was; B = 0: empty arrays."""
    for cell, directions in product(CELLS, (1, 2)):
        kind, options = CELLS[cell]
        spec = network(stack(kind, 12, 5, layers=2, directions=directions, return_sequences=sequences, **options))
        state = random_state(spec, batch, dtype=dtype)
        check(spec, inputs(spec, batch, time), state, dtype=dtype, **engine_options)
        model = Model(spec, dtype=dtype, **engine_options)
        final = model.forward_sequence(inputs(spec, batch, time), state)[1]
        for before, after in zip(state, final, strict=True) if kind == "lstm" else [(state, final)]:
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("cell", CELLS)
def test_sizes_around_the_lanes(cell, engine_options, dtype):
    kind, options = CELLS[cell]
    for index, hidden in enumerate(EDGES):
        size = EDGES[(index * 7 + 3) % len(EDGES)]
        spec = network(stack(kind, size, hidden, **options))
        batch = 1 + index % 7
        check(spec, inputs(spec, batch, 4), random_state(spec, batch), dtype=dtype, **engine_options)


@pytest.mark.parametrize("cell", CELLS)
def test_batches_around_the_tiles(cell, engine_options, dtype):
    """Tiles of 3 and 6 rows; 16 rows and 8 features are where the input is no longer summed apart."""
    kind, options = CELLS[cell]
    for size in (7, 8, 9):
        spec = network(stack(kind, size, 18, **options))
        for batch in (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 15, 16, 17, 18, 19):
            check(spec, inputs(spec, batch, 2), random_state(spec, batch), dtype=dtype, **engine_options)


def test_more_rows_than_run_at_once(engine_options):
    spec = network(Masking("mask"), stack("gru", 3, 5, directions=2, return_sequences=False), dense(10, 2))
    x = inputs(spec, 600, 6)
    x[100:300, 1] = 0
    lengths = np.arange(600) % 7
    check(spec, x, random_state(spec, 600), lengths=lengths, **engine_options)


sizes = st.sampled_from(EDGES) | st.integers(1, 70)


@st.composite
def calls(draw):
    """A random chain of layers and a call of it."""
    kind = draw(st.sampled_from(sorted(GATES)))
    size = first = draw(sizes)
    layers = [Masking("masking", 0.0)] if draw(st.booleans()) else []
    for index in range(draw(st.integers(1, 3))):
        hidden, directions = draw(sizes), draw(st.integers(1, 2))
        proj = draw(st.integers(1, hidden)) if kind == "lstm" and draw(st.booleans()) else None
        own = {
            "bias": draw(st.booleans()),
            "masked_output": draw(st.sampled_from(["zero", "repeat"])),
            "reverse": directions == 1 and draw(st.booleans()),
            "reset_after": draw(st.booleans()),
        }
        layers.append(stack(kind, size, hidden, directions=directions, proj=proj, name=f"rnn{index}", **own))
        size = layers[-1].output_size
        if draw(st.booleans()):
            outputs = draw(sizes)
            layers.append(dense(size, outputs, name=f"dense{index}", activation=Activation("tanh")))
            size = outputs
    spec = network(*layers, batch_first=draw(st.booleans()))
    batch, time = draw(st.integers(0, 20)), draw(st.integers(0, 12))
    x = inputs(spec, batch, time, seed=first)
    if isinstance(layers[0], Masking):
        x[draw(st.integers(0, 3)) :: draw(st.integers(2, 4))] = 0
    state = random_state(spec, batch) if draw(st.booleans()) else None
    lengths = None
    if draw(st.booleans()):
        lengths = np.array(draw(st.lists(st.integers(0, time), min_size=batch, max_size=batch)), np.int64)
    return spec, x, state, lengths


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(calls())
def test_random_networks(call):
    spec, x, state, lengths = call
    check_everywhere(spec, x, state, lengths=lengths)
