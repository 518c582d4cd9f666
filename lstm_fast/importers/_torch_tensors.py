"""Tensors of PyTorch checkpoints as views of raw storages, checked with Python's integers before any array is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits
from ._pickle import MOST_ARGUMENTS, Global, Record

#: Bytes per element of the dtypes a storage may have.
ITEM_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
    "complex128": 16, "complex64": 8,
    "quint8": 1, "qint8": 1, "qint32": 4,
}  # fmt: skip
_STORAGE_DTYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64", "QUInt8Storage": "quint8", "QInt8Storage": "qint8",
    "QInt32Storage": "qint32", "UntypedStorage": "uint8",
}  # fmt: skip

#: Weights in these are read; the halves are widened to float32, without loss.
FLOATS = ("float32", "float64", "float16", "bfloat16")

#: Characters in the dotted name of a module or tensor.
LONGEST_NAME = 1000

_LONGEST_KEY = 255
_MAX_DIMENSIONS = 16
_WIDENED = 4  # times: two bytes of a number may become eight
_MARKED = "torch.Tensor marked as negated or conjugated"


@dataclass(frozen=True, eq=False)
class Storage:
    """``numel`` elements of ``dtype``, ``start`` bytes into the ``size`` bytes that the file stores as ``key``."""

    key: str
    dtype: str
    numel: int
    size: int
    start: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """A strided view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, eq=False)
class Entry:
    """A named tensor of whatever source: what is known of it, and how to get its values as float32 or float64."""

    source: str  # its name in the source, for messages and provenance
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray] | None = field(repr=False)  # None where the dtype tells that it is no plain tensor


def widen(values: np.ndarray, dtype: str) -> np.ndarray:
    """Own, aligned, native float32 or float64 values; bfloat16 comes as its bits in uint16."""
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64 if dtype == "float64" else np.float32, order="C")


def printable(name: str) -> str:
    """A name out of a file with control characters escaped: names end up in messages, and on terminals.

    Names are joined and stripped a good deal, so one that is absurdly long is refused.
    """
    if len(name) > LONGEST_NAME:
        raise ModelFormatError(f"a name of {len(name)} characters, starting {name[:40]!r}, is no module's")
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


# What a pickle may call.


def persistent_storage(pid: object) -> object:
    """The object behind a persistent id of torch.save: a storage, or a class saved with its source text."""
    if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
        return pid[1]
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise ModelFormatError("pickle: expected a persistent id ('storage', type, key, location, numel)")
    _, kind, key, _, numel, *view = pid
    name = kind.name.rpartition(".")[2] if isinstance(kind, Global) and kind.name.startswith("torch.") else ""
    if name not in _STORAGE_DTYPES:
        raise UnsupportedModelError(f"a storage of type {getattr(kind, 'name', kind.__class__.__name__)} is not known")
    if not isinstance(key, str | int) or _huge(key) or len(str(key)) > _LONGEST_KEY:
        raise ModelFormatError(f"pickle: expected the key of a storage to be text of at most {_LONGEST_KEY} characters")
    dtype, numel = _STORAGE_DTYPES[name], _size(numel, f"storage {key}")
    item = ITEM_SIZES[dtype]
    if not view or view[0] is None:
        return Storage(str(key), dtype, numel, numel * item)
    if not isinstance(view[0], tuple) or len(view[0]) != 3:
        raise ModelFormatError(f"storage {key}: expected (key, offset, size) for a view")
    start, part = (_size(value, f"storage {key}") for value in view[0][1:])
    if start + part > numel:
        raise ModelFormatError(f"storage {key}: a view of {part} elements at {start} leaves its {numel}")
    return Storage(str(key), dtype, part, numel * item, start * item)


def _rebuild_tensor(args: tuple) -> object:
    if len(args) < 4:
        raise ModelFormatError("pickle: expected (storage, offset, size, stride) for a tensor; the file is damaged")
    storage, offset, shape, stride = args[:4]
    if not isinstance(storage, Storage):
        return Record("torch._utils._rebuild_tensor", args)
    if any(args[6:]):
        return Record(_MARKED, args)
    return _view(storage, offset, shape, stride)


