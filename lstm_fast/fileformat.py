"""The native file, ``.lstmf``: a safetensors file of canonical weights that describes and verifies itself.

Specified in docs/file-format.md. One model has one sequence of bytes; a file of an older version always loads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping

import numpy as np
import safetensors

from ._description import build, describe, is_text, parse_json
from .check import Check, record
from .errors import ModelFormatError, UnsupportedModelError
from .limits import Limits
from .spec import ModelSpec

#: Version of the container: metadata keys, digest, recorded check. A file of a higher one is refused.
FORMAT_VERSION = 1

_FORMAT, _MODEL, _SHA256 = "lstm_fast.format", "lstm_fast.model", "lstm_fast.sha256"
_CHECK = "__check__"
_DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}
_WORDS = {dtype: word for word, dtype in _DTYPES.items()}
_MAX_RANK = 3
_ALIGNMENT = 8


def write_lstmf(spec: ModelSpec, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write ``spec`` to ``path``; whatever was there stays until the new file is complete and on disk.

    Raises:
        ModelFormatError: ``spec`` contradicts itself. FileExistsError: ``path`` exists and ``overwrite`` is false.
        OSError: what the system reports.
    """
    from ._atomic import write_atomically  # what it imports would cost each start that only reads 4 ms

    write_atomically(path, lstmf_bytes(spec), overwrite=overwrite)


def lstmf_bytes(spec: ModelSpec) -> bytes:
    """The native file of ``spec``, proved by reading it back."""
    check = record(spec.validate())
    for layer in spec.layers:
        if not is_text(layer.name):
            raise ModelFormatError(f"layer {layer.name!a}: expected a name of valid Unicode; rename the layer")
    parts = dict(spec.tensors()) | {f"{_CHECK}.{n}": getattr(check, n) for n in ("x", "lengths", "y")}
    tensors = {name: np.ascontiguousarray(value, value.dtype.newbyteorder("<")) for name, value in parts.items()}
    description = describe(spec)
    metadata = {_FORMAT: str(FORMAT_VERSION), _MODEL: description}
    metadata[_SHA256] = _digest(metadata, tensors)
    data = _pack(metadata, tensors)
    largest = Limits(header_bytes=len(data), entries=len(data))
    read_lstmf(data, largest)
    return data


def read_lstmf(data: bytes, limits: Limits | None = None) -> ModelSpec:
    """The model in the bytes of a native file.

    Raises:
        ModelFormatError: the file is damaged, or not a native file.
        UnsupportedModelError: it is of a newer version, or uses what this version does not know.
        ModelLimitError: it exceeds ``limits``.
    """
    return _read(data, Limits() if limits is None else limits)[0]


def read_check(data: bytes, limits: Limits | None = None) -> Check:
    """The recorded input and output in the bytes of a native file; raises as :func:`read_lstmf` does."""
    return _read(data, Limits() if limits is None else limits)[1]


def is_lstmf(data: bytes, limits: Limits | None = None) -> bool:
    """Whether ``data`` is a safetensors file that says it is a native one."""
    try:
        return _FORMAT in _metadata(_header(data, Limits() if limits is None else limits))
    except ModelFormatError:
        return False


def _read(data: bytes, limits: Limits) -> tuple[ModelSpec, Check]:
    metadata, tensors = _unpack(data, limits)
    if metadata[_SHA256] != _digest(metadata, tensors):
        raise ModelFormatError(f"{_SHA256}: the weights or the description do not match their digest; it is damaged")
    recorded = {name: tensors.pop(f"{_CHECK}.{name}", None) for name in ("x", "lengths", "y")}
    spec = build(metadata[_MODEL], tensors, limits).validate()
    return spec, _check(spec, **recorded)


