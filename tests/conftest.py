"""What every test file may use: the engines of this build and the golden files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstm_fast import _engine

GOLDEN = Path(__file__).parent / "golden"

_available = _engine.available()
#: Instruction sets and backends this build and this CPU can run.
ISAS: list[str] = _available["isas"]
BACKENDS: list[str] = _available["backends"]


@pytest.fixture(params=ISAS)
def isa(request) -> str:
    """Each instruction set in turn."""
    return request.param


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    """Each backend in turn."""
    return request.param


@pytest.fixture(params=[(isa, backend) for isa in ISAS for backend in BACKENDS], ids="-".join)
def engine_options(request) -> dict[str, str]:
    """Keyword arguments of the loaders that force each pair of instruction set and backend in turn."""
    isa, backend = request.param
    return {"isa": isa, "backend": backend}


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of committed golden files."""
    return GOLDEN
