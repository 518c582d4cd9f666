"""Keras' HDF5 files, parsed by a child process that may crash, hang or run out of memory in our place.

The HDF5 C library segfaults or loops forever on some damaged files, and no Python thread can stop it. So this process
never imports h5py: a fresh interpreter gets the file's bytes on an inherited descriptor, confines itself
(:mod:`lstm_fast.importers._hdf5_child`), and writes arrays and attributes to another, where nothing is believed that
has not been checked against the limits.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import ModelFormatError, ModelLimitError, UnsupportedModelError
from ..limits import Limits

_PROGRAM = Path(__file__).with_name("_hdf5_child.py")
_REFUSED = 3  # the child's exit status for a refusal with a message
_BLOCK = 16 << 20
_WORKING_MEMORY = 48 << 20  # for the library itself
_CLOCK_FACTOR = 10  # a busy machine may give the child a tenth of a processor
_INSTALL = "pip install 'lstm_fast[keras]'"
_ELSEWHERE = "convert the model where it is available: lstm-fast import SRC -o model.lstmf"


@dataclass(frozen=True)
class Hdf5File:
    """What a Keras HDF5 file holds: text attributes, arrays by path, and the layout that tells what they are."""

    attributes: dict[str, str]
    """Those present of model_config, keras_version, backend."""
    layers: tuple[tuple[str, tuple[str, ...]], ...] | None
    """Layout of whole-model .h5 files and Keras 2 weights: (layer, paths of its weights); None in Keras 3's layout."""
    arrays: dict[str, np.ndarray]
    """The float32 and float64 datasets."""
    others: dict[str, str]
    """Path and dtype of every other dataset."""


