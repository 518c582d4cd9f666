"""One kernel at a time, called from Python: what a call costs when next to nothing else is in it."""

from __future__ import annotations

import numpy as np
import pytest

from bench.shapes import Shape
from lstm_fast import Activation, Model, ModelSpec, _engine
from lstm_fast.spec import Dense, Softmax

ISAS = _engine.available()["isas"]
SIZES = (32, 128, 512)


def dense(inputs: int, outputs: int) -> Dense:
    random = np.random.default_rng(outputs)
    weight = random.uniform(-1, 1, (outputs, inputs)).astype(np.float32) / np.float32(inputs)
    return Dense("dense", weight, random.standard_normal(outputs, np.float32))


def rows(batch: int, features: int) -> np.ndarray:
    """(batch, 1, features): one step of each row."""
    return np.random.default_rng(features).standard_normal((batch, 1, features), np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "exponential", "relu", "gelu"])
@pytest.mark.benchmark(group="activation of 4096 numbers, their copy included")
def test_activation(benchmark, name, isa):
    x = np.linspace(-8, 8, 4096, dtype=np.float32)
    benchmark(_engine.activate, Activation(name), x, isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.benchmark(group="one step, one row")
def test_step(benchmark, kind, size, isa):
    model = Model(Shape(kind, 1, 1, size, size).network(), isa=isa)
    benchmark(model.forward_sequence, rows(1, size))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(group="dense layer, as wide as its input")
def test_dense(benchmark, size, batch, isa):
    benchmark(Model(ModelSpec((dense(size, size),)), isa=isa).forward_sequence, rows(batch, size))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("softmax", [False, True], ids=["without", "softmax"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(group="softmax behind a dense layer of one input, and that layer without it")
def test_softmax(benchmark, size, softmax, isa):
    layers = (dense(1, size), Softmax("softmax"))
    benchmark(Model(ModelSpec(layers[: 1 + softmax]), isa=isa).forward_sequence, rows(16, 1))
