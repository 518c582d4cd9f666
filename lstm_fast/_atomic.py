"""Files that are either the old one or the new one, never a part."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

_CHUNK = 1 << 20


def write_atomically(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = True) -> None:
    """Write ``data`` to ``path`` so that a crash, a kill or a full disk leaves whatever was there before.

    A temporary file in the same directory is written, flushed to disk, read back and compared, and only then renamed
    over ``path``; the directory is flushed last, so that the rename itself survives. A symbolic link is followed.
    Permissions are those of any new file, as the umask gives.

    Raises:
        FileExistsError: ``path`` exists and ``overwrite`` is false.
        OSError: what the system reports, or ``path`` is a directory or a device.
    """
    target = Path(os.path.realpath(path))
    check_target(target, overwrite=overwrite)
    temporary = target.with_name(f".lstm_fast-{secrets.token_hex(8)}.tmp")
    try:
        _write_through(temporary, data)
        _compare(temporary, data)
        check_target(target, overwrite=overwrite)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise the OSError that writing to ``path`` would meet, before any work is spent on what to write."""
    target = Path(path)
    if target.exists() and not target.is_file():
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, "expected a regular file to write to", str(target))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such directory to write to", str(target.parent))
    if target.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _compare(path: Path, data: bytes) -> None:
    view = memoryview(data)
    with path.open("rb") as file:
        for start in range(0, len(view) + 1, _CHUNK):
            if file.read(_CHUNK) != view[start : start + _CHUNK]:
                raise OSError(errno.EIO, "what was read back differs from what was written", str(path))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
