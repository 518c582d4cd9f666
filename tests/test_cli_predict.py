"""lstm-fast predict: arrays in and out, whatever they are."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import fails, run_json, shell
from specs import dense, embedding, stack, tiny

from lstm_fast import _engine, reference
from lstm_fast.check import difference
from lstm_fast.cli import main
from lstm_fast.fileformat import write_lstmf
from lstm_fast.spec import ModelSpec

pytestmark = pytest.mark.usefixtures("workplace")


def expected(spec: ModelSpec, x: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    return reference.forward(spec, x, lengths=lengths)[0]


def test_predict(capsys):
    assert main(["predict", "model.lstmf", "x.npy", "-o", "y.npy"]) == 0
    y = np.load("y.npy")
    assert y.dtype == np.float32
    assert difference(y, expected(tiny(), np.load("x.npy"))) < 1e-5
    assert "(5, 6, 2) -> (5, 6, 1) float32" in capsys.readouterr().out


def test_predict_in_json(capsys):
    code, found = run_json(capsys, "predict", "model.lstmf", "x.npy", "-o", "y.npy")
    assert code == 0
    facts = ["output", "input_shape", "output_shape", "dtype", "backend", "isa", "num_threads", "seconds"]
    assert list(found) == ["command", "ok", *facts]
    assert found["output_shape"] == [5, 6, 1]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("sequences", [True, False])
def test_batches_do_not_change_the_result(batch_size, batch_first, sequences):
    spec = ModelSpec((stack(inputs=2, return_sequences=sequences), dense()), batch_first=batch_first)
    write_lstmf(spec, "m.lstmf")
    x, lengths = np.load("x.npy"), np.array([6, 1, 3, 0, 5])
    np.save("in.npy", x if batch_first else x.swapaxes(0, 1))
    np.save("lengths.npy", lengths)
    argv = ["predict", "m.lstmf", "in.npy", "--lengths", "lengths.npy", "--force"]
    assert main([*argv, "-o", "whole.npy", "--batch-size", "5"]) == 0
    assert main([*argv, "-o", "parts.npy", "--batch-size", str(batch_size)]) == 0
    whole = np.load("whole.npy")
    np.testing.assert_array_equal(np.load("parts.npy"), whole)
    y = whole if batch_first or not sequences else whole.swapaxes(0, 1)
    assert difference(y, expected(spec, x, lengths)) < 1e-5


def test_predict_ids():
    spec = ModelSpec((embedding(), stack("gru", return_sequences=False)))
    write_lstmf(spec, "text.lstmf")
    ids = np.arange(12).reshape(4, 3) % 7
    np.save("ids.npy", ids)
    assert main(["predict", "text.lstmf", "ids.npy", "-o", "y.npy", "--batch-size", "3"]) == 0
    assert difference(np.load("y.npy"), expected(spec, ids)) < 1e-5


def test_predict_one_sequence_without_a_batch():
    np.save("one.npy", np.load("x.npy")[0])
    assert main(["predict", "model.lstmf", "one.npy", "-o", "y.npy"]) == 0
    assert difference(np.load("y.npy"), expected(tiny(), np.load("x.npy"))[0]) < 1e-5


def test_predict_no_rows():
    np.save("none.npy", np.zeros((0, 6, 2), np.float32))
    assert main(["predict", "model.lstmf", "none.npy", "-o", "y.npy"]) == 0
    assert np.load("y.npy").shape == (0, 6, 1)


def test_predict_in_float64():
    assert main(["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--dtype", "float64"]) == 0
    y = np.load("y.npy")
    assert y.dtype == np.float64
    assert difference(y, expected(tiny(), np.load("x.npy"))) < 1e-12


def test_predict_through_pipes():
    found = shell("predict", "model.lstmf", "-", "-o", "-", input=Path("x.npy").read_bytes(), capture_output=True)
    assert found.returncode == 0
    assert difference(np.load(io.BytesIO(found.stdout)), expected(tiny(), np.load("x.npy"))) < 1e-5
    assert b"written to -" in found.stderr


def test_predict_to_standard_output_reports_json_on_stderr():
    found = shell("predict", "model.lstmf", "x.npy", "-o", "-", "--json", capture_output=True)
    assert found.returncode == 0
    assert json.loads(found.stderr)["output_shape"] == [5, 6, 1]
    assert np.load(io.BytesIO(found.stdout)).shape == (5, 6, 1)


def test_binary_is_not_printed_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "is a terminal" in fails(capsys, "predict", "model.lstmf", "x.npy", "-o", "-")


def test_predict_never_replaces_a_file_unasked(capsys):
    Path("y.npy").write_bytes(b"precious")
    assert "--force" in fails(capsys, "predict", "model.lstmf", "x.npy", "-o", "y.npy")
    assert Path("y.npy").read_bytes() == b"precious"
    assert main(["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--force"]) == 0
    assert np.load("y.npy").shape == (5, 6, 1)


def test_predict_shows_progress_to_people_only(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--batch-size", "2"]) == 0
    assert "3/3" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--batch-size", "2", "--force"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 6, 3), np.float32), "3"),
        (np.zeros((5,), np.float32), "5"),
        (np.zeros((5, 6, 2), np.complex64), "complex64"),
    ],
)
def test_predict_refuses_a_wrong_input(array, message, capsys):
    np.save("wrong.npy", array)
    assert message in fails(capsys, "predict", "model.lstmf", "wrong.npy", "-o", "y.npy")
    assert not Path("y.npy").exists()


@pytest.mark.parametrize("lengths", [[1, 2], [[1] * 5], 3])
def test_predict_refuses_lengths_of_another_shape(lengths, capsys):
    np.save("lengths.npy", np.array(lengths))
    message = fails(capsys, "predict", "model.lstmf", "x.npy", "-o", "y.npy", "--lengths", "lengths.npy")
    assert "lengths" in message
    assert "(5,)" in message


def test_predict_refuses_pickled_objects(capsys):
    np.save("objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    message = fails(capsys, "predict", "model.lstmf", "objects.npy", "-o", "y.npy")
    assert message.startswith("objects.npy: expected an array saved by numpy.save")


def array_file(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    text = header.encode("latin-1")
    size = (len(text) if length is None else length).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + text + body


def header(descr: str = "'<f4'", shape: str = "(2, 3, 2)", fortran: bool = False) -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}\n"


def test_array_files_of_every_layout():
    for number, data in enumerate(
        [
            array_file(header(), bytes(48)),
            array_file(header(), bytes(48), version=(2, 0)),
            array_file(header(fortran=True), bytes(48)),
            array_file(header("'<f8'"), bytes(96)),
            array_file(header(shape="(0, 1099511627776, 2)")),
        ]
    ):
        Path("in.npy").write_bytes(data)
        assert main(["predict", "model.lstmf", "in.npy", "-o", f"{number}.npy"]) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (array_file(header(shape="(1099511627776,)")), "declares 4398046511104 bytes of elements and holds 0"),
        (array_file(header(shape="(9223372036854775807, 9223372036854775807)")), "and holds 0"),
        (array_file(header(shape="(-1, 2)"), bytes(8)), "declares -8 bytes"),
        (array_file(header(shape="(-2, -3, 2)"), bytes(48)), "saved by numpy.save"),
        (array_file(header(shape="(2.0, 3, 2)"), bytes(48)), "shape is not valid"),
        (array_file(header(shape="(" + "1," * 1000 + ")"), bytes(4)), "saved by numpy.save"),
        (array_file(header(shape="(" + "9" * 5000 + ",)")), "Cannot parse header"),
        (array_file(header(), bytes(49)), "holds 49"),
        (array_file(header("'|O'"), bytes(96)), "pickled objects"),
        (array_file(header("[('a', '<f4'), ('b', '|O')]"), bytes(144)), "pickled objects"),
        (array_file(header("[('a', '<f4')]"), bytes(48)), "expected dtype .*float32 or float64"),
        (array_file(header("'|V0'")), "saved by numpy.save"),
        (array_file(header("__import__('os').system('touch hacked')")), "saved by numpy.save"),
        (array_file("[" * 9000), "saved by numpy.save"),
        (array_file("-" * 9000 + "1"), "saved by numpy.save"),
        (array_file(" " * 60000), "saved by numpy.save"),
        (array_file(" ", version=(2, 0), length=2**32 - 1), "saved by numpy.save"),
        (array_file(header(), bytes(48), version=(9, 0)), r"its version is \(9, 0\)"),
        (b"", "saved by numpy.save"),
        (b"PK\3\4 this is an npz", "saved by numpy.save"),
    ],
)
def test_array_files_that_lie(data, message, capsys):
    Path("lie.npy").write_bytes(data)
    found = fails(capsys, "predict", "model.lstmf", "lie.npy", "-o", "y.npy")
    assert found.startswith(("lie.npy: expected an array", "x: expected dtype"))
    assert re.search(message, found)
    assert not Path("hacked").exists()


def test_only_regular_files_are_read_as_arrays(capsys):
    os.mkfifo("pipe.npy")
    for path in ("pipe.npy", "/dev/zero", "."):
        assert "expected a regular file" in fails(capsys, "predict", "model.lstmf", path, "-o", "y.npy")


def test_predict_refuses_every_truncated_array(capsys):
    data = Path("x.npy").read_bytes()
    for size in range(0, len(data), 7):
        Path("cut.npy").write_bytes(data[:size])
        assert "expected an array saved by numpy.save" in fails(capsys, "predict", "model.lstmf", "cut.npy", "-o", "y")


def test_a_forced_instruction_set_that_is_missing_is_named(capsys, monkeypatch):
    monkeypatch.setattr(_engine, "isa_status", lambda: {"generic": "usable", "avx9": "not on this machine"})
    assert "avx9" in fails(capsys, "predict", "model.lstmf", "x.npy", "-o", "y.npy", "--isa", "avx9")


@pytest.mark.parametrize("threads", ["1000", "several"])
def test_a_wrong_environment_is_an_error_not_a_traceback(threads, capsys, monkeypatch):
    monkeypatch.setenv("LSTM_FAST_NUM_THREADS", threads)
    assert "LSTM_FAST_NUM_THREADS: expected" in fails(capsys, "predict", "model.lstmf", "x.npy", "-o", "y.npy")
