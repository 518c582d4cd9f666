"""Hostile files, whole: each an error of the family, within a second and little memory, and nothing else touched."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT
from hostile import FILES, GOLDEN, HARMLESS, keras, network, object_of

from lstm_fast.errors import LstmFastError, ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.importers import load_spec

h5py = pytest.importorskip("h5py")

MIB = 1 << 20

#: Loads the files named on its command line, after one good file of each format; says for each what came of it, what
#: it cost, and what it touched besides itself.
PROGRAM = """
import contextlib, json, os, resource, sys, time
from pathlib import Path
from lstm_fast.errors import LstmFastError
from lstm_fast.importers import load_spec

good, files = json.loads(sys.stdin.read())
for path in good:  # imports what each format needs; of a file of several modules only the names
    with contextlib.suppress(LstmFastError):
        load_spec(path)
"\\n".encode("unicode_escape")  # Python looks a codec up once

WATCHED = ("open", "import", "exec", "compile", "socket", "subprocess", "os", "ctypes", "pickle", "shutil", "urllib")
current, touched = None, []

def watch(event, args):
    if current is None or event.split(".")[0] not in WATCHED:
        return
    if event == "open" and (args[0] in (current, os.devnull) or isinstance(args[0], int)):
        return
    if event == "subprocess.Popen" and Path(args[1][-2]).name == "_hdf5_child.py" and args[0] == sys.executable:
        return
    touched.append(repr((event, args))[:300])

def peak():
    return next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss << 10

sys.addaudithook(watch)
start = children()[1]
for path in files:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present again
    before, started, child = peak(), time.process_time(), children()
    touched.clear()
    current = path
    try:
        load_spec(path)
        outcome = "loaded"
    except LstmFastError as error:
        outcome = type(error).__name__
        assert len(str(error)) < 20_000
    except BaseException as error:
        outcome = "!" + repr(error)
    current = None
    print(json.dumps({
        "outcome": outcome, "seconds": time.process_time() - started, "memory": peak() - before,
        "child_seconds": children()[0] - child[0], "child_memory": children()[1] - start, "touched": touched,
    }))
"""


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> dict[str, dict]:
    """What became of every file, by name; ``size`` is the file's."""
    folder = tmp_path_factory.mktemp("hostile")
    made = FILES | HARMLESS
    paths = [folder / f"{index}.bin" for index in range(len(made))]
    for path, make in zip(paths, made.values(), strict=True):
        path.write_bytes(make())
    good = [GOLDEN / name for name in ("keras/k3_sequential.keras", "keras/k3_sequential.h5", "torch/gru_cell.pt",
            "torch/gru_legacy.pth", "torch/text_bfloat16.safetensors", "lstmf/v1-text.lstmf")]  # fmt: skip
    request = json.dumps([list(map(str, good)), list(map(str, paths))])
    command, environment = [sys.executable, "-c", PROGRAM], os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, input=request, capture_output=True, text=True, cwd=folder, env=environment, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    assert not (folder / "hacked").exists()
    lines = map(json.loads, run.stdout.splitlines())
    sizes = [path.stat().st_size for path in paths]
    return {name: line | {"size": size} for name, line, size in zip(made, lines, sizes, strict=True)}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files_are_refused_cheaply_and_touch_nothing(name, findings):
    found = findings[name]
    assert found["outcome"] in ("ModelFormatError", "UnsupportedModelError", "ModelLimitError", "ModuleChoiceError")
    assert found["touched"] == []
    assert found["size"] < 1.1e6
    assert found["seconds"] < 1
    assert found["memory"] <= 64 * MIB + 2 * found["size"]
    assert found["child_seconds"] < 1.5  # the start of an interpreter among them
    assert found["child_memory"] <= 100 * MIB + 2 * found["size"]


@pytest.mark.parametrize("name", HARMLESS)
def test_code_in_unread_places_stays_unread(name, findings):
    assert findings[name]["outcome"] == "loaded"
    assert findings[name]["touched"] == []


# Paths and file objects.


def test_paths_that_are_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    (tmp_path / "empty").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    for path in ("dangling", "loop", "empty/x", "x" * 5000):
        with pytest.raises(OSError, match=path[:5]):
            load_spec(path)
    for path in ("pipe", "socket", ".", "/dev/null", "/dev/zero", ""):
        with pytest.raises(ModelFormatError, match=rf"^{path}: expected a regular file, got "):
            load_spec(path)
    for path in ("empty", "/proc/cpuinfo"):  # which says that it has no bytes
        with pytest.raises(ModelFormatError, match=f"^{path}: the file is empty"):
            load_spec(path)


def test_huge_files_of_no_kind_are_not_read(tmp_path):
    for size, error in ((4 << 30, ModelFormatError), (1 << 42, ModelLimitError)):
        with (tmp_path / "sparse").open("wb") as file:
            file.truncate(size)
        with pytest.raises(error, match="sparse: "):
            load_spec(tmp_path / "sparse")


class More(io.RawIOBase):
    """Never ends, and gives more than it is asked for."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size + 5)


class Drops(io.BytesIO):
    """Gives one byte at a time, and lies about all else."""

    def read(self, size: int = -1) -> bytes:
        return super().read(1)

    def seek(self, *args: object) -> int:
        raise OSError("no")

    def __len__(self) -> int:
        return 1 << 60


class Gives:
    def __init__(self, value: object) -> None:
        self.value = value

    def read(self, size: int) -> object:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_file_objects_that_lie():
    data = (GOLDEN / "torch" / "gru_cell.pt").read_bytes()
    assert load_spec(Drops(data)).layers
    with pytest.raises(ModelFormatError, match="<file object>: not a model file"):
        load_spec(More())
    with open("/dev/zero", "rb") as zeros, pytest.raises(ModelFormatError, match="/dev/zero: not a model file"):  # noqa: PTH123
        load_spec(zeros)
    for value in (None, "text", bytearray(b"abc"), 3):
        with pytest.raises(TypeError, match=rf"binary mode \('rb'\), its read\(\) gave {type(value).__name__}"):
            load_spec(Gives(value))
    with pytest.raises(ZeroDivisionError):  # what a caller's own object raises is the caller's
        load_spec(Gives(ZeroDivisionError()))


# config=


CONFIGS = {
    "not text": (b"\xff\xfe", "expected JSON"),
    "cut short": (b'{"class_name": ', "expected JSON"),
    "no object": (b"[1, 2]", "expected a JSON object"),
    "deep": (b'{"a":' * 70 + b"1" + b"}" * 70, "nesting"),
    "code": (json.dumps(network(object_of("Lambda", function=["x"]))).encode(), "'Lambda'"),
    "a class of one's own": (b'{"class_name": "Popen", "module": "subprocess"}', "not Keras' own"),
    "an archive": (keras(network()), "expected JSON"),
    "empty": (b"", "expected JSON"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configurations_beside_weights(name, golden):
    config, words = CONFIGS[name]
    with pytest.raises(LstmFastError, match=words):
        load_spec(golden / "keras" / "k2_new.weights.h5", config=config)


def test_a_configuration_that_is_no_file_is_named(golden, tmp_path):
    with pytest.raises(ModelFormatError, match=rf"k2_new.*: config {tmp_path}: expected a regular file"):
        load_spec(golden / "keras" / "k2_new.weights.h5", config=tmp_path)
    with pytest.raises(FileNotFoundError):
        load_spec(golden / "keras" / "k2_new.weights.h5", config=tmp_path / "nowhere.json")
    with pytest.raises(UnsupportedModelError, match="config= means nothing"):
        load_spec(golden / "keras" / "k3_sequential.h5", config=b"{}")
