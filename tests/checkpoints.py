"""PyTorch checkpoints put together from parts, so that each part can lie."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Name:
    """A global: "module name"."""

    text: str


@dataclass(frozen=True)
class Call:
    name: str
    args: tuple
    state: object = None


@dataclass(frozen=True)
class Stored:
    """A persistent id."""

    pid: object


def encode(value: object) -> bytes:
    """Protocol 2 opcodes that leave ``value`` on the stack."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(value, str):
        raw = value.encode()
        return b"X" + struct.pack("<L", len(raw)) + raw
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encode, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u"
    if isinstance(value, Name):
        return b"c" + value.text.replace(" ", "\n").encode() + b"\n"
    if isinstance(value, Stored):
        return encode(value.pid) + b"Q"
    built = encode(Name(value.name)) + encode(value.args) + b"R"
    return built if value.state is None else built + encode(value.state) + b"b"


def dumps(value: object) -> bytes:
    return b"\x80\x02" + encode(value) + b"."


def storage(key: object, numel: object, kind: str = "FloatStorage", *more: object) -> Stored:
    return Stored(("storage", Name(f"torch {kind}"), key, "cpu", numel, *more))


def tensor(stored: object, shape: object, offset: object = 0, stride: object = None) -> Call:
    if stride is None:
        stride = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    return Call("torch._utils _rebuild_tensor_v2", (stored, offset, shape, stride, False, {}))


def archive(root: object, storages: dict[str, bytes], **records: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("net/data.pkl", root if isinstance(root, bytes) else dumps(root))
        for name, data in (storages | records).items():
            file.writestr(f"net/data/{name}" if name in storages else f"net/{name}", data)
    return buffer.getvalue()


LEGACY = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]


def legacy(root: object, keys: object, body: bytes, start: list | None = None) -> bytes:
    return b"".join(map(dumps, [*(start or LEGACY), root, keys])) + body


def stored(numel: int, raw: bytes) -> bytes:
    return struct.pack("<q", numel) + raw


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# A small sound RNN of PyTorch's names, and tensors that lie to put into it.

W, U = np.arange(12, dtype="<f4"), np.arange(16, dtype="<f4")
DATA = {"0": W.tobytes(), "1": U.tobytes()}


def rnn(weight: object = None, other: object = None) -> dict[str, object]:
    return {
        "weight_ih_l0": weight or tensor(storage("0", 12), (4, 3)),
        "weight_hh_l0": other or tensor(storage("1", 16), (4, 4)),
    }


BODY = stored(12, DATA["0"]) + stored(16, DATA["1"])

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