def _rebuild_tensor_v3(args: tuple) -> object:
    """As above for the dtypes without a storage class of their own: the dtype is the seventh argument."""
    if len(args) < 7 or not isinstance(args[0], Storage) or not isinstance(args[6], Global):
        return Record("torch._utils._rebuild_tensor_v3", args)
    if any(args[7:]):
        return Record(_MARKED, args)
    dtype = args[6].name.removeprefix("torch.")
    if dtype not in ITEM_SIZES:
        return Record(f"torch.Tensor of dtype {dtype}", args)
    raw = args[0]
    count = raw.numel * ITEM_SIZES[raw.dtype] // ITEM_SIZES[dtype]
    return _view(Storage(raw.key, dtype, count, raw.size, raw.start), *args[1:4])


def _view(storage: Storage, offset: object, shape: object, stride: object) -> Tensor:
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise ModelFormatError("pickle: expected a size and a stride of equal length for a tensor; the file is damaged")
    if len(shape) > _MAX_DIMENSIONS:
        raise UnsupportedModelError(f"a tensor of {len(shape)} dimensions is no part of a recurrent model")
    what = f"a tensor in storage {storage.key}"
    offset = _size(offset, what)
    shape, stride = tuple(_size(n, what) for n in shape), tuple(_size(n, what) for n in stride)
    tensor = Tensor(storage, offset, shape, stride)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if tensor.numel and last >= storage.numel:
        raise ModelFormatError(f"{what}: it reaches element {last} of {storage.numel}; the file is damaged")
    return tensor


def _size(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ModelFormatError(f"{what}: expected a size of 0 or more in 64 bits; the file is damaged")
    return value


def _ordered_dict(args: tuple) -> object:
    """An empty dictionary, or one of pairs as Python 2 pickled it."""
    if not args:
        return {}
    pairs = args[0] if len(args) == 1 else None
    if not isinstance(pairs, list) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        return Record("collections.OrderedDict", args)
    return {key: value for key, value in pairs if isinstance(key, str | int) and not _huge(key)}


def _huge(key: object) -> bool:
    return isinstance(key, int) and key.bit_length() > 64


def _first(args: tuple) -> object:
    if not args:
        raise ModelFormatError("pickle: expected the data of a parameter; the file is damaged")
    return args[0]


def _rebuild_from_type(args: tuple) -> object:
    """A tensor with Python attributes: (function, type, its arguments, state)."""
    if len(args) < 3 or not isinstance(args[0], Global) or not isinstance(args[1], Global):
        return Record("torch.Tensor of a type that is not known", args)
    rebuild, own = _REBUILDS.get(args[0].name), args[2]
    if rebuild is None or args[1].name not in _TENSOR_TYPES or not isinstance(own, tuple) or len(own) > MOST_ARGUMENTS:
        return Record(f"torch.Tensor of type {args[1].name}", args)  # which may mean more than its values
    return rebuild(own)


_TENSOR_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_REBUILDS: dict[str, Callable[[tuple], object]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
}


#: Globals that mean something; every other call stays a Record.
KNOWN: dict[str, Callable[[tuple], object]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda args: {},
    **_REBUILDS,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
}


class TensorReader:
    """Makes arrays of tensors, from a function that gives the raw bytes of a storage."""

    def __init__(
        self, storage_bytes: Callable[[Storage], memoryview], file_size: int, limits: Limits, order: str = "<"
    ) -> None:
        self._storage_bytes = storage_bytes
        self._file_size = file_size
        self._limits = limits
        self._order = order
        self._stored = 0

    def entry(self, source: str, tensor: Tensor) -> Entry:
        return Entry(source, tensor.shape, tensor.storage.dtype, lambda: self._load(source, tensor))

    def _load(self, source: str, tensor: Tensor) -> np.ndarray:
        """The values of a float tensor that is not empty; ``_view`` has checked that it stays within its storage."""
        dtype = tensor.storage.dtype
        item = ITEM_SIZES[dtype]
        self._stored += tensor.numel * item
        beyond = max(self._stored - self._file_size, 0) * _WIDENED
        self._limits.check_unfolded(self._file_size + beyond, self._file_size, f"bytes of all tensors up to {source}")
        raw = self._storage_bytes(tensor.storage)
        start = tensor.storage.start + tensor.offset * item
        kind = "u2" if dtype == "bfloat16" else f"f{item}"
        # NumPy adds up even the stride of a dimension that has one element, and so never uses it.
        strides = (step * item if size > 1 else 0 for size, step in zip(tensor.shape, tensor.stride, strict=True))
        values = np.ndarray(tensor.shape, np.dtype(self._order + kind), raw, start, tuple(strides))
        return widen(values, dtype)
