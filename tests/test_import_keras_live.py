"""Against Keras itself, on its torch backend: live objects and the files it writes here and now."""

from __future__ import annotations

import os
import zlib

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
pytest.importorskip("h5py")

from lstm_fast import Model, reference  # noqa: E402
from lstm_fast.errors import UnsupportedModelError  # noqa: E402
from lstm_fast.importers import load_spec  # noqa: E402
from lstm_fast.importers._keras_live import from_keras_model  # noqa: E402
from lstm_fast.spec import Recurrent  # noqa: E402

layers = keras.layers


def model_of(name, shape, *chain):
    """A Sequential model with random weights, biases included."""
    dtype = "int32" if len(shape) == 1 else "float32"
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *chain])
    randomize(model, name)
    return model


def randomize(model, name):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    model.set_weights([rng.standard_normal(w.shape) * 0.9 / np.sqrt(max(w.shape[0], 1)) for w in model.get_weights()])


FIRST_SEVEN = {
    "lstm32": lambda: [(10, 8), layers.LSTM(32), layers.Dense(10, activation="softmax")],
    "embedding": lambda: [(12,), layers.Embedding(40, 16), layers.LSTM(24), layers.Dense(1, activation="sigmoid")],
    "series": lambda: [(100, 1), layers.LSTM(64), layers.Dense(1)],
    "two layers": lambda: [(60, 1), layers.LSTM(50, return_sequences=True), layers.LSTM(50), layers.Dense(1)],
    "sentiment": lambda: [(40,), layers.Embedding(1000, 64), layers.LSTM(64), layers.Dense(1, activation="sigmoid")],
    "characters": lambda: [(20, 30), layers.LSTM(128), layers.Dense(30, activation="softmax")],
    "digits": lambda: [
        (28, 28),
        layers.LSTM(128, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10, activation="softmax"),
    ],
}


def inputs(model, batch=3, time=None, seed=0):
    rng = np.random.default_rng(seed)
    shape = (batch, *(time if n is None else n for n in model.input_shape[1:]))
    if len(shape) == 2:
        return rng.integers(1, model.layers[0].input_dim, shape).astype("int32")
    return rng.random(shape).astype("float32")


def agree(spec, model, x):
    expected = np.asarray(model.predict(x, verbose=0))
    for y in (reference.forward(spec, x)[0], Model(spec, dtype=spec.dtype).predict(x)):
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() <= 1e-6 * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize("suffix", ["keras", "h5", "live"])
@pytest.mark.parametrize("name", FIRST_SEVEN)
def test_first_seven(name, suffix, tmp_path):
    model = model_of(name, *FIRST_SEVEN[name]())
    agree(spec_by(suffix, model, tmp_path), model, inputs(model))


def spec_by(suffix, model, folder):
    if suffix == "live":
        return from_keras_model(model)
    model.save(folder / f"model.{suffix}")
    return load_spec(folder / f"model.{suffix}")


def _bidirectional(**options):
    return layers.Bidirectional(layers.GRU(4, **options), backward_layer=layers.GRU(4, go_backwards=True, **options))


def _partly(layer):
    """The layer inside a frozen model, trainable again, as where a base is fine-tuned."""
    model = keras.Sequential([layers.Dense(3), layer])
    model.trainable = False
    layer.trainable = True
    return model


def _backwards(units):
    return layers.LSTM(units, return_sequences=True, go_backwards=True)


