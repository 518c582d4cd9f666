"""The HDF5 child process: hostile and damaged files, and what becomes of a child that misbehaves."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import resource
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from lstm_fast.errors import LstmFastError, ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.importers import _hdf5, load_spec
from lstm_fast.importers._hdf5 import read_hdf5
from lstm_fast.limits import Limits

h5py = pytest.importorskip("h5py")

#: Damaged files per kind of damage; a campaign sets thousands.
SAMPLES = int(os.environ.get("LSTM_FAST_DAMAGED_FILES", "3"))


def made(build) -> bytes:
    """The bytes of an HDF5 file in Keras 3's layout that ``build`` fills."""
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        build(opened.create_group("layers"))
    return file.getvalue()


def test_arrays_come_back_as_they_are():
    values = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
        "double": np.array([[np.nan, -0.0, np.inf]]),
        "big_endian": np.arange(4, dtype=">f4"),
        "scalar": np.array(2.5, np.float32),
        "empty": np.empty((0, 3), np.float32),
        "packed": np.arange(1000, dtype=np.float64).reshape(10, 100),
    }

    def build(group):
        for name, value in values.items():
            options = {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (3, 40)}
            group.create_dataset(f"a/{name}", data=value, **(options if name == "packed" else {}))
        group["seed"] = np.arange(2, dtype=np.uint32)

    file = read_hdf5(made(build), Limits())
    assert file.others == {"layers/seed": "uint32"}
    assert file.layers is None
    for name, value in values.items():
        array = file.arrays[f"layers/a/{name}"]
        assert array.shape == value.shape
        assert array.tobytes() == value.astype(value.dtype.newbyteorder("<")).tobytes()


def test_attributes_and_layers_of_the_old_layout_come_back_also_in_pieces():
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened.attrs["model_config"] = '{"name": "é"}'
        group = opened.create_group("model_weights")
        group.attrs["keras_version"] = b"2.3.1"
        group.attrs["layer_names0"], group.attrs["layer_names1"] = [b"a"], [b"empty"]
        group.create_group("empty").attrs["weight_names"] = []
        layer = group.create_group("a")
        layer.attrs["weight_names0"], layer.attrs["weight_names1"] = [b"a/kernel:0"], [b"a/bias:0"]
        layer["a/kernel:0"] = np.ones((2, 2), np.float32)
        layer["a/bias:0"] = np.ones(2, np.float32)
    read = read_hdf5(file.getvalue(), Limits())
    assert read.attributes == {"model_config": '{"name": "é"}', "keras_version": "2.3.1"}
    assert read.layers == (("a", ("a/a/kernel:0", "a/a/bias:0")), ("empty", ()))


# ------------------------------------------------------------------------------------------------------- hostile files


