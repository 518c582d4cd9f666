"""Reading a model file whole: nothing but the path given is opened, and nothing is mapped.

A mapped file that someone truncates kills the process (SIGBUS); bytes in memory do not.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import ModelFormatError
from ..limits import Limits

_CHUNK = 1 << 24


@dataclass(frozen=True)
class Source:
    """The bytes of a file and a name for messages."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        import hashlib

        return hashlib.sha256(self.data).hexdigest()


def read_source(source: str | os.PathLike | bytes | BinaryIO, limits: Limits) -> Source:
    """Read a path, a binary file object or bytes.

    Raises:
        OSError: the path cannot be opened.
        ModelFormatError: it is not a regular file. ModelLimitError: it is larger than ``limits.file_bytes``.
        TypeError: ``source`` is none of the three.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        limits.check("file_bytes", memoryview(source).nbytes, "size in bytes of the data")
        return Source("<bytes>", bytes(source))
    if isinstance(source, str | os.PathLike):
        return Source(os.fsdecode(source), _read_path(source, limits))
    if callable(getattr(source, "read", None)):
        name = getattr(source, "name", None)
        return Source(name if isinstance(name, str) else "<file object>", _read_object(source, limits))
    raise TypeError(f"expected a path, bytes or a binary file object, got {type(source).__name__}")


def _read_path(path: str | os.PathLike, limits: Limits) -> bytes:
    _require_regular(Path(path).stat(), path)
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        _require_regular(status, path)  # again, on what was opened: the path may have changed in between
        limits.check("file_bytes", status.st_size, f"size in bytes of {os.fsdecode(path)}")
        return _read_up_to(file, status.st_size)


def _require_regular(status: os.stat_result, path: str | os.PathLike) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ModelFormatError(f"{os.fsdecode(path)}: expected a regular file, got {kind}; give the model file itself")


def _read_object(file: BinaryIO, limits: Limits) -> bytes:
    data = _read_up_to(file, limits.file_bytes + 1)
    limits.check("file_bytes", len(data), "size in bytes of the file object")
    return data


def _read_up_to(file: BinaryIO, size: int) -> bytes:
    """Read until the end of the file or ``size`` bytes, in chunks: a size that lies must not cost its memory."""
    chunks = []
    while size > 0:
        chunk = file.read(min(size, _CHUNK))
        if not isinstance(chunk, bytes):
            raise TypeError(f"expected a file object in binary mode ('rb'), its read() gave {type(chunk).__name__}")
        if not chunk:
            break
        chunks.append(chunk)
        size -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