VARIANTS = {
    "gru": lambda: [layers.GRU(5, return_sequences=True), layers.GRU(4, reset_after=False)],
    "no bias": lambda: [
        layers.GRU(5, return_sequences=True, use_bias=False),
        layers.LSTM(4, return_sequences=True, use_bias=False),
        layers.SimpleRNN(3, use_bias=False),
        layers.Dense(2, use_bias=False),
    ],
    "backwards": lambda: [layers.LSTM(4, go_backwards=True), layers.Flatten(), layers.Dense(2)],
    "bidirectional": lambda: [layers.Bidirectional(layers.LSTM(3, return_sequences=True)), _bidirectional()],
    "cells": lambda: [
        layers.RNN(layers.LSTMCell(4), return_sequences=True),
        layers.RNN([layers.SimpleRNNCell(3), layers.SimpleRNNCell(5)], go_backwards=True),
    ],
    "time distributed": lambda: [
        layers.LSTM(4, return_sequences=True),
        layers.TimeDistributed(layers.Dense(3, activation="softmax")),
        layers.TimeDistributed(layers.Dropout(0.5)),
        layers.TimeDistributed(layers.LeakyReLU()),
    ],
    "nested": lambda: [
        keras.Sequential([layers.LSTM(4, return_sequences=True, trainable=False), layers.Dense(3)], name="inner"),
        keras.Sequential([layers.LSTM(3), keras.Sequential([layers.Dense(3)])]),
        layers.Dense(3),
    ],
    "frozen in part": lambda: [
        keras.Sequential([_partly(layers.LSTM(3, return_sequences=True)), layers.LSTM(3, return_sequences=True)]),
        keras.Sequential(
            [
                layers.TimeDistributed(layers.Dense(3, trainable=False)),
                layers.Dense(3),
                layers.TimeDistributed(layers.Dense(3), trainable=False),
            ]
        ),
        keras.Sequential([layers.RNN(layers.LSTMCell(3), trainable=False), layers.Dense(3)], trainable=False),
    ],
    "wrappers frozen in part": lambda: [
        layers.Bidirectional(layers.LSTM(2, return_sequences=True, trainable=False), backward_layer=_backwards(2)),
        keras.Sequential(
            [
                layers.RNN(layers.LSTMCell(4), return_sequences=True, trainable=False),
                layers.RNN(layers.LSTMCell(4, trainable=False), return_sequences=True),
                layers.RNN([layers.GRUCell(4), layers.GRUCell(4, trainable=False), layers.GRUCell(4)]),
            ]
        ),
        layers.Dense(1),
    ],
    "noise": lambda: [
        layers.GaussianNoise(0.1),
        layers.LSTM(3, dropout=0.2, recurrent_dropout=0.2),
        layers.Dropout(0.1),
    ],
}


@pytest.mark.parametrize("suffix", ["keras", "h5", "live"])
@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name, suffix, tmp_path):
    model = model_of(name, (None, 3), *VARIANTS[name]())
    spec = spec_by(suffix, model, tmp_path)
    for batch, time in ((1, 1), (2, 9), (3, 4), (5, 6)):
        agree(spec, model, inputs(model, batch, time))


ACTIVATIONS = (
    "linear relu relu6 leaky_relu elu selu gelu silu mish softplus softsign sigmoid hard_sigmoid hard_silu tanh"
    " exponential"
)


@pytest.mark.parametrize("name", ACTIVATIONS.split())
def test_activations_inside_and_outside(name):
    model = model_of(
        name,
        (None, 3),
        layers.LSTM(4, activation=name, recurrent_activation="hard_sigmoid", return_sequences=True),
        layers.GRU(3, recurrent_activation=name if name != "exponential" else "sigmoid", return_sequences=True),
        layers.Dense(4, activation=name),
        layers.Activation(name),
    )
    agree(from_keras_model(model), model, inputs(model, 2, 4) - 0.5)


