"""Checkpoints whose parts lie: refused by name, before anything is made of them."""

from __future__ import annotations

import io
import re
import zipfile
import zlib

import numpy as np
import pytest
from checkpoints import (
    BIG,
    BODY,
    DATA,
    LEGACY,
    VIEWS,
    Call,
    Name,
    U,
    W,
    archive,
    dumps,
    encode,
    legacy,
    rnn,
    safetensors,
    storage,
    stored,
    tensor,
)

from lstm_fast.errors import ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.importers import load_spec
from lstm_fast.limits import Limits


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


def test_a_storage_of_many_tensors_is_checked_once(monkeypatch):
    checked, crc32 = [], zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda data, *start: checked.append(len(data)) or crc32(data, *start))
    pool = storage("0", 28)
    root = rnn(tensor(pool, (4, 3)), tensor(pool, (4, 4), 12))
    data = archive(root, {"0": bytes(112)})
    checked.clear()
    load_spec(data)
    assert checked.count(112) == 1


def test_a_stride_that_is_never_used():
    one = rnn(tensor(storage("0", 12), (1, 3), 0, (2**62, 1)), tensor(storage("1", 16), (1, 1), 0, (2**62, 2**62)))
    np.testing.assert_array_equal(weights(archive(one, DATA))[0], W[None, :3])


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
    own = Call(attributed.name, (attributed.args[0], Name("mine Scaled"), *attributed.args[2:]))
    with pytest.raises(UnsupportedModelError, match=r"weight_ih_l0: .* got torch\.Tensor of type mine\.Scaled"):
        load_spec(archive(rnn(own), DATA))


@pytest.mark.parametrize("name", VIEWS)
def test_tensors_that_lie(name):
    with pytest.raises(ModelFormatError) as caught:
        load_spec(archive(rnn(VIEWS[name]), DATA))
    assert re.search("weight_|storage|pickle|net/data|dimensions", str(caught.value))


def test_tensors_marked_as_negated_or_conjugated():
    plain = tensor(storage("0", 12), (4, 3)).args
    for mark, refused in (({}, False), (None, False), ({"neg": True}, True), ({"conj": True, "neg": False}, True)):
        data = archive(rnn(Call("torch._utils _rebuild_tensor_v2", (*plain, mark))), DATA)
        if refused:
            with pytest.raises(UnsupportedModelError, match=r"weight_ih_l0: .* marked as negated or conjugated"):
                load_spec(data)
        else:
            np.testing.assert_array_equal(weights(data)[0], W.reshape(4, 3))


def scripted(name: str, **state: object) -> Call:
    return Call(f"__torch__.torch.nn.modules.{name}", (), {"training": False, **state})


def test_a_scripted_module_beside_the_only_one_with_weights():
    lstm = scripted("rnn.___torch_mangle_3 RNN", **rnn())
    dropout, relu = scripted("dropout Dropout"), scripted("activation.___torch_mangle_7 ReLU")
    alone = archive(scripted("container Sequential", a=lstm, b=dropout), DATA)
    with pytest.raises(UnsupportedModelError, match=r"(?s)a .* keeps its nonlinearity as code.*keeps batch_first as"):
        load_spec(alone)
    np.testing.assert_array_equal(weights(alone, module="a:tanh", batch_first=True)[0], W.reshape(4, 3))
    with pytest.raises(UnsupportedModelError, match=r"b +ReLU: TorchScript keeps its settings as code"):
        load_spec(archive(scripted("container Sequential", a=lstm, b=relu), DATA))


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


def pickled_module(name: str, parameters: dict, **attributes: object) -> Call:
    state = {"_parameters": parameters, "_buffers": {}, "_modules": {}}
    return Call(f"torch.nn.modules.{name}", (), state | attributes)


