"""``lstm-fast doctor``: what this installation can use, whether it computes rightly, and what to do about the rest."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ._shared import Result, new_parser

_OK, _NOTE, _PROBLEM = "ok", "note", "problem"
_TOLERANCE = 1e-5
_OPTIONAL = {
    "h5py": ("keras", "needed to read .keras and .h5 files"),
    "tqdm": ("cli", "shows progress in predict and bench"),
    "matplotlib": ("plot", "draws the plots of the examples"),
}


@dataclass(frozen=True)
class _Check:
    name: str
    status: str
    found: str
    advice: str = ""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    return new_parser(
        commands,
        "doctor",
        "check this installation and say what to do",
        "Show what this installation can use, run a small model on all of it, and say what to do about what is missing."
        " Exits with 1 where something is broken.",
    )


def run(args: argparse.Namespace) -> Result:
    from ..summary import table

    checks = [*_environment(), *_instruction_sets(), _blas(), *_self_tests(), *_optional_packages()]
    config, config_text = _config()
    rows = [[check.name, check.status, check.found, check.advice] for check in checks]
    text = f"{config_text}{table(['Check', 'Status', 'Found', 'What to do'], rows)}"
    broken = any(check.status == _PROBLEM for check in checks)
    return Result(int(broken), {"config": config, "checks": [asdict(check) for check in checks]}, text)


def _config() -> tuple[dict[str, Any] | None, str]:
    """The configuration as data and as text; nothing where the environment asks for what there is not."""
    from .. import config, show_config
    from ..errors import LstmFastError

    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            show_config()
        return config(), f"{text.getvalue()}\n"
    except (LstmFastError, ValueError):
        return None, ""


def _instruction_sets() -> Iterator[_Check]:
    from .._engine import isa_status

    for name, words in isa_status().items():
        if words == "not built":
            advice = "build lstm_fast again with a compiler that knows it"
            yield _Check(f"instruction set {name}", _NOTE, words, advice)
        else:
            yield _Check(f"instruction set {name}", _OK, words)


def _blas() -> _Check:
    from .._engine import available, blas_name

    name = blas_name()
    if name is None:
        return _Check("BLAS", _NOTE, "none in this build", "for backend='blas', build with LSTM_FAST_BLAS=auto")
    if "blas" not in available()["backends"]:
        return _Check("BLAS", _PROBLEM, f"{name}, whose library cannot be loaded", "install lstm_fast again")
    return _Check("BLAS", _OK, name)


def _self_tests() -> Iterator[_Check]:
    """A small model on every pair of instruction set and backend, against the float64 reference."""
    from .. import load
    from .._engine import available
    from ..check import difference
    from ..errors import LstmFastError
    from ..fileformat import lstmf_bytes, read_check

    data = lstmf_bytes(_small_model())
    check = read_check(data)
    for isa in available()["isas"]:
        for backend in available()["backends"]:
            name = f"run on {isa}, {backend}"
            try:
                model = load(data, isa=isa, backend=backend, num_threads=1)
                y, _ = model.forward_sequence(check.x, lengths=check.lengths)
            except LstmFastError as error:
                yield _Check(name, _PROBLEM, str(error), "build lstm_fast again")
                continue
            off = difference(y, check.y)
            if off <= _TOLERANCE:
                yield _Check(name, _OK, f"off by {off:.1e}")
            else:
                yield _Check(name, _PROBLEM, f"off by {off:.1e}", "do not use it here; please report this")


def _small_model() -> Any:
    """Two directions of LSTM under a GRU, of sizes no vector register divides."""
    import numpy as np

    from ..spec import Cell, ModelSpec, Recurrent

    def wave(*shape: int) -> np.ndarray:
        return (np.sin(np.arange(np.prod(shape)) * 0.7 + len(shape)) / 3).astype(np.float32).reshape(shape)

    lstm = Cell("lstm", wave(4 * 19, 5), wave(4 * 19, 19), wave(4 * 19))
    gru = Cell("gru", wave(3 * 7, 38), wave(3 * 7, 7), wave(3 * 7), wave(7))
    return ModelSpec((Recurrent("lstm", ((lstm, lstm),)), Recurrent("gru", ((gru,),))))


def _environment() -> Iterator[_Check]:
    """What the environment asks for can be had, and does not hold anything back."""
    from .. import load
    from ..errors import LstmFastError
    from ..fileformat import lstmf_bytes

    asked = {name: value for name, value in sorted(os.environ.items()) if name.startswith("LSTM_FAST_")}
    shown = ", ".join(f"{name}={value}" for name, value in asked.items()) or "nothing set"
    try:
        load(lstmf_bytes(_small_model()))
    except (LstmFastError, ValueError) as error:
        yield _Check("environment", _PROBLEM, f"{shown}: {error}", f"unset or change {', '.join(asked)}")
    else:
        yield _Check("environment", _OK, shown)
    if core := os.environ.get("OPENBLAS_CORETYPE"):
        advice = "unset it before comparing speeds: every OpenBLAS obeys it, NumPy's too"
        yield _Check("OPENBLAS_CORETYPE", _NOTE, core, advice)


def _optional_packages() -> Iterator[_Check]:
    for name, (extra, purpose) in _OPTIONAL.items():
        if importlib.util.find_spec(name) is not None:
            yield _Check(name, _OK, "installed")
        else:
            yield _Check(name, _NOTE, f"not installed; {purpose}", f"pip install 'lstm_fast[{extra}]'")
