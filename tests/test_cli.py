"""The command line: exit codes, what lands on which stream, JSON, and never a lost file."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, fails, run_json, shell
from safetensors.numpy import save_file
from specs import dense, every_spec, tiny

import lstm_fast as lf
from lstm_fast import cli
from lstm_fast.cli import main
from lstm_fast.fileformat import lstmf_bytes, read_lstmf, write_lstmf
from lstm_fast.spec import ModelSpec

SPECS = every_spec()

pytestmark = pytest.mark.usefixtures("workplace")


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
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--num-threads", "257"],
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--dtype", "float16"],
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--backend", "cuda"],
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--isa", "sse"],
        ["predict", "model.lstmf", "x.npy", "-o", "y.npy", "--isa", ""],
        ["verify", "model.lstmf", "--backend", "cuda"],
        ["verify", "model.lstmf", "--tol", "0"],
        ["verify", "model.lstmf", "--tol", "nan"],
        ["import", "model.lstmf", "-o", "m.lstmf", "--batch-first", "--time-first"],
        ["inspect", "model.lstmf", "--limit", "entries=0"],
        ["inspect", "model.lstmf", "--limit", "patience=3"],
        ["inspect", "model.lstmf", "--limit", "entries"],
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


def test_terminal_codes_in_a_file_name_are_not_printed(capsys):
    assert main(["import", "model.lstmf", "-o", "\x1b[31m.lstmf"]) == 0
    assert "Written:    \\x1b[31m.lstmf (" in capsys.readouterr().out
    assert main(["predict", "model.lstmf", "x.npy", "-o", "\x1b[31m.npy"]) == 0
    assert "written to \\x1b[31m.npy\n" in capsys.readouterr().out


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


@pytest.fixture
def checkpoint() -> str:
    """A checkpoint of several modules."""
    shapes = {"embed.weight": (9, 3), "enc.weight_ih_l0": (16, 3), "enc.weight_hh_l0": (16, 4), "n\x1b.scale": (2,)}
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, "several.safetensors")
    return "several.safetensors"


def test_inspect_lists_what_there_is_to_choose_from(capsys, checkpoint):
    assert main(["inspect", checkpoint]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Module  What it is",
        "------  --------------------------------------------------",
        "embed   matrix 9 x 3: an embedding, or linear without bias",
        "enc     LSTM 3 -> 4",
        "n\\x1b   not supported: scale (2,)",
        "",
        "The file does not say how these follow one another. Name what to run, in order, for example:",
        "lstm-fast inspect several.safetensors --module 'embed, enc'",
    ]
    assert main(["inspect", checkpoint, "--module", "embed, enc"]) == 0
    assert "embed.weight" in capsys.readouterr().out


def test_terminal_codes_in_an_advised_command_are_not_printed(capsys, checkpoint):
    Path(checkpoint).rename("\x1b[31m.safetensors")
    assert main(["inspect", "\x1b[31m.safetensors"]) == 0
    assert "lstm-fast inspect '\\x1b[31m.safetensors' --module" in capsys.readouterr().out


def test_inspect_lists_modules_in_json(capsys, checkpoint):
    code, found = run_json(capsys, "inspect", checkpoint)
    assert (code, found["ok"], found["file"], found["example"]) == (0, True, checkpoint, "embed, enc")
    assert found["modules"][1] == {"name": "enc", "description": "LSTM 3 -> 4"}


def test_inspect_says_where_nothing_can_be_run(capsys):
    save_file({f"conv{i}.weight": np.ones((2, 2, 2), np.float32) for i in range(2)}, "conv.safetensors")
    assert main(["inspect", "conv.safetensors"]) == 0
    assert capsys.readouterr().out.endswith("None of these can be run.\n")
    assert run_json(capsys, "inspect", "conv.safetensors")[1]["example"] == ""


def test_other_commands_need_a_choice(capsys, checkpoint):
    message = fails(capsys, "import", checkpoint, "-o", "out.lstmf")
    assert 'module="embed, enc"' in message
    assert message.endswith("(on the command line: --module CHAIN)")
    assert "nothing is called 'decoder'" in fails(capsys, "inspect", checkpoint, "--module", "decoder")


def test_limits_are_raised_by_name(capsys, checkpoint):
    message = fails(capsys, "inspect", checkpoint, "--module", "enc", "--limit", "entries=2")
    assert "expected at most 2, got 4" in message
    assert message.endswith("(on the command line: --limit NAME=N)")
    assert main(["inspect", checkpoint, "--module", "enc", "--limit", "entries=4", "--limit", "nesting=9"]) == 0
    many = ModelSpec(tuple(dense(2, 2, name=f"dense{i}") for i in range(3)))
    write_lstmf(many, "many.lstmf")
    for command in ("inspect", "verify"):
        capsys.readouterr()
        assert "entries" in fails(capsys, command, "many.lstmf", "--limit", "entries=3")
        assert main([command, "many.lstmf", "--limit", "entries=20"]) == 0


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
