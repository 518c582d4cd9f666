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
