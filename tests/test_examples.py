"""The examples: every artefact agrees with its framework's recorded output, and the demo's own helpers are right."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_fast as lf
from lstm_fast import reference
from lstm_fast.activations import TANH, Activation
from lstm_fast.importers._gates import keras_cell, torch_cell
from lstm_fast.spec import Dense, Elementwise, Embedding, Masking, ModelSpec, Recurrent, Softmax

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module", autouse=True)
def examples_on_path():
    """The examples import one another as scripts in one folder do."""
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


def relative_difference(y: np.ndarray, expected: np.ndarray) -> float:
    assert y.shape == expected.shape
    return np.max(np.abs(y.astype(np.float64) - expected)) / np.max(np.abs(expected))


# artefacts


@pytest.mark.parametrize(
    ("artefact", "module", "tolerance"),
    [
        ("forecast/sunspots.keras", None, 1e-6),
        ("digits/digits_lstm.h5", None, 1e-6),
        ("digits/digits_gru.pt", "gru:last, hidden:relu, head:softmax", 1e-5),
        ("text/python.safetensors", "embed, lstm, head:softmax", 1e-5),
    ],
)
def test_artefact_agrees_with_its_framework(artefact, module, tolerance):
    path = EXAMPLES / artefact
    options = {} if module is None else {"module": module}
    model = lf.load(path, **options)
    with np.load(path.with_suffix(".npz")) as recorded:
        x, y = recorded["x"], recorded["y"]
    assert relative_difference(model.predict(x), y) <= tolerance
    exact, _ = reference.forward(model.spec, x)
    assert relative_difference(exact, y) <= tolerance


def test_artefacts_stay_small():
    artefacts = [p for p in EXAMPLES.glob("*/*") if p.suffix in {".keras", ".h5", ".pt", ".safetensors", ".npz"}]
    assert len(artefacts) == 8
    assert max(p.stat().st_size for p in artefacts) < 500_000


def test_forecast_windows_are_those_of_the_recorded_series():
    from data import MinMax, windows

    with np.load(EXAMPLES / "forecast/sunspots.npz") as recorded:
        held_back = len(recorded["target"])
        scaling = MinMax(float(recorded["low"]), float(recorded["high"]))
        assert scaling == MinMax.fit(recorded["sunspots"][:-held_back])
        x, _ = windows(scaling.scale(recorded["sunspots"]), recorded["x"].shape[1])
        np.testing.assert_array_equal(x[-held_back:], recorded["x"])
        np.testing.assert_array_equal(recorded["sunspots"][-held_back:], recorded["target"])


def test_text_targets_are_the_next_characters():
    with np.load(EXAMPLES / "text/python.npz") as recorded:
        np.testing.assert_array_equal(recorded["x"][:, 1:], recorded["target"][:, :-1])


# data helpers


def test_windows_pair_each_run_with_the_value_after_it():
    from data import windows

    inputs, targets = windows(np.arange(6.0), 3)
    np.testing.assert_array_equal(inputs[..., 0], [[0, 1, 2], [1, 2, 3], [2, 3, 4]])
    np.testing.assert_array_equal(targets, [3, 4, 5])


def test_min_max_scales_and_restores():
    from data import MinMax

    scaling = MinMax.fit(np.array([2.0, 6.0, 4.0]))
    scaled = scaling.scale(np.array([2.0, 4.0, 6.0, 8.0]))
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(scaling.restore(scaled), [2, 4, 6, 8])


def test_text_encodes_to_ids_and_back():
    from data import VOCABULARY, decode, encode

    assert len(VOCABULARY) == 96
    np.testing.assert_array_equal(encode("\n ~"), [0, 1, 95])
    assert decode(encode("def f(x):\n    return x + 'é'\t\n")) == "def f(x):\n    return x + ''\n"


# demo helpers


def test_sampling_follows_the_probabilities():
    from demo import sample

    random = np.random.default_rng(0)
    p = np.array([0.0, 0.25, 0.75, 0.0], np.float32)
    drawn = np.bincount([sample(p, 1.0, random) for _ in range(2000)], minlength=4) / 2000
    np.testing.assert_allclose(drawn, p, atol=0.04)
    cold = [sample(p, 0.05, random) for _ in range(100)]
    assert set(cold) == {2}


def test_generated_text_is_the_same_for_the_same_seed_and_equals_one_long_call():
    from data import decode, encode
    from demo import generate, sample

    model = lf.load(EXAMPLES / "text/python.safetensors", module="embed, lstm, head:softmax")
    text, _ = generate(model, "import ", 40, seed=3)
    assert text == generate(model, "import ", 40, seed=3)[0]
    assert text.startswith("import ")
    y, _ = model.forward_sequence(encode(text)[None, :-1])
    random = np.random.default_rng(3)
    assert text == "import " + decode(np.array([sample(p, 0.5, random) for p in y[0, len("import ") - 1 :]]))


def test_difference_is_relative_to_the_largest_expected_value():
    from demo import difference

    assert difference(np.array([1.0, 7.0]), np.array([2.0, -8.0])) == pytest.approx(15 / 8)


# the NumPy loop


def _weights(random, *shape):
    return (random.standard_normal(shape) / 4).astype(np.float32)


def _torch_cell(random, kind, inputs, size, *, bias=True, proj=None, activation=TANH):
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * size
    biases = (_weights(random, gates), _weights(random, gates)) if bias else (None, None)
    projection = None if proj is None else _weights(random, proj, size)
    return torch_cell(
        kind,
        _weights(random, gates, inputs),
        _weights(random, gates, proj or size),
        *biases,
        projection,
        activation=activation,
    )


def _networks():
    random = np.random.default_rng(0)
    relu, hard = Activation("relu"), Activation("hard_sigmoid", 0.2, 0.5)
    reset_before = keras_cell(
        "gru", _weights(random, 5, 21), _weights(random, 7, 21), _weights(random, 21), reset_after=False
    )
    relu_lstm = keras_cell(
        "lstm",
        _weights(random, 5, 24),
        _weights(random, 6, 24),
        _weights(random, 24),
        gate_activation=hard,
        activation=relu,
    )
    both = (_torch_cell(random, "gru", 5, 4), _torch_cell(random, "gru", 5, 4))
    upper = (_torch_cell(random, "gru", 8, 4, bias=False), _torch_cell(random, "gru", 8, 4, bias=False))
    head = Dense("head", _weights(random, 3, 8), _weights(random, 3), relu)
    yield "bidirectional gru", (Recurrent("r", (both, upper)), head, Softmax("s"))
    yield "last of both directions", (Recurrent("r", (both,), return_sequences=False), head, Softmax("s", log=True))
    yield "reverse", (Recurrent("r", ((_torch_cell(random, "rnn", 5, 9, activation=relu),),), reverse=True),)
    yield "projected lstm", (Recurrent("r", ((_torch_cell(random, "lstm", 5, 6, proj=3),),)),)
    yield "reset before", (Recurrent("r", ((reset_before,),)),)
    yield "relu lstm", (Recurrent("r", ((relu_lstm,),)), Dense("d", _weights(random, 4, 6)), Elementwise("e", TANH))


@pytest.mark.parametrize(("name", "layers"), list(_networks()), ids=[name for name, _ in _networks()])
def test_numpy_loop_agrees_with_the_reference(name, layers):
    from numpy_loop import numpy_loop

    spec = ModelSpec(layers).validate()
    x = np.random.default_rng(1).standard_normal((3, 6, 5)).astype(np.float32)
    y = numpy_loop(spec)(x)
    assert y.dtype == np.float32
    assert relative_difference(y, reference.forward(spec, x)[0]) <= 2e-6


def test_numpy_loop_takes_ids_and_refuses_masks():
    from numpy_loop import numpy_loop

    random = np.random.default_rng(0)
    stack = Recurrent("r", ((_torch_cell(random, "lstm", 5, 6),),))
    spec = ModelSpec((Embedding("e", _weights(random, 11, 5)), stack)).validate()
    ids = random.integers(0, 11, (2, 4))
    assert relative_difference(numpy_loop(spec)(ids), reference.forward(spec, ids)[0]) <= 2e-6
    with pytest.raises(NotImplementedError, match="m: the NumPy loop has no masks"):
        numpy_loop(ModelSpec((Masking("m"), stack)))
