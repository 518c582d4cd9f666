"""The containers of PyTorch checkpoints: zip archive, the format before 1.6, safetensors.

The first two give the checkpoint's object as inert data, in which tensors are lazy, and a reader for these.
"""

from __future__ import annotations

from operator import itemgetter

import numpy as np
import safetensors

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits
from . import _pickle
from ._safetensors import read_metadata
from ._torch_tensors import ITEM_SIZES, KNOWN, Entry, Storage, TensorReader, persistent_storage, printable, widen
from ._zip import SafeZip

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_zip(archive: SafeZip, file_size: int, limits: Limits) -> tuple[object, TensorReader]:
    """A zip archive: ``<prefix>/data.pkl`` and one member of raw bytes per storage, ``<prefix>/data/<key>``."""
    pickles = [name for name in archive.names() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ModelFormatError(f"expected one data.pkl in a PyTorch archive, got {pickles}")
    prefix = pickles[0].removesuffix("data.pkl")
    order = "<"
    if prefix + "byteorder" in archive:
        record = archive.read(prefix + "byteorder")
        if record not in (b"little", b"big"):
            raise ModelFormatError(f"{prefix}byteorder: expected 'little' or 'big', got {record[:16]!r}")
        order = "<" if record == b"little" else ">"

    def storage_bytes(storage: Storage) -> memoryview:
        name = f"{prefix}data/{storage.key}"
        raw = archive.view(name)
        if len(raw) != storage.size:
            raise ModelFormatError(f"{name}: expected {storage.size} bytes, got {len(raw)}; the file is damaged")
        return raw

    root, _ = _pickle.load(archive.description(pickles[0]), 0, limits, KNOWN, persistent_storage)
    return root, TensorReader(storage_bytes, file_size, limits, order)


def read_legacy(data: bytes, limits: Limits) -> tuple[object, TensorReader]:
    """Pickles one after another (magic number, protocol, system, object, storage keys), then the storages.

    A storage is its number of elements in 8 bytes and its values, little-endian, in the order of the keys.
    """
    storages: dict[str, Storage] = {}

    def persistent(pid: object) -> object:
        found = persistent_storage(pid)
        if isinstance(found, Storage):
            first = storages.setdefault(found.key, found)
            if (first.dtype, first.size) != (found.dtype, found.size):
                raise ModelFormatError(f"storage {found.key}: named with two dtypes or sizes; the file is damaged")
        return found

    def load(at: int) -> tuple[object, int]:
        return _pickle.load(data, at, limits, KNOWN, persistent)

    magic, at = load(0)
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        raise UnsupportedModelError(
            "a plain pickle, not a PyTorch checkpoint; save the weights with torch.save(model.state_dict(), path)"
        )
    protocol, at = load(at)
    if type(protocol) is not int or protocol != _LEGACY_PROTOCOL:
        raise UnsupportedModelError(f"expected legacy protocol {_LEGACY_PROTOCOL}; re-save with a current PyTorch")
    _, at = load(at)
    root, at = load(at)
    keys, at = load(at)
    where = _storage_offsets(data, at, keys, storages, limits)

    def storage_bytes(storage: Storage) -> memoryview:
        start, size = where[storage.key]
        return memoryview(data)[start : start + size]

    return root, TensorReader(storage_bytes, len(data), limits)


def _storage_offsets(
    data: bytes, at: int, keys: object, storages: dict[str, Storage], limits: Limits
) -> dict[str, tuple[int, int]]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise ModelFormatError("expected the list of storage keys behind the object; the file is damaged")
    limits.check("entries", len(keys), "storages of the checkpoint")
    where = {}
    for key in keys:
        storage = storages[key]
        numel = int.from_bytes(data[at : at + 8], "little", signed=True)
        size = storage.size
        if numel * ITEM_SIZES[storage.dtype] != size or key in where or at + 8 + size > len(data):
            raise ModelFormatError(
                f"storage {key}: expected its {size} bytes of {storage.dtype} at byte {at}; the file is damaged or cut"
                " short"
            )
        where[key] = at + 8, size
        at += 8 + size
    if at != len(data):
        raise ModelFormatError(f"{len(data) - at} bytes are left over behind the last storage; the file is damaged")
    return where


def read_safetensors(data: bytes, limits: Limits) -> dict[str, Entry]:
    """All tensors, sorted by name: the library gives them in no particular order."""
    read_metadata(data, limits)
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ModelFormatError(f"safetensors: {error}; the file is damaged") from None
    limits.check("entries", len(tensors), "tensors of the safetensors file")
    found = {printable(name): _entry(printable(name), tensor) for name, tensor in sorted(tensors, key=itemgetter(0))}
    if len(found) < len(tensors):
        raise ModelFormatError("two tensors of the safetensors file go by the same name once it is made printable")
    return found


def _entry(name: str, tensor: dict) -> Entry:
    dtype = _DTYPES.get(tensor["dtype"], tensor["dtype"])

    def load() -> np.ndarray:
        raw = np.frombuffer(tensor["data"], "<u2" if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<"))
        return widen(raw.reshape(tensor["shape"]), dtype)

    return Entry(name, tuple(tensor["shape"]), dtype, load)
