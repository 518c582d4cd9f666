"""Every attribute of the layers that are read, away from its default: what Keras computes, or a refusal that names it.

Engine and reference both, by ``.keras``, ``.h5`` and the live model; masked rows, masked throughout, and ragged ends.
"""

from __future__ import annotations

import functools
import os
import re

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
pytest.importorskip("h5py")

from lstm_fast import Model, reference  # noqa: E402
from lstm_fast.errors import UnsupportedModelError  # noqa: E402
from lstm_fast.importers import load_spec  # noqa: E402
from lstm_fast.importers._keras_live import from_keras_model  # noqa: E402

layers = keras.layers
RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN)


def sequential(*chain, shape=(None, 3), dtype=None):
    return keras.Sequential([keras.Input(shape, dtype=dtype or ("int32" if len(shape) == 1 else "float32")), *chain])


def randomize(model):
    rng = np.random.default_rng(3)
    model.set_weights([rng.standard_normal(w.shape) * 0.9 / np.sqrt(max(w.shape[0], 1)) for w in model.get_weights()])
    return model


def inputs(model, batch, time):
    """Holes, left padding in the first row, a row of nothing but padding."""
    rng = np.random.default_rng(batch)
    fixed_batch, fixed_time, *features = model.input_shape
    batch, time = fixed_batch or batch, fixed_time or time
    x = rng.standard_normal((batch, time, *features)) if features else rng.integers(1, 5, (batch, time))
    x[rng.random((batch, time)) < 0.3] = 0
    x[0, : time // 3] = 0
    x[1:2] = 0
    return x.astype("float32" if features else "int32")


def judge(model, folder, refusal: str | None) -> None:
    """By every route the model agrees with Keras on all inputs, or every route refuses it in those words."""
    routes = {"live": lambda: from_keras_model(model)}
    for suffix in ("keras", "h5"):
        model.save(folder / f"model.{suffix}")
        routes[suffix] = functools.partial(load_spec, folder / f"model.{suffix}")
    for route, load in routes.items():
        if refusal is not None:
            with pytest.raises(UnsupportedModelError, match=refusal):
                load()
            continue
        spec = load()
        engine = Model(spec, dtype=spec.dtype)
        for batch, time in ((1, 1), (3, 7)):
            x = inputs(model, batch, time)
            for stateful in [layer for layer in model.layers if getattr(layer, "stateful", False)]:
                stateful.reset_state()
            expected = np.asarray(keras.ops.convert_to_numpy(model(x)))
            for y in (engine.predict(x), reference.forward(spec, x)[0]):
                assert y.shape == expected.shape, route
                assert np.abs(y - expected).max() <= 2e-6 * max(1, np.abs(expected).max()), route


#: Attributes of recurrent layers, and what a refusal of them says; None: honoured, or without effect.
ATTRIBUTES = {
    "use_bias": (False, None),
    "go_backwards": (True, None),
    "return_sequences": (True, None),
    "return_state": (True, "return_state=True is not supported"),
    "dropout": (0.3, None),
    "recurrent_dropout": (0.3, None),
    "zero_output_for_mask": (True, "ends in a masked step"),
    "kernel_regularizer": ("l2", None),
    "recurrent_constraint": ("non_neg", None),
    "activity_regularizer": ("l2", None),
    "bias_initializer": ("ones", None),
    "activation": ("relu", None),
    "trainable": (False, None),
    "name": ("renamed", None),
    "dtype": ("mixed_float16", "dtype policy 'mixed_float16'"),
    "unit_forget_bias": (False, None),
    "recurrent_activation": ("hard_sigmoid", None),
    "reset_after": (False, None),
}
ONLY = {
    "unit_forget_bias": [layers.LSTM],
    "reset_after": [layers.GRU],
    "recurrent_activation": [layers.LSTM, layers.GRU],
}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("layer", RECURRENT, ids=lambda layer: layer.__name__)
def test_recurrent_attributes_behind_a_mask(layer, attribute, tmp_path):
    if layer not in ONLY.get(attribute, RECURRENT):
        assert attribute not in layer(2).get_config()
        return
    value, refusal = ATTRIBUTES[attribute]
    judge(randomize(sequential(layers.Masking(), layer(4, **{attribute: value}))), tmp_path, refusal)


def shared():
    entry, layer = keras.Input((None, 3)), layers.LSTM(3, return_sequences=True)
    return keras.Model(entry, layer(layer(entry)))


def functional(build):
    entry = keras.Input((None, 3))
    return keras.Model(entry, build(entry))


def quantized(model):
    model.quantize("int8")
    return model


def adapted():
    dense = layers.Dense(3)
    model = sequential(layers.LSTM(4), dense)
    dense.enable_lora(2)
    return model


def bidirectional(layer=layers.LSTM, **options):
    return layers.Bidirectional(layer(4, return_sequences=True), **options)


#: Networks, and what a refusal of them says; None: agrees.
NETWORKS = {
    "unrolled": (lambda: sequential(layers.Masking(), layers.LSTM(4, unroll=True), shape=(5, 3)), None),
    "stateful": (lambda: keras.Sequential([keras.Input(batch_shape=(3, 5, 3)), layers.GRU(4, stateful=True)]), None),
    "merge mode": (lambda: sequential(bidirectional(merge_mode="ave")), "merge_mode='ave'"),
    "unequal directions": (
        lambda: sequential(
            layers.Masking(),
            bidirectional(backward_layer=layers.LSTM(4, use_bias=False, go_backwards=True, return_sequences=True)),
        ),
        None,
    ),
    "unequal sizes": (
        lambda: sequential(layers.Bidirectional(layers.GRU(4), backward_layer=layers.GRU(5, go_backwards=True))),
        "both of the same kind and units",
    ),
    "masked through dense": (
        lambda: sequential(
            layers.Embedding(6, 3, mask_zero=True), layers.LSTM(4, return_sequences=True), layers.Dense(3),
            layers.GRU(2), shape=(None,),
        ),
        None,
    ),
    "masked through the time distributed": (
        lambda: sequential(
            layers.Masking(), layers.GRU(4, return_sequences=True), layers.TimeDistributed(layers.Dense(3)),
            layers.Dropout(0.1), layers.SpatialDropout1D(0.1), layers.LSTM(2, return_sequences=True),
        ),
        None,
    ),
    "masked both ways": (
        lambda: sequential(
            layers.Embedding(6, 3, mask_zero=True), bidirectional(), layers.Bidirectional(layers.GRU(3)),
            layers.Dense(2), shape=(None,),
        ),
        None,
    ),
    "softmax behind a mask": (lambda: sequential(layers.Masking(), layers.Softmax()), "Softmax layer after a mask"),
    "softmax over sequences": (lambda: sequential(layers.GRU(4, return_sequences=True), layers.Softmax()), None),
    "nested": (
        lambda: sequential(layers.Masking(), sequential(layers.LSTM(3, return_sequences=True)), layers.GRU(2)),
        None,
    ),
    "shared": (shared, "called 2 times"),
    "in training": (lambda: functional(lambda x: layers.LSTM(4, dropout=0.5)(x, training=True)), "'training'=True"),
    "last step": (lambda: functional(lambda x: layers.LSTM(4, return_sequences=True)(x)[:, -1]), "'get_item'"),
    "operation": (lambda: functional(lambda x: keras.ops.relu(layers.LSTM(4)(x))), "'Relu'"),
    "residual": (lambda: functional(lambda x: x + layers.LSTM(3, return_sequences=True)(x)), "expected one input|Add"),
    "half input": (lambda: sequential(layers.LSTM(4), dtype="float16"), "input of dtype 'float16'"),
    "integer features": (lambda: sequential(layers.LSTM(4), dtype="int32"), "input of dtype 'int32'"),
    "ids as floats": (lambda: sequential(layers.Embedding(6, 3), layers.GRU(2), shape=(None,), dtype="float32"), None),
    "ids in a byte": (lambda: sequential(layers.Embedding(6, 3), layers.GRU(2), shape=(None,), dtype="uint8"), None),
    "two precisions": (
        lambda: sequential(layers.GRU(3, return_sequences=True, dtype="float64"), layers.LSTM(2, dtype="float32")),
        "float32 and float64 layers are mixed",
    ),
    "quantized": (lambda: quantized(sequential(layers.LSTM(4), layers.Dense(3))), "dtype policy|quantization_config"),
    "adapted": (adapted, "lora_rank=2 .* built without enable_lora"),
    "slope and threshold": (
        lambda: sequential(layers.GRU(3), layers.ReLU(threshold=0.3, negative_slope=0.2)),
        r"negative_slope=0\.2, threshold=0\.3",
    ),
    "function from a script, registered": (lambda: sequential(layers.LSTM(4, activation=registered)), "'mine>|own"),
    "class from a script": (lambda: sequential(Dense(4)), "somebody's own|'mine>Dense'"),
}  # fmt: skip


@keras.saving.register_keras_serializable("mine")
def registered(x):
    return keras.ops.sin(x)


@keras.saving.register_keras_serializable("mine")
class Dense(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, tmp_path):
    build, refusal = NETWORKS[name]
    model = build()
    judge(model if refusal else randomize(model), tmp_path, refusal)


def tanh(x):
    return keras.ops.sin(x)


class Sequential(keras.Sequential):
    pass


class LSTMCell(layers.LSTMCell):
    pass


def patched():
    model = sequential(layers.LSTM(4))
    model.layers[0].call = lambda x, **options: 2 * x
    return model


def repeated():
    layer = layers.LSTM(3, return_sequences=True)
    return sequential(layer, layers.Dense(3), layer)


#: What only a live model tells, for its configuration names Keras' own.
LIVE = {
    "function of the same name": (lambda: sequential(layers.LSTM(4, activation=tanh)), "activation 'tanh' is a func"),
    "another framework's function": (lambda: sequential(layers.Dense(4, activation=keras.ops.gelu)), "'gelu' is a"),
    "partial function": (
        lambda: sequential(layers.Dense(4, activation=functools.partial(keras.activations.gelu, approximate=True))),
        r"activation functools\.partial",
    ),
    "model class of the same name": (lambda: Sequential([keras.Input((None, 3)), layers.LSTM(4)]), "somebody's own"),
    "cell class of the same name": (lambda: sequential(layers.RNN(LSTMCell(4))), "'lstm_cell.*somebody's own"),
    "a layer twice": (repeated, "a layer stands in it twice"),
    "call of one's own": (patched, r"its call\(\) was replaced"),
}


@pytest.mark.parametrize("name", LIVE)
def test_live_objects_that_are_not_what_they_are_called(name):
    build, refusal = LIVE[name]
    with pytest.raises(UnsupportedModelError, match=refusal):
        from_keras_model(build())


def test_classes_of_a_script_are_refused_in_archives(tmp_path):
    """Keras writes no module for them, and the name that they share with its own."""
    for index, layer in enumerate((layers.RNN(LSTMCell(4)), Sequential([layers.LSTM(4)]))):
        model = sequential(layer)
        model.save(tmp_path / f"{index}.keras")
        with pytest.raises(UnsupportedModelError, match=re.escape("is not Keras' own, and no code is ever loaded")):
            load_spec(tmp_path / f"{index}.keras")