def _external_link(group):
    group["x"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_link(group):
    group["x"] = h5py.SoftLink("/elsewhere")


def _virtual(group):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    group.create_virtual_dataset("x", layout)


def _external_storage(group):
    group.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _unknown_filter(group):
    group.create_dataset("x", data=np.zeros(100, "f4"), compression="lzf")


def _shape_bomb(group):
    group.create_dataset("x", (1 << 20, 1 << 20), "f4", chunks=(64, 64), compression="gzip")


def _missing_chunks(group):
    group.create_dataset("x", (64, 64), "f4", chunks=(8, 8), compression="gzip")[:8, :8] = np.pi * np.arange(
        64
    ).reshape(8, 8)


def _zip_bomb(group):
    group.create_dataset("x", data=np.zeros(8 << 20, "f4"), chunks=(1 << 20,), compression="gzip")


def _huge_chunk(group):
    group.create_dataset("x", data=np.zeros(1, "f4"), maxshape=(None,), chunks=(16 << 20,), compression="gzip")


def _circle(group):
    group.create_group("a")["b"] = group


def _many(group):
    for index in range(5000):
        group.create_group(str(index))


def _type(group):
    group["x"] = np.dtype("f4")


HOSTILE = {
    "external link": (_external_link, UnsupportedModelError, "'layers/x' is a link to another place"),
    "soft link": (_soft_link, UnsupportedModelError, "'layers/x' is a link to another place"),
    "virtual dataset": (_virtual, UnsupportedModelError, "values from other files"),
    "external storage": (_external_storage, UnsupportedModelError, "values from other files"),
    "unknown filter": (_unknown_filter, UnsupportedModelError, "filter 32000"),
    "shape bomb": (_shape_bomb, ModelFormatError, "declares 4398046511104 bytes, but the file stores 0"),
    "missing chunks": (_missing_chunks, ModelFormatError, "lacks some of its 64 chunks"),
    "zip bomb": (_zip_bomb, ModelLimitError, r"lf\.Limits\(inflated_bytes=\.\.\.\)"),
    "huge chunk": (_huge_chunk, ModelLimitError, r"bytes of one chunk .*lf\.Limits\(inflated_bytes=\.\.\.\)"),
    "links in a circle": (_circle, ModelLimitError, r"lf\.Limits\(nesting=\.\.\.\)"),
    "many objects": (_many, ModelLimitError, r"lf\.Limits\(entries=\.\.\.\)"),
    "named type": (_type, ModelFormatError, "expected a group or a dataset"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case):
    build, error, words = HOSTILE[case]
    with pytest.raises(error, match=words):
        read_hdf5(made(build), Limits())


def test_a_linked_layer_group_is_refused_in_the_old_layout():
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened.attrs["layer_names"] = [b"a"]
        opened["a"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(UnsupportedModelError, match="'a' is a link"):
        read_hdf5(file.getvalue(), Limits())


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"layer_names": [b"a"]}, "'a' is listed, but not in the file"),
        ({"layer_names": 3}, "expected text"),
        ({"layer_names": [[b"a"]]}, "expected text"),
        ({"layer_names": [b"\xff"]}, "not UTF-8"),
        ({}, "expected a Keras file"),
    ],
)
def test_old_layouts_that_contradict_themselves(attributes, words):
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened.attrs.update(attributes)
    with pytest.raises(ModelFormatError, match=words):
        read_hdf5(file.getvalue(), Limits())


# ---------------------------------------------------------------------------------------------- a child that misbehaves

ANSWERS = {
    "hangs": "import time; time.sleep(60)",
    "spins": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "fails": "raise SystemExit(1)",
    "says nothing": "",
    "garbage": "import os; os.write(1, b'x' * 100)",
    "no json": "import os; os.write(1, (3).to_bytes(8, 'little') + b'abc')",
    "no object": "import os; os.write(1, (2).to_bytes(8, 'little') + b'[]')",
    "wrong header": "say(attributes=[], others={}, layers=None, datasets=[])",
    "more than it sends": "say(attributes={}, others={}, layers=None, datasets=[a(shape=[1 << 40])])",
    "less than it sends": "say(attributes={}, others={}, layers=None, datasets=[a()]); os.write(1, bytes(100))",
    "negative shape": "say(attributes={}, others={}, layers=None, datasets=[a(shape=[-1])])",
    "objects": "say(attributes={}, others={}, layers=None, datasets=[a(dtype='|O')])",
    "names": "say(attributes={}, others={}, layers=[['\\ud800', []]], datasets=[])",
}
PRELUDE = """
import json, os
def a(**given): return {"path": "x", "dtype": "<f4", "shape": [1], **given}
def say(**header):
    head = json.dumps(header).encode()
    os.write(1, len(head).to_bytes(8, "little") + head)
"""


@pytest.mark.parametrize("case", ANSWERS)
def test_a_child_that_misbehaves_is_a_damaged_file(case, tmp_path, monkeypatch):
    program = tmp_path / "child.py"
    program.write_text(PRELUDE + ANSWERS[case])
    monkeypatch.setattr(_hdf5, "_PROGRAM", program)
    monkeypatch.setattr(_hdf5, "_CLOCK_FACTOR", 1 if case == "hangs" else 10)
    started = time.monotonic()
    with pytest.raises(ModelFormatError) as caught:
        read_hdf5(b"", Limits(seconds=1))
    assert time.monotonic() - started < 12
    words = {"hangs": "1 s on the clock.*Limits.seconds=", "spins": "1 s of processor time", "crashes": "SIGSEGV"}
    assert caught.match(words.get(case, "damaged"))
    assert isinstance(caught.value, ModelLimitError) == (case in ("hangs", "spins"))


