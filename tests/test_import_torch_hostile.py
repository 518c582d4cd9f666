"""Damaged and hostile checkpoints: only errors of the family, quickly, and nothing else is touched.

``LSTM_FAST_FULL_SWEEP=1`` damages every byte and bit of every sample instead of a strided part.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from checkpoints import LEGACY, Call, Name, Stored, archive, dumps, encode, legacy, safetensors, storage, stored, tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_fast.errors import LstmFastError, ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.importers import load_spec
from lstm_fast.limits import Limits

STRIDE = 1 if os.environ.get("LSTM_FAST_FULL_SWEEP") else 11
SAMPLES = ("gru_cell.pt", "gru_legacy.pth", "lstm_half_views.pt", "rnn_relu_module.pt", "text_bfloat16.safetensors")


W, U = np.arange(12, dtype="<f4"), np.arange(16, dtype="<f4")


def rnn(weight: object = None, other: object = None) -> dict[str, object]:
    return {
        "weight_ih_l0": weight or tensor(storage("0", 12), (4, 3)),
        "weight_hh_l0": other or tensor(storage("1", 16), (4, 4)),
    }


DATA = {"0": W.tobytes(), "1": U.tobytes()}


def weights(data: bytes, **options) -> tuple[np.ndarray, np.ndarray]:
    cell = load_spec(data, **options).recurrent[0].layers[0][0]
    return cell.weight_ih, cell.weight_hh


def test_parts_make_a_sound_checkpoint():
    for options in ({}, {"byteorder": b"little"}):
        w, u = weights(archive(rnn(), DATA, **options))
        np.testing.assert_array_equal(w, W.reshape(4, 3))
        np.testing.assert_array_equal(u, U.reshape(4, 4))


def test_big_endian_storages():
    swapped = {key: np.frombuffer(raw, "<f4").byteswap().tobytes() for key, raw in DATA.items()}
    w, _ = weights(archive(rnn(), swapped, byteorder=b"big"))
    np.testing.assert_array_equal(w, W.reshape(4, 3))
    with pytest.raises(ModelFormatError, match="expected 'little' or 'big'"):
        load_spec(archive(rnn(), DATA, byteorder=b"middle"))


def test_views_with_offset_and_stride():
    pool = np.arange(40, dtype="<f4")
    stored = storage("0", 40)
    root = rnn(tensor(stored, (4, 3), 5, (1, 4)), tensor(stored, (4, 4), 20, (5, 1)))
    w, u = weights(archive(root, {"0": pool.tobytes()}))
    np.testing.assert_array_equal(w, pool[5:17].reshape(3, 4).T)
    np.testing.assert_array_equal(u, pool[20:40].reshape(4, 5)[:, :4])


def test_old_ways_to_make_a_tensor():
    view = storage("0", 40, "FloatStorage", ("v", 8, 12))
    rebuilt = Call("torch._utils _rebuild_tensor", (view, 0, (4, 3), (3, 1)))
    root = rnn(Call("torch._utils _rebuild_parameter", (rebuilt, True, {})))
    w, _ = weights(archive(root, {"0": np.arange(40, dtype="<f4").tobytes(), "1": DATA["1"]}))
    np.testing.assert_array_equal(w, np.arange(8, 20).reshape(4, 3))
    pairs = Call("collections OrderedDict", ([[k, v] for k, v in rnn().items()],), {"_metadata": {}})
    np.testing.assert_array_equal(weights(archive(pairs, DATA))[0], W.reshape(4, 3))
    attributed = Call(
        "torch._tensor _rebuild_from_type_v2",
        (Name("torch._utils _rebuild_tensor_v2"), Name("torch Tensor"), tensor(storage("0", 12), (4, 3)).args, {}),
    )
    np.testing.assert_array_equal(weights(archive(rnn(attributed), DATA))[0], W.reshape(4, 3))


BIG = 2**62
VIEWS = {
    "past the end": tensor(storage("0", 12), (4, 4)),
    "offset past the end": tensor(storage("0", 12), (4, 3), 1),
    "stride past the end": tensor(storage("0", 12), (4, 3), 0, (4, 1)),
    "negative stride": tensor(storage("0", 12), (4, 3), 0, (-3, 1)),
    "negative offset": tensor(storage("0", 12), (4, 3), -1),
    "negative size": tensor(storage("0", 12), (-4, 3), 0, (3, 1)),
    "product overflows": tensor(storage("0", 12), (BIG, BIG), 0, (0, 0)),
    "stride overflows": tensor(storage("0", 12), (4, 3), 0, (BIG, 1)),
    "sum wraps to zero": tensor(storage("0", 12), (3, 3), 0, (2**63, 1)),
    "offset beyond 64 bits": tensor(storage("0", 12), (4, 3), 2**64),
    "size is a string": tensor(storage("0", 12), ("4", 3), 0, (3, 1)),
    "size is a bool": tensor(storage("0", 12), (True, 3), 0, (3, 1)),
    "rank differs": tensor(storage("0", 12), (4, 3), 0, (1,)),
    "many dimensions": tensor(storage("0", 12), (1,) * 99),
    "shape is a list": Call("torch._utils _rebuild_tensor_v2", (storage("0", 12), 0, [4, 3], [3, 1], False, {})),
    "arguments missing": Call("torch._utils _rebuild_tensor_v2", (storage("0", 12),)),
    "storage is no storage": tensor("0", (4, 3)),
    "empty": tensor(storage("0", 12), (0, 3), 0, (3, 1)),
    "member too small": tensor(storage("1", 17), (4, 3)),
    "member too large": tensor(storage("1", 15), (4, 3)),
    "member missing": tensor(storage("9", 12), (4, 3)),
    "member elsewhere": tensor(storage("../data.pkl", 12), (4, 3)),
    "numel negative": tensor(storage("0", -12), (4, 3)),
    "numel huge": tensor(storage("0", BIG), (4, 3)),
    "numel beyond 64 bits": tensor(storage("0", 2**70), (4, 3)),
    "key is a tuple": tensor(storage(("0",), 12), (4, 3)),
    "unknown storage": tensor(storage("0", 12, "SwooshStorage"), (4, 3)),
    "storage class elsewhere": tensor(Stored(("storage", Name("os system"), "0", "cpu", 12)), (4, 3)),
    "persistent id of nothing": tensor(Stored(()), (4, 3)),
    "persistent id of text": tensor(Stored("storage 0"), (4, 3)),
    "view of a storage too large": tensor(storage("0", 12, "FloatStorage", ("v", 4, 12)), (4, 3)),
    "view of a storage malformed": tensor(storage("0", 12, "FloatStorage", "v"), (4, 3)),
    "integers": tensor(storage("0", 12, "IntStorage"), (4, 3)),
    "complex": tensor(storage("0", 6, "ComplexFloatStorage"), (2, 3)),
    "untyped": tensor(storage("0", 48, "UntypedStorage"), (4, 3)),
    "parameter of nothing": Call("torch._utils _rebuild_parameter", ()),
    "quantised": Call("torch._utils _rebuild_qtensor", (storage("0", 12, "QInt8Storage"), 0, (4, 3), (3, 1))),
    "plain pickle of a tensor": tensor(Call("torch.storage _load_from_bytes", ("x",)), (4, 3)),
    "command": Call("os system", ("exit 3",)),
    "numpy array": Call("numpy.core.multiarray _reconstruct", (Name("numpy ndarray"), (0,), "b")),
}


@pytest.mark.parametrize("name", VIEWS)
def test_tensors_that_lie(name):
    with pytest.raises(ModelFormatError) as caught:
        load_spec(archive(rnn(VIEWS[name]), DATA))
    assert re.search("weight_|storage|pickle|net/data|dimensions", str(caught.value))


def test_unneeded_oddities_do_no_harm():
    root = {
        "state_dict": rnn(),
        "hparams": Call("argparse Namespace", (), {"x": 1}),
        "evil": Call("os system", ("exit 3",)),
        "numbers": tensor(storage("2", 3, "LongStorage"), (3,)),
        "half": Call("torch._utils _rebuild_qtensor", ()),
        7: [1, (2, {"deep": None})],
    }
    np.testing.assert_array_equal(weights(archive(root, DATA))[0], W.reshape(4, 3))


def test_overlapping_tensors_are_bounded():
    wide = tensor(storage("0", 4096), (2896, 2896), 0, (0, 1))
    tall = tensor(storage("0", 4096), (2896, 2896), 0, (0, 1))
    with pytest.raises(ModelLimitError, match=r"lf\.Limits\(inflated_bytes="):
        load_spec(archive(rnn(wide, tall), {"0": bytes(16384)}))


def test_cycles_and_shared_parts():
    loop = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
    with pytest.raises(UnsupportedModelError, match="no weights in it"):
        load_spec(archive(loop, {}))
    laughs = b"\x80\x02}q\x00"
    for index in range(1, 60):
        memo, before = bytes([index]), bytes([index - 1])
        laughs += b"}(X\x01\x00\x00\x00ah" + before + b"X\x01\x00\x00\x00bh" + before + b"uq" + memo
    with pytest.raises(ModelFormatError):
        load_spec(archive(laughs + b".", {}))


def module(inner: bytes) -> bytes:
    """A pickled torch module whose ``_modules`` are the items that ``inner`` pushes."""
    return (
        b"ctorch.nn.modules.container\nSequential\n)\x81}(X\x0b\x00\x00\x00_parameters}X\x08\x00\x00\x00_buffers}"
        b"X\x08\x00\x00\x00_modules}(" + inner + b"uub"
    )


def test_modules_inside_themselves_many_times_over():
    data = b"\x80\x02" + module(b"") + b"q\x00"
    for index in range(1, 40):
        memo, before = bytes([index]), bytes([index - 1])
        data += module(b"X\x01\x00\x00\x00ah" + before + b"X\x01\x00\x00\x00bh" + before) + b"q" + memo
    with pytest.raises(ModelLimitError, match=r"lf\.Limits\("):
        load_spec(archive(data + b".", {}))
    with pytest.raises(ModelFormatError, match="expected a module here"):
        load_spec(archive(b"\x80\x02" + module(b"X\x01\x00\x00\x00aN") + b".", {}))


@pytest.mark.parametrize("key", ["a" * 10**6, "a." * 500_000, "module." * 150_000, "net\x1b[2J", "." * 900, ""])
def test_strange_keys(key):
    matrix = tensor(storage("0", 12), (4, 3))
    for root in (rnn() | {key + ".weight": matrix}, {key: rnn(), "other": rnn()}, {key + ".weight": matrix}):
        with pytest.raises(ModelFormatError) as caught:
            load_spec(archive(root, DATA))
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 10_000
    harmless = {"state_dict": rnn(), key: ["text", {key: 1}]}
    np.testing.assert_array_equal(weights(archive(harmless, DATA))[0], W.reshape(4, 3))


BODY = stored(12, DATA["0"]) + stored(16, DATA["1"])


def test_legacy_parts():
    np.testing.assert_array_equal(weights(legacy(rnn(), ["0", "1"], BODY))[0], W.reshape(4, 3))


@pytest.mark.parametrize(
    "data",
    [
        legacy(rnn(), ["0", "1"], BODY + b"x"),
        legacy(rnn(), ["0", "1"], BODY[:-1]),
        legacy(rnn(), ["0"], BODY),
        legacy(rnn(), ["0", "0"], BODY),
        legacy(rnn(), ["0", "1", "1"], BODY),
        legacy(rnn(), ["0", 1], BODY),
        legacy(rnn(), ("0", "1"), BODY),
        legacy(rnn(), ["0", "1"], stored(13, DATA["0"]) + BODY[56:]),
        legacy(rnn(), ["0", "1"], stored(-1, DATA["0"]) + BODY[56:]),
        legacy(rnn(tensor(storage("0", BIG), (4, 3))), ["0", "1"], BODY),
        legacy(rnn(None, tensor(storage("0", 16), (4, 4))), ["0"], BODY),
        legacy(rnn(), ["0", "1"], BODY, [1, 1001, {}]),
        legacy(rnn(), ["0", "1"], BODY, [LEGACY[0], 1002, {}]),
        legacy(rnn(), ["0", "1"], BODY, [LEGACY[0], (1001,), {}]),
    ],
)
def test_legacy_parts_that_lie(data):
    with pytest.raises(ModelFormatError):
        load_spec(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8 + b"{}",
        safetensors(b"{"),
        safetensors(b'{"a":' + b"[" * 100_000),
        safetensors(b'{"a":' * 100_000),
        safetensors(b"{\xff}"),
        safetensors({"__metadata__": 3}),
        safetensors({"__metadata__": {"a": 3}}),
        safetensors({"w": 3}),
        safetensors({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 13]}}, bytes(13)),
        safetensors({"w": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, bytes(16)),
        safetensors({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        safetensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(5)),
        safetensors({"w": {"dtype": "SWOOSH", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({}),
        safetensors({"weight_ih_l0": {"dtype": "F8_E4M3", "shape": [4, 3], "data_offsets": [0, 12]}}, bytes(12)),
    ],
)
def test_safetensors_that_lie(data):
    with pytest.raises(ModelFormatError):
        load_spec(data)
    with pytest.raises(ModelLimitError, match="header_bytes"):
        load_spec(safetensors({"x" * 100: 1}), limits=Limits(header_bytes=10))


# Damage.


def attempt(data: bytes) -> float:
    start = time.perf_counter()
    with contextlib.suppress(LstmFastError):
        load_spec(data)
    return time.perf_counter() - start


@pytest.mark.parametrize("name", SAMPLES)
def test_truncations_and_bit_flips_stay_in_the_family(golden, name):
    data = (golden / "torch" / name).read_bytes()
    slowest = max(attempt(data[:size]) for size in range(0, len(data), STRIDE))
    for bit in range(0, len(data) * 8, STRIDE * 3):
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
from lstm_fast.importers import _pickle, _safetensors, _zip, load_spec, torch
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
