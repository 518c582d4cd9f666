"""Damaged and hostile checkpoints as a whole: only errors of the family, quickly, and nothing else is touched.

``LSTM_FAST_FULL_SWEEP=1`` damages every byte and bit of every sample instead of a strided part.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import zipfile

import pytest
from checkpoints import (
    BODY,
    DATA,
    VIEWS,
    Call,
    Name,
    Stored,
    archive,
    dumps,
    encode,
    legacy,
    rnn,
    safetensors,
    storage,
    tensor,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_fast.errors import LstmFastError
from lstm_fast.importers import load_spec

FULL = bool(os.environ.get("LSTM_FAST_FULL_SWEEP"))
STRIDE, BIT_STRIDE = (1, 1) if FULL else (11, 33)
SAMPLES = ("gru_cell.pt", "gru_legacy.pth", "lstm_half_views.pt", "rnn_relu_module.pt", "text_bfloat16.safetensors")


def attempt(data: bytes) -> float:
    start = time.perf_counter()
    with contextlib.suppress(LstmFastError):
        load_spec(data)
    return time.perf_counter() - start


@pytest.mark.parametrize("name", SAMPLES)
def test_truncations_and_bit_flips_stay_in_the_family(golden, name):
    data = (golden / "torch" / name).read_bytes()
    slowest = max(attempt(data[:size]) for size in range(0, len(data), STRIDE))
    for bit in range(0, len(data) * 8, BIT_STRIDE):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        slowest = max(slowest, attempt(bytes(damaged)))
    assert slowest < 1


def test_bit_flips_of_the_pickle_behind_its_checksum(golden):
    with zipfile.ZipFile(golden / "torch/rnn_relu_module.pt") as file:
        root = file.read("rnn_relu_module/data.pkl")
        data = {name.split("/")[-1]: file.read(name) for name in file.namelist() if "/data/" in name}
    assert load_spec(archive(root, data))
    for bit in range(0, len(root) * 8, STRIDE):
        damaged = bytearray(root)
        damaged[bit // 8] ^= 1 << bit % 8
        attempt(archive(bytes(damaged), data))


PLAIN = st.none() | st.booleans() | st.integers(-(2**66), 2**66) | st.text(max_size=4)
NAMES = st.sampled_from(
    ["torch FloatStorage", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3", "os system",
     "torch._utils _rebuild_parameter", "torch._tensor _rebuild_from_type_v2", "collections OrderedDict",
     "torch.nn.modules.rnn LSTM", "torch.nn.modules.container Sequential", "torch float32", "__torch__.torch.nn LSTM"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["weight", "bias", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "weight_hr_l0", "_parameters", "_buffers",
     "_modules", "_forward_hooks", "mode", "batch_first", "num_layers", "a.weight", "module.b.weight_ih_l0", "dim"]
)  # fmt: skip
TENSORS = st.builds(
    lambda key, numel, shape, offset: tensor(storage(key, numel), shape, offset),
    st.sampled_from("01"), st.integers(0, 20), st.lists(st.integers(0, 16), max_size=3).map(tuple), st.integers(0, 3),
)  # fmt: skip
VALUES = st.recursive(
    PLAIN | NAMES.map(Name) | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=7).map(tuple)
        | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=6)
        | st.builds(Call, NAMES, st.lists(inner, max_size=7).map(tuple), inner)
        | st.builds(Stored, inner)
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(root=VALUES, as_legacy=st.booleans())
def test_any_structure_stays_in_the_family(root, as_legacy):
    attempt(legacy(root, ["0", "1"], BODY) if as_legacy else archive(root, DATA))


def test_hostile_files_open_import_and_run_nothing(golden, tmp_path):
    files = {f"{index}.pt": archive(rnn(value), DATA) for index, value in enumerate(VIEWS.values())}
    files["plain.pt"] = dumps(Call("os system", (f"touch {tmp_path}/hacked",)))
    files["legacy.pt"] = legacy(rnn(VIEWS["command"]), ["0", "1"], BODY)
    command = encode(f"touch {tmp_path}/hacked")
    files["stack.pt"] = archive(b"\x80\x04\x8c\x02os\x8c\x06system\x93" + command + b"\x85R.", {})
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code = """
import contextlib, sys
from lstm_fast.errors import LstmFastError
from lstm_fast.importers import load_spec
for name in sys.argv[1].split(":"):
    load_spec(name)
WATCHED = ("open", "import", "exec", "compile", "socket", "subprocess", "os", "ctypes", "pickle", "shutil", "urllib")
seen, allowed = [], set(sys.argv[2:])
def watch(event, args):
    mine = event == "open" and (args[0] in allowed or isinstance(args[0], int))  # the file given, by path or descriptor
    if not mine and event.split(".")[0] in WATCHED:
        seen.append((event, args))
sys.addaudithook(watch)
for name in sorted(allowed):
    with contextlib.suppress(LstmFastError):
        load_spec(name)
print(len(allowed), seen)
"""
    first = ":".join(
        str(golden / "torch" / name) for name in ("gru_cell.pt", "gru_legacy.pth")
    )  # imports what it needs
    command = [sys.executable, "-c", code, first, *sorted(str(tmp_path / name) for name in files)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{len(files)} []"
    assert not (tmp_path / "hacked").exists()


def test_hostile_memory_is_bounded(tmp_path):
    """Peak memory over a baseline is at most 64 MiB and twice the file, for files of 1 MB."""
    samples = {
        "dicts": archive(b"\x80\x02" + b"}NNs" * 250_000, {}),
        "marks": archive(b"\x80\x02" + b"(" * 10**6, {}),
        "header": safetensors(b'{"a":[' + b"[]," * 330_000 + b"[]]}"),
        "views": archive(rnn(tensor(storage("0", 4096), (2048, 4096), 0, (0, 1))), {"0": bytes(16384)}),
    }
    code = """
import contextlib, resource, sys
from lstm_fast.errors import LstmFastError
from lstm_fast.importers import _pickle, _torch_files, _zip, load_spec, torch
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with contextlib.suppress(LstmFastError):
    load_spec(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024)
"""
    for name, data in samples.items():
        (tmp_path / name).write_bytes(data)
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert grown <= (64 << 20) + 2 * len(data), name
