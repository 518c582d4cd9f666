"""From files and live models to :class:`~lstm_fast.spec.ModelSpec`.

:func:`load_spec` tells a file's kind by its content, never by its suffix, and hands it to the one importer that knows
it. An importer is imported when it is needed; none imports the framework it reads for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits
from ..spec import ModelSpec
from ._source import Source, name_of, read_source

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_UNDERSTOOD = (
    "understood are Keras .keras and .h5, PyTorch .pt/.pth (zip and legacy) and .safetensors, lstm_fast's own .lstmf"
)
_NATIVE_KEY = "lstm_fast.format"
_LONGEST_MESSAGE = 10_000

#: What each kind of file is called, and which of load's arguments mean something for it.
_KINDS = {
    "torch": ("a PyTorch checkpoint", {"module", "batch_first"}),
    "keras": ("a Keras archive with a configuration of its own", set()),
    "hdf5": ("a Keras HDF5 file", {"config"}),
    "native": ("an lstm_fast file", set()),
}


def load_spec(
    source: Source,
    *,
    module: str | Sequence[str] | None = None,
    batch_first: bool | None = None,
    config: Source | None = None,
    limits: Limits | None = None,
) -> ModelSpec:
    """Read a model file.

    Args:
        source: path, binary file object, or the file's bytes.
        module: PyTorch only: the module or chain of modules to take, see :mod:`lstm_fast.importers.torch`.
        batch_first: PyTorch only: layout of ``x`` and ``y``. A state dict does not say; True is assumed.
        config: HDF5 only: the JSON configuration that belongs to a weights-only file.
        limits: what the file may cost to read.

    Raises:
        ModelFormatError, UnsupportedModelError, ModelLimitError: see :mod:`lstm_fast.errors`. OSError: no such file.
        TypeError: an argument of the wrong type.
    """
    limits = Limits() if limits is None else limits
    if not isinstance(limits, Limits):
        raise TypeError(f"limits: expected lstm_fast.Limits, such as Limits(entries=20_000), got {limits!r}")
    with _named(name_of(source)):
        data = read_source(source, limits, _recognise)
        kind, archive = _detect(data, limits)
        _refuse_arguments(kind, {"module": module, "batch_first": batch_first, "config": config})
        if kind == "native":
            from ..fileformat import read_lstmf

            return read_lstmf(data, limits)
        if kind == "torch":
            from .torch import read_torch

            spec = read_torch(data, archive, limits, module=module, batch_first=batch_first)
        elif kind == "keras":
            from .keras import read_keras_zip

            spec = read_keras_zip(archive, limits)
        else:
            from .keras import read_keras_h5

            spec = read_keras_h5(data, None if config is None else _read_config(config, limits), limits)
        return replace(spec, source_sha256=hashlib.sha256(data).hexdigest()).validate()


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts ``name`` in front of the message of an error in a file, and cuts what the file may have made endless."""
    try:
        yield
    except ModelFormatError as error:
        text = str(error)
        error.args = (f"{name}: {text[:_LONGEST_MESSAGE]}{'...' * (len(text) > _LONGEST_MESSAGE)}",)
        raise


def _read_config(config: Source, limits: Limits) -> bytes:
    with _named(f"config {name_of(config)}"):
        return read_source(config, limits)


def _detect(data: bytes, limits: Limits):
    """The kind of a file and, where it is a zip archive, the opened archive."""
    container = _recognise(data)
    if container == "zip":
        from ._zip import SafeZip

        archive = SafeZip(data, limits)
        return _detect_zip(archive), archive
    if container == "safetensors":
        return ("native" if _is_native(data, limits) else "torch"), None
    return ("torch" if container == "pickle" else container), None


def _recognise(head: bytes) -> str:
    """The container by its first bytes: zip, hdf5, safetensors or pickle."""
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if head.startswith(_HDF5_MAGIC):
        return "hdf5"
    if head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    if _looks_like_onnx(head):
        raise UnsupportedModelError(
            "an ONNX model; ONNX import is not available in this version. Save the model from its framework instead:"
            " model.save('model.keras') in Keras, torch.save(model.state_dict(), 'model.pt') in PyTorch"
        )
    if head[257:262] == b"ustar":
        raise UnsupportedModelError(
            "a tar archive, perhaps of PyTorch before 0.2; load it with PyTorch and torch.save its state_dict() again"
        )
    if not head:
        raise ModelFormatError("the file is empty")
    raise ModelFormatError(f"not a model file this version knows (it starts with {head[:8]!r}); {_UNDERSTOOD}")


def _detect_zip(archive) -> str:
    names = archive.names()
    if any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names):
        return "torch"
    if "config.json" in names and any(name.startswith("model.weights.") for name in names):
        return "keras"
    raise ModelFormatError(
        f"a zip archive that is neither a Keras nor a PyTorch file (its members: {names[:5]}); {_UNDERSTOOD}"
    )


def _is_native(data: bytes, limits: Limits) -> bool:
    from ._safetensors import read_metadata

    return _NATIVE_KEY in read_metadata(data, limits)


def _looks_like_onnx(data: bytes) -> bool:
    """ModelProto starts with ir_version (field 1, varint) and goes on with another of its fields."""
    return len(data) > 3 and data[0] == 0x08 and 0 < data[1] < 0x80 and data[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"


def _refuse_arguments(kind: str, arguments: dict) -> None:
    what, taken = _KINDS[kind]
    for name, value in arguments.items():
        if value is not None and name not in taken:
            raise UnsupportedModelError(f"{name}= means nothing for {what}; leave it out")
