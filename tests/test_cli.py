"""The command line: exit codes, what lands on which stream, JSON, and never a lost file."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from specs import dense, embedding, every_spec, stack, tiny

import lstm_fast as lf
from lstm_fast import cli, reference
from lstm_fast.check import difference
from lstm_fast.cli import main
from lstm_fast.fileformat import lstmf_bytes, read_lstmf, write_lstmf
from lstm_fast.spec import ModelSpec

SPECS = every_spec()
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Every test in a directory of its own, with a model and an input for it."""
    monkeypatch.chdir(tmp_path)
    write_lstmf(tiny(), "model.lstmf")
    np.save("x.npy", np.random.RandomState(0).uniform(-1, 1, (5, 6, 2)).astype(np.float32))
    return tmp_path


def run_json(capsys, *argv: str) -> tuple[int, dict]:
    code = main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def fails(capsys, *argv: str) -> str:
    """The one message of a command that must fail with exit code 1 and print nothing else."""
    assert main(list(argv)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("lstm-fast: error: ")
    assert printed.err.endswith("\n")
    return printed.err.removeprefix("lstm-fast: error: ").rstrip("\n")


def shell(*argv: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lstm_fast", *argv]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, check=False, **options)


# The command as a whole


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["frobnicate"],
        ["inspect"],
        ["import", "model.lstmf"],
        ["predict", "model.lstmf", "x.npy"],
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--batch-size", "0"],
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--num-threads", "-1"],
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--dtype", "float16"],
        ["verify", "model.lstmf", "--tol", "0"],
        ["verify", "model.lstmf", "--tol", "nan"],
        ["import", "model.lstmf", "-o", "m.lstmf", "--batch-first", "--time-first"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: lstm-fast" in printed.err


@pytest.mark.parametrize("command", ["import", "inspect", "predict", "verify", "doctor"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"lstm-fast {lf.__version__}\n"


def test_python_m():
    found = shell("inspect", "model.lstmf", "--json", capture_output=True)
    assert found.returncode == 0
    assert json.loads(found.stdout)["command"] == "inspect"
    assert found.stderr == b""


def test_importing_the_command_line_is_light():
    code = """
import sys
import lstm_fast
before = set(sys.modules)
import lstm_fast.cli
print(*sorted(set(sys.modules) - before))
"""
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    new = found.stdout.decode().split()
    assert "lstm_fast.cli" in new
    heavy = ("lstm_fast.importers", "lstm_fast.fileformat", "safetensors", "tqdm", "h5py", "torch", "keras")
    assert [name for name in new if name.startswith(heavy)] == []


def test_errors_are_one_message_without_a_traceback():
    found = shell("inspect", "nowhere.lstmf", capture_output=True)
    assert found.returncode == 1
    assert found.stdout == b""
    assert found.stderr == b"lstm-fast: error: nowhere.lstmf: No such file or directory\n"


def test_errors_in_json(capsys):
    code, found = run_json(capsys, "inspect", "nowhere.lstmf")
    assert code == 1
    error = {"type": "FileNotFoundError", "message": "nowhere.lstmf: No such file or directory"}
    assert found == {"command": "inspect", "ok": False, "error": error}


def test_a_damaged_file_is_an_error(capsys):
    Path("bad.lstmf").write_bytes(lstmf_bytes(tiny())[:-1])
    assert "bad.lstmf: " in fails(capsys, "inspect", "bad.lstmf")


def test_ctrl_c_exits_with_130(capsys, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.inspect_model, "run", interrupt)
    assert main(["inspect", "model.lstmf"]) == 130
    assert capsys.readouterr().err == "lstm-fast: interrupted\n"


def test_running_out_of_memory_is_an_error(capsys, monkeypatch):
    def exhaust(args):
        raise MemoryError

    monkeypatch.setattr(cli.inspect_model, "run", exhaust)
    assert "not enough memory" in fails(capsys, "inspect", "model.lstmf")


def test_a_closed_pipe_is_quiet():
    command = [sys.executable, "-m", "lstm_fast", "inspect", "model.lstmf"]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_terminal_codes_in_a_file_are_not_printed(capsys):
    write_lstmf(ModelSpec((dense(name="\x1b[31mred\nbait"),)), "evil.lstmf")
    assert main(["inspect", "evil.lstmf"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[31mred\\nbait.weight" in printed


# import


def test_import_writes_the_native_file(capsys):
    assert main(["import", "model.lstmf", "-o", "copy.lstmf"]) == 0
    assert Path("copy.lstmf").read_bytes() == Path("model.lstmf").read_bytes()
    assert "copy.lstmf (" in capsys.readouterr().out


def test_import_in_json(capsys):
    code, found = run_json(capsys, "import", "model.lstmf", "-o", "copy.lstmf")
    assert code == 0
    assert found == {
        "command": "import",
        "ok": True,
        "output": "copy.lstmf",
        "bytes": Path("copy.lstmf").stat().st_size,
        "dtype": "float32",
        "batch_first": True,
        "source": {"kind": "arrays", "sha256": ""},
        "layers": [
            {"name": "lstm", "type": "LSTM", "output_size": 2, "parameters": 40, "options": ""},
            {"name": "dense", "type": "Dense", "output_size": 1, "parameters": 3, "options": ""},
        ],
    }


def test_import_never_replaces_a_file_unasked(capsys):
    Path("out.lstmf").write_bytes(b"precious")
    message = fails(capsys, "import", "model.lstmf", "-o", "out.lstmf")
    assert message.endswith("out.lstmf: exists already; give another name, or --force to replace it")
    assert Path("out.lstmf").read_bytes() == b"precious"
    assert main(["import", "model.lstmf", "-o", "out.lstmf", "--force"]) == 0
    assert Path("out.lstmf").read_bytes() == Path("model.lstmf").read_bytes()


def test_a_failed_import_leaves_no_file(capsys):
    Path("bad.pt").write_bytes(b"no model")
    fails(capsys, "import", "bad.pt", "-o", "out.lstmf", "--force")
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["bad.pt", "model.lstmf", "x.npy"]


def test_import_to_standard_output(capfdbinary):
    assert main(["import", "model.lstmf", "-o", "-"]) == 0
    printed = capfdbinary.readouterr()
    assert printed.out == Path("model.lstmf").read_bytes()
    assert b"lstm" in printed.err


def test_import_changes_the_dtype_when_asked(capsys):
    assert main(["import", "model.lstmf", "-o", "wide.lstmf", "--dtype", "float64"]) == 0
    assert "run in float32 unless" in capsys.readouterr().out
    assert read_lstmf(Path("wide.lstmf").read_bytes()).dtype == np.float64
    assert main(["import", "wide.lstmf", "-o", "narrow.lstmf", "--dtype", "float32"]) == 0
    assert Path("narrow.lstmf").read_bytes() == Path("model.lstmf").read_bytes()


def test_import_refuses_what_means_nothing_for_the_source(capsys):
    assert "module=" in fails(capsys, "import", "model.lstmf", "-o", "out.lstmf", "--module", "lstm")


# inspect


def test_inspect(capsys):
    write_lstmf(SPECS["provenance"], "from_torch.lstmf")
    assert main(["inspect", "from_torch.lstmf"]) == 0
    printed = capsys.readouterr().out
    assert "läyer/0.é.weight_ih_l0" in printed
    assert "i,f,g,o" in printed
    assert "encoder.weight_ih_l0 + \\x1b[31m" in printed
    assert "abababab" in printed


def test_inspect_in_json(capsys):
    code, found = run_json(capsys, "inspect", "model.lstmf")
    assert code == 0
    assert list(found) == [
        "command",
        "ok",
        "file",
        "source",
        "dtype",
        "batch_first",
        "takes_ids",
        "input_size",
        "output_size",
        "returns_sequences",
        "parameters",
        "layers",
        "tensors",
    ]
    assert found["parameters"] == 43
    assert found["tensors"][0] == {
        "name": "lstm.weight_ih_l0",
        "shape": [8, 2],
        "dtype": "float32",
        "gates": "i,f,g,o",
        "source": "",
        "note": "",
    }


@pytest.mark.parametrize("name", SPECS)
def test_inspect_shows_every_model(name, capsys):
    write_lstmf(SPECS[name], "any.lstmf")
    assert main(["inspect", "any.lstmf"]) == 0
    printed = capsys.readouterr().out
    assert all(layer.name in printed for layer in SPECS[name].layers)
    code, found = run_json(capsys, "inspect", "any.lstmf")
    assert code == 0
    assert [tensor["name"] for tensor in found["tensors"]] == [key for key, _ in SPECS[name].tensors()]


# predict


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


def test_predict_refuses_every_truncated_array(capsys):
    data = Path("x.npy").read_bytes()
    for size in range(0, len(data), 7):
        Path("cut.npy").write_bytes(data[:size])
        assert "expected an array saved by numpy.save" in fails(capsys, "predict", "model.lstmf", "cut.npy", "-o", "y")


def test_a_forced_instruction_set_that_is_missing_is_named(capsys):
    assert "avx9" in fails(capsys, "predict", "model.lstmf", "x.npy", "-o", "y.npy", "--isa", "avx9")


@pytest.mark.parametrize("threads", ["1000", "several"])
def test_a_wrong_environment_is_an_error_not_a_traceback(threads, capsys, monkeypatch):
    monkeypatch.setenv("LSTM_FAST_NUM_THREADS", threads)
    assert "LSTM_FAST_NUM_THREADS: expected" in fails(capsys, "predict", "model.lstmf", "x.npy", "-o", "y.npy")


# verify


@pytest.mark.parametrize("name", SPECS)
def test_verify_passes_on_every_model(name, capsys):
    write_lstmf(SPECS[name], "any.lstmf")
    code, found = run_json(capsys, "verify", "any.lstmf")
    assert [(check["name"], check["passed"]) for check in found["checks"]] == [("recorded", True), ("reference", True)]
    assert code == 0


def test_verify_in_words(capsys):
    assert main(["verify", "model.lstmf"]) == 0
    printed = capsys.readouterr().out
    assert "output recorded in the file" in printed
    assert "FAILED" not in printed


def test_verify_fails_above_the_tolerance(capsys):
    code, found = run_json(capsys, "verify", "model.lstmf", "--tol", "1e-300")
    assert code == 1
    assert found["ok"] is False
    recorded, fresh = found["checks"]
    assert recorded["tolerance"] == 2**-23
    assert fresh["tolerance"] == 1e-300
    assert not fresh["passed"]


def test_verify_in_float64(capsys):
    write_lstmf(SPECS["lstm float64"], "wide.lstmf")
    code, found = run_json(capsys, "verify", "wide.lstmf", "--dtype", "float64", "--tol", "1e-12")
    assert code == 0, found


def test_verify_against_the_source(capsys):
    write_lstmf(tiny(), "source.lstmf")
    code, found = run_json(capsys, "verify", "model.lstmf", "--against", "source.lstmf")
    assert code == 0
    assert [check["name"] for check in found["checks"]] == ["recorded", "reference", "against"]


def test_verify_against_other_weights_fails(capsys):
    write_lstmf(ModelSpec((stack(inputs=2, hidden=2, seed=77), dense(2, 1))), "other.lstmf")
    assert main(["verify", "model.lstmf", "--against", "other.lstmf"]) == 1
    assert "does not hold the source's model" in capsys.readouterr().out


def test_verify_against_another_output_shape_is_null_in_json(capsys):
    write_lstmf(ModelSpec((stack(inputs=2, hidden=2), dense(2, 3))), "other.lstmf")
    code, found = run_json(capsys, "verify", "model.lstmf", "--against", "other.lstmf")
    assert code == 1
    assert found["checks"][2]["difference"] is None


@pytest.mark.parametrize("name", ["lstm", "text"])
def test_verify_against_another_input_is_an_error(name, capsys):
    write_lstmf(SPECS[name], "other.lstmf")
    message = fails(capsys, "verify", "model.lstmf", "--against", "other.lstmf")
    assert "--against: the two models take different inputs" in message


def test_verify_catches_a_wrong_engine(capsys, monkeypatch):
    genuine = reference.forward

    def shifted(*args, **kwargs):
        y, states = genuine(*args, **kwargs)
        return y + 1e-3, states

    monkeypatch.setattr(reference, "forward", shifted)
    assert main(["verify", "model.lstmf"]) == 1
    assert "FAILED" in capsys.readouterr().out


# doctor


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert lf.__version__ in printed
    assert "run on generic, packed" in printed


def test_doctor_in_json(capsys):
    code, found = run_json(capsys, "doctor")
    assert code == 0
    assert list(found) == ["command", "ok", "config", "checks"]
    assert found["config"] == json.loads(json.dumps(lf.config()))
    assert {tuple(check) for check in found["checks"]} == {("name", "status", "found", "advice")}
    runs = [check for check in found["checks"] if check["name"].startswith("run on")]
    config = found["config"]
    usable = [name for name, status in config["isa"]["known"].items() if status == "usable"]
    assert len(runs) == len(usable) * len(config["backends"])
    assert {check["status"] for check in runs} == {"ok"}


@pytest.mark.parametrize(
    ("name", "value"), [("LSTM_FAST_ISA", "avx9"), ("LSTM_FAST_BACKEND", "mkl"), ("LSTM_FAST_NUM_THREADS", "0")]
)
def test_doctor_names_what_the_environment_asks_for_in_vain(name, value, capsys, monkeypatch):
    monkeypatch.setenv(name, value)
    code, found = run_json(capsys, "doctor")
    assert code == 1
    [problem] = [check for check in found["checks"] if check["status"] == "problem"]
    assert problem["name"] == "environment"
    assert f"{name}={value}" in problem["found"]
    assert name in problem["advice"]


def test_doctor_says_how_to_install_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    assert "pip install 'lstm_fast[keras]'" in capsys.readouterr().out


def test_doctor_notes_a_held_back_blas(capsys, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert main(["doctor"]) == 0
    assert "unset it before comparing speeds" in capsys.readouterr().out


def test_doctor_finds_a_wrong_engine(capsys, monkeypatch):
    monkeypatch.setattr("lstm_fast.check.difference", lambda y, expected: 0.5)
    code, found = run_json(capsys, "doctor")
    assert code == 1
    assert {check["status"] for check in found["checks"] if check["name"].startswith("run on")} == {"problem"}