MATRIX = tensor(storage("0", 12), (4, 3))
MODULES = {
    "it has no parameters": pickled_module("rnn LSTM", {}),
    "input_size: the module says 5, its tensors 3": pickled_module("rnn RNN", rnn(), mode="RNN_TANH", input_size=5),
    "'tanh' or 'relu' of an RNN, got 'RNN_SWOOSH'": pickled_module("rnn RNN", rnn(), mode="RNN_SWOOSH"),
    "'tanh' or 'relu' of an RNN, got a tuple": pickled_module("rnn RNN", rnn(), mode=((),)),
    r"weight_hh_l0: expected shape \(4, 1\), got \(4, 4\)": pickled_module("rnn LSTM", rnn()),
    "weight: missing": pickled_module("linear Linear", {"bias": MATRIX}),
    "weight: expected 2 dimensions": pickled_module("linear Linear", {"weight": tensor(storage("0", 12), (12,))}),
    r"bias: expected shape \(4,\), got \(4, 3\)": pickled_module("linear Linear", {"weight": MATRIX, "bias": MATRIX}),
    "bias: not a plain module's": pickled_module("sparse Embedding", {"weight": MATRIX, "bias": MATRIX}),
    "finite number as negative_slope": pickled_module("activation LeakyReLU", {}, negative_slope=2**2000),
    "finite number as alpha, got None": pickled_module("activation ELU", {}),
    "got 'swoosh": pickled_module("activation GELU", {}, approximate="swoosh" * 10**5),
    "Threshold is not supported": pickled_module("activation Threshold", {}),
    "has forward hooks": pickled_module("rnn RNN", rnn(), _forward_pre_hooks={1: Call("os system", ())}),
}


@pytest.mark.parametrize("message", MODULES)
def test_modules_that_lie(message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        load_spec(archive(MODULES[message], DATA))
    assert len(str(caught.value)) < 1000


def test_containers_too_deep():
    nested = b"\x80\x02" + encode(rnn()) + b"\x85" * 100 + b"."  # tuples of one, which need no mark
    with pytest.raises(ModelLimitError, match=r"lf\.Limits\(nesting="):
        load_spec(archive(nested, DATA))
    assert load_spec(archive(nested, DATA), limits=Limits(nesting=200))


def test_two_pickles_in_an_archive():
    data = archive(rnn(), DATA)
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("other/data.pkl", dumps(rnn()))
    with pytest.raises(ModelFormatError, match=r"expected one data\.pkl"):
        load_spec(buffer.getvalue())


def test_dtypes_without_a_storage_class():
    raw = storage("0", 48, "UntypedStorage")
    for dtype, expected in (("float32", None), ("float8_e5m2", "torch.Tensor of dtype float8_e5m2")):
        args = (raw, 0, (4, 3), (3, 1), False, {}, Name(f"torch {dtype}"), {})
        data = archive(rnn(Call("torch._utils _rebuild_tensor_v3", args)), DATA)
        if expected is None:
            np.testing.assert_array_equal(weights(data)[0], W.reshape(4, 3))
        else:
            with pytest.raises(UnsupportedModelError, match=f"got {expected}"):
                load_spec(data)


def test_names_that_meet():
    clash = {f"_orig_mod.{name}": value for name, value in rnn().items()} | rnn()
    with pytest.raises(ModelFormatError, match="equal once the prefix"):
        load_spec(archive(clash, DATA))
    below = rnn() | {f"rnn.{name}": value for name, value in rnn().items()}
    assert load_spec(archive(below, DATA), module="rnn").layers[0].name == "rnn"


def test_a_long_list_of_modules_is_cut():
    many = {f"layer{index}.weight": MATRIX for index in range(100)}
    with pytest.raises(UnsupportedModelError, match="and 40 more"):
        load_spec(archive(many, DATA))


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


def test_legacy_parts():
    data = legacy(rnn(), ["0", "1"], BODY)
    np.testing.assert_array_equal(weights(data)[0], W.reshape(4, 3))
    with pytest.raises(ModelLimitError, match=r"size in bytes of the pickles.*lf\.Limits\(header_bytes="):
        load_spec(data, limits=Limits(header_bytes=300))


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
