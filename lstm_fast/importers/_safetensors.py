"""Tensors and metadata of a safetensors file; the library validates, this maps its errors into ours."""

from __future__ import annotations

import json
from operator import itemgetter

import numpy as np
import safetensors

from ..errors import ModelFormatError
from ..limits import Limits
from ._torch_tensors import Entry, printable, widen

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_metadata(data: bytes, limits: Limits) -> dict[str, str]:
    """The free text under ``__metadata__``, empty where there is none."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data) - 8:
        raise ModelFormatError(
            f"safetensors: expected a header of {size} bytes, the file has {len(data) - 8} left; it is cut short"
        )
    limits.check("header_bytes", size, "size in bytes of the safetensors header")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"safetensors: the header is not valid JSON ({error}); the file is damaged") from None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFormatError("safetensors: expected a header object whose __metadata__ maps text to text")
    return metadata


def read_entries(data: bytes, limits: Limits) -> dict[str, Entry]:
    """All tensors, sorted by name: the library gives them in no particular order."""
    read_metadata(data, limits)
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ModelFormatError(f"safetensors: {error}; the file is damaged") from None
    limits.check("entries", len(tensors), "tensors of the safetensors file")
    return {printable(name): _entry(printable(name), tensor) for name, tensor in sorted(tensors, key=itemgetter(0))}


def _entry(name: str, tensor: dict) -> Entry:
    dtype = _DTYPES.get(tensor["dtype"], tensor["dtype"])

    def load() -> np.ndarray:
        raw = np.frombuffer(tensor["data"], "<u2" if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<"))
        return widen(raw.reshape(tensor["shape"]), dtype)

    return Entry(name, tuple(tensor["shape"]), dtype, load)
