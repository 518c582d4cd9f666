"""What every test file may use: the engines of this build, and the golden files.

A test that takes ``isa``, ``backend``, or ``engine_options`` runs once for each instruction set, each backend, or each
pair of them that this build and this CPU offer. ``engine_options`` are keyword arguments for the loaders.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"isa", "backend", "engine_options"}.isdisjoint(metafunc.fixturenames):
        return
    from lstm_fast import _engine

    isas, backends = (_engine.available()[key] for key in ("isas", "backends"))
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", isas)
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", backends)
    if "engine_options" in metafunc.fixturenames:
        pairs = [{"isa": isa, "backend": backend} for isa, backend in product(isas, backends)]
        metafunc.parametrize("engine_options", pairs, ids=["-".join(pair.values()) for pair in pairs])


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of committed golden files."""
    return Path(__file__).parent / "golden"


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A current directory of the test's own, with a small model and an input for it."""
    import numpy as np
    from specs import tiny

    from lstm_fast.fileformat import write_lstmf

    monkeypatch.chdir(tmp_path)
    write_lstmf(tiny(), "model.lstmf")
    np.save("x.npy", np.random.RandomState(0).uniform(-1, 1, (5, 6, 2)).astype(np.float32))
    return tmp_path
