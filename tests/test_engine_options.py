"""How a model is to run: instruction set, backend, threads, precision; by argument and by environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nets import network
from specs import cell, stack

import lstm_fast as lf
from lstm_fast import Model, _engine
from lstm_fast.errors import BackendError, StateError
from lstm_fast.spec import ModelSpec, Recurrent

LSTM = network(stack("lstm", 3, 4))


@pytest.mark.parametrize("name", ["sse9", "AVX2 ", "avx2\0", "\udc80"])
def test_an_unknown_instruction_set(name):
    with pytest.raises(BackendError, match="generic") as caught:
        Model(LSTM, isa=name)
    assert repr(name) in str(caught.value)


def test_an_instruction_set_that_is_no_name():
    with pytest.raises(BackendError, match="7"):
        Model(LSTM, isa=7)


@pytest.mark.parametrize("name", ["cuda", "", 7, "PACKED"])
def test_an_unknown_backend(name):
    with pytest.raises(BackendError, match=f"backend: expected one of packed, blas, got {re.escape(repr(name))}"):
        Model(LSTM, backend=name)


@pytest.mark.parametrize("threads", [0, -1, 257, 2**40, 1.5, True, "two", "", "-1", "²", b"2", [2], np.ones(2)])
def test_an_impossible_number_of_threads(threads):
    with pytest.raises(ValueError, match=r"num_threads: expected 1 \.\. 256 or 'auto'") as caught:
        Model(LSTM, num_threads=threads)
    assert repr(threads) in str(caught.value)


@pytest.mark.parametrize("threads", ["0", "-1", "x", "True", "1.5", "257", " 2", "AUTO", "9" * 5000])
def test_an_impossible_number_of_threads_in_the_environment(threads, monkeypatch):
    monkeypatch.setenv("LSTM_FAST_NUM_THREADS", threads)
    with pytest.raises(ValueError, match=r"LSTM_FAST_NUM_THREADS: expected 1 \.\. 256 or 'auto', got '") as caught:
        Model(LSTM)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("threads", [1, 256, np.int8(2), "1", "256", "002"])
def test_numbers_of_threads(threads):
    assert Model(LSTM, num_threads=threads).num_threads == int(threads)


@pytest.mark.parametrize("dtype", ["float16", "int32", ">f4", "complex64", "xx", 3, ("f4", -1), object()])
def test_an_impossible_precision(dtype):
    with pytest.raises(ValueError, match=re.escape(f"dtype: expected 'float32' or 'float64', got {dtype!r}")):
        Model(LSTM, dtype=dtype)


@pytest.mark.parametrize("dtype", [None, "f4", np.float32, np.dtype("float64"), float])
def test_precisions(dtype):
    assert Model(LSTM, dtype=dtype).dtype == (np.float32 if dtype is None else dtype)


@pytest.mark.parametrize("spec", ["a.lstmf", Path("a.lstmf"), b"", None])
def test_what_is_no_spec(spec):
    with pytest.raises(TypeError, match=rf"spec: expected a ModelSpec, got {type(spec).__name__}; lf\.load "):
        Model(spec)


def test_a_contradictory_spec():
    with pytest.raises(lf.ModelFormatError, match=re.escape("expected shape (16, 4), got (16, 5)")):
        Model(ModelSpec((Recurrent("rnn", ((replace(cell(), weight_hh=np.zeros((16, 5), np.float32)),),)),)))


def test_a_model_is_built_once():
    model = Model(LSTM)
    with pytest.raises(StateError, match="built once"):
        model.__init__(LSTM)


def test_a_model_that_was_never_built_refuses_calls():
    for unfinished in (Model.__new__(Model), _failed()):
        with pytest.raises(StateError, match="not built"):
            unfinished.forward_sequence(np.zeros((1, 2, 3), np.float32))


def _failed() -> Model:
    model = Model.__new__(Model)
    with pytest.raises(BackendError):
        model.__init__(LSTM, isa="sse9")
    return model


def test_an_empty_name_is_no_wish_for_the_default():
    with pytest.raises(BackendError, match="isa: expected a name"):
        Model(LSTM, isa="")


def test_a_blas_that_cannot_be_loaded_is_not_offered(tmp_path, workplace):
    """As after an installation that lost its library: said by everything that speaks of backends."""
    package = Path(lf.__file__).parent
    if not (package / "_libs").is_dir():
        pytest.skip("no BLAS library is vendored in this build")
    shutil.copytree(package, tmp_path / "lstm_fast", ignore=shutil.ignore_patterns("_libs"))
    script = """
import lstm_fast as lf
assert lf.config()["backends"] == ["packed"]
lf.show_config()
try:
    lf.load("model.lstmf", backend="blas")
except lf.BackendError as error:
    print(error)
"""
    for command in (["-c", script], ["-m", "lstm_fast", "doctor"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "library cannot be loaded" in done.stdout, done.stderr
        assert done.returncode == ("doctor" in command)


SHOW = """
import lstm_fast as lf, numpy as np
m = lf.LSTM(np.ones((4, 1), np.float32), np.ones((4, 1), np.float32))
print(m.isa, m.backend, m.num_threads)
"""


def run_with(**environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LSTM_FAST_")}
    command = [sys.executable, "-c", SHOW]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_environment_chooses():
    found = _engine.available()
    isa, backend = found["isas"][0], found["backends"][-1]
    result = run_with(LSTM_FAST_ISA=isa, LSTM_FAST_BACKEND=backend, LSTM_FAST_NUM_THREADS="3")
    assert result.stdout.split() == [isa, backend, "3"], result.stderr
    best = run_with(LSTM_FAST_ISA="", LSTM_FAST_BACKEND="", LSTM_FAST_NUM_THREADS="")
    assert best.stdout.split() == [found["isas"][-1], "packed", "1"], best.stderr


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("LSTM_FAST_ISA", "mmx", "BackendError"),
        ("LSTM_FAST_BACKEND", "mkl", "BackendError"),
        ("LSTM_FAST_NUM_THREADS", "none", "ValueError"),
    ],
)
def test_what_the_environment_asks_for_in_vain_is_named(name, value, error):
    result = run_with(**{name: value})
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith((error, f"lstm_fast.errors.{error}"))
    assert f"{name}: expected " in last
    assert f"got {value!r}" in last


def test_arguments_go_before_the_environment(monkeypatch):
    for name, value in (("ISA", "mmx"), ("BACKEND", "mkl"), ("NUM_THREADS", "none")):
        monkeypatch.setenv(f"LSTM_FAST_{name}", value)
    model = Model(LSTM, isa="generic", backend="packed", num_threads=2)
    assert (model.isa, model.backend, model.num_threads) == ("generic", "packed", 2)