def _check(spec: ModelSpec, x: np.ndarray | None, lengths: np.ndarray | None, y: np.ndarray | None) -> Check:
    """The recorded check, once it fits the model."""
    if x is None or lengths is None or y is None:
        raise ModelFormatError(f"expected the tensors {_CHECK}.x, {_CHECK}.lengths and {_CHECK}.y; one is missing")
    batch, time = x.shape[0], x.shape[1] if x.ndim > 1 else 0
    features = () if spec.takes_ids else (spec.input_size,)
    steps = (time,) if spec.returns_sequences else ()
    expected = {
        "x": (x, (batch, time, *features), np.int64 if spec.takes_ids else np.float32),
        "lengths": (lengths, (batch,), np.int64),
        "y": (y, (batch, *steps, spec.output_size), np.float32),
    }
    for name, (value, shape, dtype) in expected.items():
        if value.shape != shape or value.dtype != dtype:
            raise ModelFormatError(
                f"{_CHECK}.{name}: expected {np.dtype(dtype)} of shape {shape}, got {value.dtype} of {value.shape}"
            )
    if lengths.min() < 0 or lengths.max() > time:
        raise ModelFormatError(f"{_CHECK}.lengths: expected 0 to {time}, got {lengths.min()} to {lengths.max()}")
    if spec.vocabulary and (x.min() < 0 or x.max() >= spec.vocabulary):
        raise ModelFormatError(f"{_CHECK}.x: expected ids below {spec.vocabulary}, got {x.max()}")
    return Check(x, lengths, y)


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of version, description and every tensor by name, each part preceded by its length."""
    digest = hashlib.sha256()

    def add(part: bytes | memoryview) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    add(metadata[_FORMAT].encode())
    add(metadata[_MODEL].encode())
    for name in sorted(tensors):
        value = tensors[name]
        add(name.encode())
        add(_WORDS[value.dtype].encode())
        add(",".join(map(str, value.shape)).encode())
        add(memoryview(value).cast("B"))
    return digest.hexdigest()


def _pack(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file. The library writes metadata in an order that changes from run to run; here it is sorted."""
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    ordered = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # every tensor on its own alignment
    for name in ordered:
        value = tensors[name]
        end = offset + value.nbytes
        header[name] = {"dtype": _WORDS[value.dtype], "shape": value.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *(memoryview(tensors[n]).cast("B") for n in ordered)])


def _unpack(data: bytes, limits: Limits) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a native file whose container and version are sound."""
    header = _header(data, limits)
    metadata = _metadata(header)
    _check_version(metadata)
    if metadata.keys() != {_FORMAT, _MODEL, _SHA256}:
        raise ModelFormatError(f"metadata: expected {_FORMAT}, {_MODEL} and {_SHA256}, got {sorted(metadata)}")
    limits.check("entries", len(header) - 1, "tensors in the file")
    try:
        views = safetensors.deserialize(data)  # checks offsets, sizes, overlaps and gaps
    except safetensors.SafetensorError as error:
        raise ModelFormatError(f"not a valid safetensors file ({error}); it is damaged or cut short") from None
    return metadata, {name: _tensor(name, view) for name, view in views}


def _tensor(name: str, view: Mapping) -> np.ndarray:
    dtype, shape = _DTYPES.get(view["dtype"]), tuple(view["shape"])
    if dtype is None:
        raise ModelFormatError(f"{name!a}: expected a dtype among {', '.join(_DTYPES)}, got {view['dtype']}")
    if not 1 <= len(shape) <= _MAX_RANK or 0 in shape:
        raise ModelFormatError(f"{name!a}: expected 1 to {_MAX_RANK} dimensions, none of them 0, got {shape}")
    return np.frombuffer(view["data"], dtype).reshape(shape)


def _header(data: bytes, limits: Limits) -> dict:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ModelFormatError(
            f"safetensors: expected a header of {size} bytes, {max(len(data) - 8, 0)} are left; the file is cut short"
        )
    limits.check("header_bytes", size, "size in bytes of the safetensors header")
    try:
        text = data[8 : 8 + size].decode()
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"safetensors header: not UTF-8 ({error.reason}); the file is damaged") from None
    header = parse_json(text, "safetensors header")
    if not isinstance(header, dict):
        raise ModelFormatError("safetensors header: expected a JSON object; the file is damaged")
    return header


def _metadata(header: dict) -> dict[str, str]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFormatError(f"safetensors header: expected __metadata__ with the text {_FORMAT}; not a native file")
    return metadata


def _check_version(metadata: Mapping[str, str]) -> None:
    text = metadata.get(_FORMAT, "")
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 9) or text.startswith("0"):
        raise ModelFormatError(f"{_FORMAT}: expected a version such as '{FORMAT_VERSION}', got {ascii(text)[:40]}")
    if int(text) > FORMAT_VERSION:
        raise UnsupportedModelError(
            f"{_FORMAT}: this file is of version {text}, this lstm_fast reads up to {FORMAT_VERSION}; upgrade lstm_fast"
        )
