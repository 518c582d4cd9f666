"""Native files taken apart and put together, by the words of docs/file-format.md and not by the module under test."""

from __future__ import annotations

import hashlib
import json

from specs import tiny

from lstm_fast.fileformat import lstmf_bytes
from lstm_fast.spec import ModelSpec


def split(data: bytes) -> tuple[dict, bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def sealed(header: dict, body: bytes) -> bytes:
    """A file with its digest made right."""
    metadata = header["__metadata__"]
    parts = [metadata["lstm_fast.format"].encode(), metadata["lstm_fast.model"].encode()]
    for name in sorted(set(header) - {"__metadata__"}):
        entry = header[name]
        start, end = entry["data_offsets"]
        parts += [name.encode(), entry["dtype"].encode(), ",".join(map(str, entry["shape"])).encode(), body[start:end]]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()
    return join(header | {"__metadata__": metadata | {"lstm_fast.sha256": digest}}, body)


def changed(change, spec: ModelSpec | None = None) -> bytes:
    """The file of a model whose description ``change`` altered in place, sealed again."""
    header, body = split(lstmf_bytes(spec or tiny()))
    description = json.loads(header["__metadata__"]["lstm_fast.model"])
    change(description)
    header["__metadata__"]["lstm_fast.model"] = json.dumps(description)
    return sealed(header, body)
