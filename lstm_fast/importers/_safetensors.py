"""What a safetensors file says of itself, which tells whose it is."""

from __future__ import annotations

import json

from ..errors import ModelFormatError
from ..limits import Limits


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