def _masked(rng, batch, time, features):
    x = rng.random((batch, time, features)).astype("float32") + 0.1
    x[rng.random((batch, time)) < 0.3] = 0
    x[0, : time // 3] = 0
    x[-1, -(time // 3) :] = 0
    return x


MASKED = {
    "repeat": lambda: [layers.LSTM(4, return_sequences=True), layers.GRU(3, return_sequences=True)],
    "zero": lambda: [layers.GRU(3, return_sequences=True, zero_output_for_mask=True), layers.Dense(2)],
    "last": lambda: [layers.SimpleRNN(3, return_sequences=True), layers.LSTM(4)],
    "backwards": lambda: [layers.LSTM(4, go_backwards=True)],
    "bidirectional": lambda: [layers.Bidirectional(layers.LSTM(3, return_sequences=True)), _bidirectional()],
    "stack": lambda: [layers.RNN([layers.GRUCell(3), layers.GRUCell(2)], return_sequences=True)],
}


@pytest.mark.parametrize("name", MASKED)
def test_masks_with_holes_padding_and_rows_masked_throughout(name, tmp_path):
    model = model_of(name, (None, 3), layers.Masking(), *MASKED[name]())
    rng = np.random.default_rng(1)
    specs = [spec_by(suffix, model, tmp_path) for suffix in ("keras", "live")]
    for batch, time in ((1, 4), (2, 7), (3, 9), (5, 3)):
        x = _masked(rng, batch, time, 3)
        if batch > 2:
            x[1] = 0
        for spec in specs:
            agree(spec, model, x)


def test_functional_with_an_embedding_mask(tmp_path):
    entry = keras.Input((None,), dtype="int32")
    inner = layers.Embedding(7, 3, mask_zero=True)(entry)
    inner = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(inner)
    model = keras.Model(entry, layers.GRU(3, return_sequences=True)(layers.Dense(4)(inner)))
    randomize(model, "functional")
    x = np.random.default_rng(2).integers(0, 7, (5, 8)).astype("int32")
    x[2] = 0
    for suffix in ("keras", "h5", "live"):
        agree(spec_by(suffix, model, tmp_path), model, x)


def test_weights_and_json(tmp_path):
    model = model_of("weights", (None, 3), layers.GRU(4, recurrent_activation="hard_sigmoid"), layers.Dense(2))
    model.save_weights(tmp_path / "model.weights.h5")
    spec = load_spec(tmp_path / "model.weights.h5", config=model.to_json().encode())
    agree(spec, model, inputs(model, 3, 5))


@pytest.mark.parametrize("policy", ["float64", "mixed_float16", "bfloat16"])
def test_dtype_policies(policy):
    model = model_of("policy", (None, 3), layers.LSTM(4, dtype=policy))  # Dense would multiply in float32 all the same
    if policy != "float64":
        with pytest.raises(UnsupportedModelError, match=policy):
            from_keras_model(model)
        return
    spec = from_keras_model(model)
    assert spec.dtype == np.float64
    x = inputs(model, 2, 5)
    y, _ = reference.forward(spec, x)
    assert np.abs(y - keras.ops.convert_to_numpy(model(x))).max() <= 1e-12


def test_one_live_layer_also_with_return_state():
    layer = layers.LSTM(4, return_sequences=True, return_state=True)
    x = np.random.default_rng(0).random((2, 5, 3)).astype("float32")
    expected = [np.asarray(keras.ops.convert_to_numpy(value)) for value in layer(x)]
    spec = from_keras_model(layer)
    y, ((h, c),) = reference.forward(spec, x)
    for ours, theirs in zip((y, h[0], c[0]), expected, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-6
    assert isinstance(spec.layers[0], Recurrent)


def test_weights_are_copied():
    model = model_of("copy", (None, 3), layers.LSTM(4))
    spec = from_keras_model(model)
    before = spec.layers[0].layers[0][0].weight_ih.copy()
    model.set_weights([0 * w for w in model.get_weights()])
    assert np.array_equal(before, spec.layers[0].layers[0][0].weight_ih)


def test_classes_of_ones_own_are_refused():
    class Mine(keras.Model):
        pass

    class LSTM(layers.LSTM):
        pass

    with pytest.raises(UnsupportedModelError, match=r"Mine is a class of somebody's own"):
        from_keras_model(Mine())
    with pytest.raises(UnsupportedModelError, match="class of somebody's own"):
        from_keras_model(LSTM(3))
    with pytest.raises(UnsupportedModelError, match="LSTM"):
        from_keras_model(model_of("mine", (None, 3), LSTM(3)))
    with pytest.raises(TypeError, match="expected a Keras model or layer, got"):
        from_keras_model([1, 2])


def test_models_without_weights_yet():
    for model in (layers.LSTM(3), keras.Sequential([layers.LSTM(3)])):
        with pytest.raises(UnsupportedModelError, match="no weights yet; call it once"):
            from_keras_model(model)
    with pytest.raises(TypeError, match="got the class LSTM"):
        from_keras_model(layers.LSTM)


def test_lambda_is_refused_before_anything_is_read():
    model = model_of("lambda", (None, 3), layers.LSTM(3), layers.Lambda(lambda x: x))
    with pytest.raises(UnsupportedModelError, match="'Lambda'"):
        from_keras_model(model)