@pytest.fixture
def confined(tmp_path, monkeypatch):
    """Sets what the real program does once it is confined, instead of reading."""

    def replace(action: str) -> None:
        source = _hdf5._PROGRAM.read_text()
        start = source.index("    with h5py.File(h5py.h5f.open_file_image(")
        program = tmp_path / "child.py"
        program.write_text(source[:start] + f"    {action}\n" + source[source.index("\n\ndef warm_up") :])
        monkeypatch.setattr(_hdf5, "_PROGRAM", program)

    return replace


def test_the_child_confines_itself(confined):
    confined(
        "raise RefusalError('format', json.dumps({name: resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[0]"
        " for name in 'CORE NOFILE CPU AS'.split()}))"
    )
    with pytest.raises(ModelFormatError) as caught:
        read_hdf5(b"", Limits(seconds=3))
    limits = json.loads(str(caught.value))
    assert (limits["CORE"], limits["NOFILE"]) == (0, 0)
    assert 3 <= limits["CPU"] <= 6
    if sys.platform == "linux":
        assert limits["AS"] != resource.RLIM_INFINITY


def test_a_library_that_hangs_costs_a_second(confined):
    confined("while True: pass")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(ModelLimitError, match="more than 1 s of processor time"):
        read_hdf5(b"", Limits())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 1.7


@pytest.mark.parametrize("executable", ["", None, "/nowhere/python"])
def test_no_interpreter(executable, monkeypatch):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(UnsupportedModelError, match="lstm-fast import SRC -o"):
        read_hdf5(b"", Limits())


def test_frozen_interpreter(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(UnsupportedModelError, match="embedded or frozen"):
        read_hdf5(b"", Limits())


def test_without_h5py_the_error_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "h5py" else found(name))
    with pytest.raises(UnsupportedModelError, match=r"pip install 'lstm_fast\[keras\]'"):
        read_hdf5(b"", Limits())


def test_the_environment_cannot_lead_the_child_elsewhere(tmp_path, monkeypatch, golden):
    """A module planted where PYTHONPATH points is not what the child imports."""
    (tmp_path / "h5py.py").write_text("raise SystemExit(9)")
    program = "import sys; from lstm_fast.importers import load_spec; load_spec(sys.argv[1])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(tmp_path)])}
    file = golden / "keras" / "k3_sequential.h5"
    subprocess.run([sys.executable, "-c", program, file], env=environment, cwd=tmp_path, check=True)


# ------------------------------------------------------------------------------------------------------- damaged files


def _damaged(data: bytes, rng: np.random.Generator):
    for end in np.linspace(0, len(data) - 1, SAMPLES).astype(int):
        yield f"cut at {end}", data[:end]
    for _ in range(SAMPLES):
        changed = bytearray(data)
        places = rng.integers(0, len(data), rng.integers(1, 20))
        for place in places:
            changed[place] = rng.integers(0, 256)
        yield f"bytes {sorted(places.tolist())}", bytes(changed)


@pytest.mark.parametrize("file", ["k3_sequential.h5", "k2_functional.h5", "k3_functional.keras"])
def test_damaged_files_raise_our_errors_or_load(golden, file):
    data = (golden / "keras" / file).read_bytes()
    for what, damaged in _damaged(data, np.random.default_rng(5)):
        started = time.monotonic()
        try:
            load_spec(damaged)
        except LstmFastError:
            pass
        except BaseException as error:
            raise AssertionError(f"{file}, {what}") from error
        assert time.monotonic() - started < 30, what


def test_damaged_weights_inside_a_sound_archive(golden):
    """Past the archive's checksums, to the child."""
    with zipfile.ZipFile(golden / "keras" / "k3_sequential.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _, damaged in _damaged(members["model.weights.h5"], np.random.default_rng(6)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in (members | {"model.weights.h5": damaged}).items():
                archive.writestr(name, content)
        try:
            load_spec(file.getvalue())
        except LstmFastError:
            continue
