"""Live Keras models through ``from_keras`` with every option, and files of theirs through ``load``."""

from __future__ import annotations

import os

import numpy as np
import pytest
from nets import bits, every_engine

import lstm_fast as lf

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.GRU(4, return_sequences=True), keras.layers.LSTM(5), keras.layers.Dense(2, "softmax")]
    return keras.Sequential([keras.Input((6, 3)), *layers])


X = np.random.default_rng(0).standard_normal((2, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", every_engine(), ids=lambda engine: "-".join(engine.values()))
def test_from_keras_takes_the_options(network, engine, dtype):
    model = lf.from_keras(network, dtype=dtype, num_threads=2, **engine)
    assert (str(model.dtype), model.num_threads) == (dtype, 2)
    assert (model.isa, model.backend) == (engine["isa"], engine["backend"])
    np.testing.assert_allclose(model.predict(X), network.predict(X, verbose=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_load_takes_the_options(network, name, tmp_path):
    network.save(tmp_path / name)
    options = {"dtype": "float64", "backend": "packed", "isa": "generic", "num_threads": 2}
    model = lf.load(tmp_path / name, **options)
    assert (str(model.dtype), model.backend, model.isa, model.num_threads) == tuple(options.values())
    assert bits(model.predict(X)) == bits(lf.from_keras(network, **options).predict(X))


def test_weights_are_copied(network):
    copied = keras.models.clone_model(network)
    model = lf.from_keras(copied)
    before = bits(model.predict(X))
    copied.set_weights([np.zeros_like(weight) for weight in copied.get_weights()])
    assert bits(model.predict(X)) == before
