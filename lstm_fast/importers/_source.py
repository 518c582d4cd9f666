"""Reading a model file's bytes, once, into memory.

Files are read and not mapped, because a mapping of a file that is cut short kills the process; only regular files are
opened by path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import BinaryIO

from ..errors import ModelFormatError
from ..limits import Limits

#: What a model can be read from.
Source = str | os.PathLike | bytes | BinaryIO

_CHUNK = 1 << 24
_HEAD = 512  # bytes that tell one kind of file from another


def name_of(source: Source) -> str:
    """What messages call ``source``."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    name = getattr(source, "name", None)
    if isinstance(name, str):
        return name
    return "<file object>" if hasattr(source, "read") else "<bytes>"


def read_source(source: Source, limits: Limits, recognise: Callable[[bytes], object] | None = None) -> bytes:
    """Read a path, a binary file object or bytes.

    ``recognise`` is given the first bytes, and raises where the rest is not worth reading.

    Raises:
        OSError: the path cannot be opened.
        ModelFormatError: it is not a regular file. ModelLimitError: it is larger than ``limits.file_bytes``.
        TypeError: ``source`` is none of the three.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        limits.check("file_bytes", memoryview(source).nbytes, "size in bytes of the data")
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return _read_path(source, limits, recognise)
    if callable(getattr(source, "read", None)):
        data = _read_up_to(source, limits.file_bytes + 1, recognise)
        limits.check("file_bytes", len(data), "size in bytes of the file object")
        return data
    raise TypeError(f"expected a path, bytes or a binary file object, got {type(source).__name__}")


def _read_path(path: str | os.PathLike, limits: Limits, recognise: Callable[[bytes], object] | None) -> bytes:
    _require_regular(os.stat(os.fspath(path) or os.curdir))  # noqa: PTH116 - pathlib costs each cold start 3 ms
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        _require_regular(status)  # again, on what was opened: the path may have changed in between
        limits.check("file_bytes", status.st_size, "size in bytes of the file")
        return _read_up_to(file, status.st_size, recognise)


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ModelFormatError(f"expected a regular file, got {kind}; give the file itself")


def _read_up_to(file: BinaryIO, size: int, recognise: Callable[[bytes], object] | None) -> bytes:
    """Read until the end of the file or ``size`` bytes, in chunks: a size that lies must not cost its memory."""
    chunks: list[bytes] = []
    while size > 0:
        chunk = file.read(min(size, _CHUNK))
        if not isinstance(chunk, bytes):
            raise TypeError(f"expected a file object in binary mode ('rb'), its read() gave {type(chunk).__name__}")
        if not chunk:
            break
        if recognise and not chunks and len(chunk) >= _HEAD:
            recognise(chunk)
        chunks.append(chunk)
        size -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
