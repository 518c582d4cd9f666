"""The command line on standard streams that are full, closed, or in another encoding than UTF-8."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from commands import shell
from specs import every_spec

from lstm_fast.fileformat import write_lstmf

pytestmark = pytest.mark.usefixtures("workplace")

FULL = b"lstm-fast: error: standard output: No space left on device\n"
CLOSED = b"lstm-fast: error: standard output is closed\n"
TO_STDOUT = ["predict", "model.lstmf", "x.npy", "-o", "-"]


def without(descriptor: int, *argv: str) -> subprocess.CompletedProcess:
    """A run of the command with a standard stream closed, as by the shell's ``<&-``, ``>&-`` and ``2>&-``."""
    return shell(*argv, capture_output=True, preexec_fn=lambda: os.close(descriptor))


@pytest.fixture
def full():
    """A file that nothing can be written to."""
    with Path("/dev/full").open("wb") as file:
        yield file


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def _buffering(request, monkeypatch):
    """Python meets a full disk at a flush, or at the write itself."""
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


@pytest.fixture
def _ascii(monkeypatch, workplace):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    write_lstmf(every_spec()["provenance"], "unicode.lstmf")


@pytest.mark.usefixtures("_buffering")
@pytest.mark.parametrize(
    "argv",
    [["--version"], ["inspect", "model.lstmf"], ["inspect", "model.lstmf", "--json"], ["doctor"], TO_STDOUT],
    ids=" ".join,
)
def test_full_output_is_one_error(argv, full):
    found = shell(*argv, stdout=full, stderr=PIPE)
    assert (found.returncode, found.stderr.removesuffix(FULL)) == (1, b"")


@pytest.mark.usefixtures("_buffering")
def test_data_that_cannot_be_written_are_an_error_in_json(full):
    found = shell(*TO_STDOUT, "--json", stdout=full, stderr=PIPE)
    assert found.returncode == 1
    assert found.stderr.startswith(FULL)
    report = json.loads(found.stderr.removeprefix(FULL))
    assert (report["ok"], report["error"]["message"]) == (False, "standard output: No space left on device")


@pytest.mark.usefixtures("_buffering")
def test_errors_that_cannot_be_told_keep_their_exit_code(full):
    found = shell("inspect", "nowhere.lstmf", "--json", stdout=PIPE, stderr=full)
    assert found.returncode == 1
    assert json.loads(found.stdout)["error"]["type"] == "FileNotFoundError"


@pytest.mark.parametrize(
    "argv",
    [["inspect", "model.lstmf"], ["inspect", "model.lstmf", "--json"], ["doctor"], TO_STDOUT],
    ids=" ".join,
)
def test_closed_output_is_one_error(argv):
    found = without(1, *argv)
    assert (found.returncode, found.stderr) == (1, CLOSED)


def test_closed_output_leaves_no_file():
    found = without(1, "import", "model.lstmf", "-o", "copy.lstmf")
    assert (found.returncode, found.stderr) == (1, CLOSED)
    assert not Path("copy.lstmf").exists()


def test_wrong_usage_is_that_on_a_closed_output():
    assert without(1, "inspect").returncode == 2


def test_closed_input_is_one_error():
    found = without(0, "predict", "model.lstmf", "-", "-o", "y.npy")
    assert (found.returncode, found.stderr) == (1, b"lstm-fast: error: standard input is closed\n")
    assert not Path("y.npy").exists()


def test_nothing_meant_for_a_closed_error_stream_goes_elsewhere():
    found = without(2, *TO_STDOUT)
    assert found.returncode == 0
    assert len(found.stdout) == 128 + np.load(io.BytesIO(found.stdout)).nbytes
    found = without(2, "inspect", "nowhere.lstmf")
    assert (found.returncode, found.stdout) == (1, b"")


@pytest.mark.usefixtures("_ascii")
@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["bench", "model.lstmf", "--seconds", "0.001"], b"Median \\xb5s"),
        (["inspect", "unicode.lstmf"], b"l\\xe4yer/0.\\xe9.weight_ih_l0"),
        (["import", "unicode.lstmf", "-o", "copy.lstmf"], b"l\\xe4yer/0.\\xe9"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_the_encoding_lacks_is_escaped(argv, text):
    found = shell(*argv, capture_output=True)
    assert (found.returncode, found.stderr) == (0, b"")
    assert text in found.stdout


@pytest.mark.usefixtures("_ascii")
def test_what_the_encoding_lacks_is_escaped_beside_data():
    found = shell("import", "unicode.lstmf", "-o", "-", capture_output=True)
    assert found.stdout == Path("unicode.lstmf").read_bytes()
    assert b"l\\xe4yer/0.\\xe9" in found.stderr