def read_hdf5(data: bytes | memoryview, limits: Limits, file_size: int | None = None) -> Hdf5File:
    """Parse the bytes of an HDF5 file, which came out of an archive of ``file_size`` bytes or are a file themselves.

    Raises:
        ModelFormatError: the file is damaged; the HDF5 library crashed on it.
        UnsupportedModelError: links, external or virtual datasets, unknown filters; h5py or an interpreter is missing.
        ModelLimitError: over a limit, of processor time (``seconds``) too.
    """
    command = _command()
    seconds = limits.seconds * (1 + len(data) // _BLOCK)
    unfolded = (len(data) if file_size is None else file_size) + limits.inflated_bytes
    request = {
        "paths": _package_paths(),
        "limits": {
            "entries": limits.entries,
            "header_bytes": limits.header_bytes,
            "nesting": limits.nesting,
            "unfolded": unfolded,
        },
        "seconds": seconds,
        "memory": 2 * unfolded + _WORKING_MEMORY,  # an array, and what the library needs to inflate it
        "output": unfolded + limits.header_bytes + 8,
    }
    with ExitStack() as stack:
        source, result = stack.enter_context(_scratch()), stack.enter_context(_scratch())
        source.write(data)
        source.seek(0)
        try:
            child = subprocess.run(
                [*command, json.dumps(request)],
                stdin=source,
                stdout=result,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                timeout=seconds * _CLOCK_FACTOR,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _too_slow(seconds * _CLOCK_FACTOR, "on the clock") from None
        except OSError as error:
            raise UnsupportedModelError(
                f"HDF5 files are read in a process of their own, which could not be started: {error}; {_ELSEWHERE}"
            ) from None
        result.seek(0)
        return _judge(child.returncode, result, seconds, limits, unfolded)


def _command() -> list[str]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise UnsupportedModelError(
            "HDF5 files are read in a fresh Python process, but this is an embedded or frozen interpreter whose"
            f" sys.executable ({sys.executable!r}) starts no Python; {_ELSEWHERE}"
        )
    return [sys.executable, "-I", "-S", "-B", os.fspath(_PROGRAM)]


def _package_paths() -> list[str]:
    """Directories from which the child imports h5py and numpy, found without importing them."""
    paths = []
    for name in ("h5py", "numpy"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise UnsupportedModelError(f"reading HDF5 files needs {name}, which is not installed: {_INSTALL}")
        paths.append(os.fspath(Path(found.origin).parent.parent))
    return list(dict.fromkeys(paths))


def _environment() -> dict[str, str]:
    """Ours, without what would change the interpreter or the HDF5 library, and with one BLAS thread to start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HDF5_"))}
    return kept | {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _scratch() -> BinaryIO:
    """A nameless file: in memory where the system can, else unlinked on disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("lstm_fast"), "w+b")
    return tempfile.TemporaryFile()


def _too_slow(seconds: int, measure: str) -> ModelLimitError:
    return ModelLimitError(
        f"parsing the HDF5 file took more than {seconds} s {measure}; it is damaged or made to hang. If you trust it,"
        " give it more with limits=lf.Limits(seconds=...)"
    )


def _judge(status: int, result: BinaryIO, seconds: int, limits: Limits, unfolded: int) -> Hdf5File:
    if status in (-signal.SIGPROF, -signal.SIGXCPU):
        raise _too_slow(seconds, "of processor time")
    if status not in (0, _REFUSED):
        how = f"exit status {status}"
        if status < 0:
            how = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        raise ModelFormatError(
            f"the HDF5 library failed on this file ({how}, in a process of its own); the file is damaged"
        )
    header = _header(result, limits)
    if status == _REFUSED:
        raise _refusal(header)
    return _contents(header, result, limits, unfolded)


def _garbage(what: str) -> ModelFormatError:
    return ModelFormatError(f"the process that parses the HDF5 file answered with {what}; the file is damaged")


def _header(result: BinaryIO, limits: Limits) -> dict:
    length = int.from_bytes(result.read(8), "little")
    if length > limits.header_bytes:
        raise _garbage(f"a header of {length} bytes")
    try:
        header = json.loads(result.read(length))
    except (ValueError, RecursionError):
        raise _garbage("no JSON header") from None
    if not isinstance(header, dict):
        raise _garbage("no JSON object")
    return header


def _refusal(header: dict) -> ModelFormatError:
    kind, message = str(header.get("kind")), str(header.get("message"))
    if kind.startswith("limit:"):
        name = kind.removeprefix("limit:").replace("unfolded", "inflated_bytes")
        return ModelLimitError(f"{message}; if you trust the file, raise it with limits=lf.Limits({name}=...)")
    return (UnsupportedModelError if kind == "unsupported" else ModelFormatError)(message)


def _contents(header: dict, result: BinaryIO, limits: Limits, unfolded: int) -> Hdf5File:
    try:
        attributes = {_text(name): _text(value) for name, value in header["attributes"].items()}
        others = {_text(path): _text(dtype) for path, dtype in header["others"].items()}
        layers = header["layers"]
        if layers is not None:
            layers = tuple((_text(name), tuple(_text(path) for path in paths)) for name, paths in layers)
        declared = list(_declared(header["datasets"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _garbage("an ill-formed header") from None
    start = result.tell()
    present = result.seek(0, os.SEEK_END) - start
    result.seek(start)
    total = sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in declared)
    if total > unfolded or total != present or len(declared) > limits.entries:
        raise _garbage(f"{present} bytes of arrays where it announced {total}")
    arrays = {}
    for path, dtype, shape in declared:
        array = np.empty(shape, dtype)
        if array.size:
            result.readinto(memoryview(array).cast("B"))
        arrays[path] = array
    return Hdf5File(attributes, layers, arrays, others)


def _declared(datasets: list) -> Iterator[tuple[str, np.dtype, tuple[int, ...]]]:
    for entry in datasets:
        shape = tuple(entry["shape"])
        if entry["dtype"] not in ("<f4", "<f8") or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError
        yield _text(entry["path"]), np.dtype(entry["dtype"]), shape


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return value
