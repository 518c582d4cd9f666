"""Before the first call: weights into panels, and a file into a model."""

from __future__ import annotations

import pytest

import lstm_fast as lf
from bench.shapes import Shape
from lstm_fast.fileformat import write_lstmf

SIZES = (32, 128, 512)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.benchmark(group="packing: a ModelSpec into a Model")
def test_packing(benchmark, kind, size):
    benchmark(lf.Model, Shape(kind, 1, 1, size, size).network())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(group="loading a native file, its digest checked")
def test_loading(benchmark, size, tmp_path):
    write_lstmf(Shape("lstm", 1, 1, size, size).network(), tmp_path / "model.lstmf")
    benchmark(lf.load, tmp_path / "model.lstmf")
