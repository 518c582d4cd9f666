"""Finding modules: in a state dict by its key names, in a pickled or a live module by its attributes.

All three give the same thing, modules by dotted name, in the source's order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits
from ._pickle import Record
from ._torch_tensors import Entry, Tensor, printable

_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
#: Containers whose only job is to call the module inside.
_WRAPPERS = {
    _COMPILED: "_orig_mod",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
}
_UNREAD = ("torch._utils.", "torch.Tensor")  # calls that make tensors of a kind that is not read
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")

#: What TorchScript puts in front of the name of every class, and into it where a class was compiled twice.
SCRIPTED = "__torch__."
_MANGLED = re.compile(r"___torch_mangle_\d+\.")


@dataclass(frozen=True, eq=False)
class Node:
    """One module: its own tensors, and of a pickled or live one also its class and plain attributes."""

    class_name: str = ""  # "" where the source does not say
    attributes: Mapping[str, object] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    hooked: bool = False


Modules = dict[str, Node]


def join(*parts: str) -> str:
    """A dotted name, leaving out empty parts."""
    return ".".join(part for part in parts if part)


def unwrap(modules: Modules) -> Modules:
    """The modules without a wrapper around the whole; one that does more than to call them is left, to be refused."""
    while (root := modules.get("")) and not root.hooked and (inner := _WRAPPERS.get(root.class_name)):
        modules = {name.removeprefix(inner).removeprefix("."): n for name, n in modules.items() if name}
    return modules


# State dicts.


def from_state_dict(entries: dict[str, Entry]) -> Modules:
    """Modules by the prefixes of the keys, without those of torch.compile, DataParallel and AveragedModel."""
    renamed = {key.replace("_orig_mod.", ""): entry for key, entry in entries.items() if key != "n_averaged"}
    while renamed and all(key.startswith("module.") for key in renamed):
        renamed = {key.removeprefix("module."): entry for key, entry in renamed.items()}
    if len(renamed) < len(entries) - ("n_averaged" in entries):
        raise ModelFormatError("two keys of the state dict are equal once the prefix _orig_mod. is dropped")
    modules: Modules = {}
    for key, entry in renamed.items():
        prefix, _, name = key.rpartition(".")
        modules.setdefault(prefix, Node()).entries[name] = entry
    return modules


# Pickled checkpoints.


_CONTAINERS = (dict, list, tuple, Record)
_Path = tuple  # (path of the container, key in it), () at the root: joined only where something is found


def _dotted(path: _Path) -> str:
    labels = []
    while path:
        path, key = path
        labels.append(_label(key))
    return printable(join(*reversed(labels)))


class Checkpoint:
    """What a pickle holds: state dicts and whole modules, wherever they are nested."""

    def __init__(self, root: object, entry: Callable[[str, Tensor], Entry], limits: Limits) -> None:
        self._entry = entry
        self._limits = limits
        self._tensors = self._modules = self._parts = 0
        self.found: list[tuple[str, Modules]] = list(self._search(root))

    def _search(self, root: object) -> Iterator[tuple[str, Modules]]:
        """Breadth-first, each container once, so neither cycles nor shared parts cost more than their size."""
        level: list[tuple[_Path, object]] = [((), root)] if isinstance(root, _CONTAINERS) else []
        seen = set()
        for _ in range(self._limits.nesting):
            below: list[tuple[_Path, object]] = []
            for path, value in level:
                if id(value) in seen:
                    continue
                seen.add(id(value))
                if isinstance(value, Record) and _is_module(value):
                    modules: Modules = {}
                    self._walk(value, "", modules, self._limits.nesting)
                    yield _dotted(path), unwrap(modules)
                    continue
                if isinstance(value, dict) and any(_is_weight(k, v) for k, v in value.items()):
                    yield _dotted(path), from_state_dict(self._entries(value, ""))
                below += ((((path, key)), inner) for key, inner in _contents(value) if isinstance(inner, _CONTAINERS))
            level = below
        if level:
            self._limits.check("nesting", self._limits.nesting + 1, "nested containers of the checkpoint")

    def _entries(self, values: dict, prefix: str) -> dict[str, Entry]:
        found = {}
        for key, value in values.items():
            if isinstance(key, str) and (isinstance(value, Tensor | Record) or _is_listed_weight(key, value)):
                self._tensors += 1
                self._limits.check("entries", self._tensors, "tensors of the checkpoint")
                label = _label(key)
                source = join(prefix, label)
                if label in found:
                    raise ModelFormatError(f"{source}: two tensors go by this name; the file is damaged")
                if isinstance(value, Tensor):
                    found[label] = self._entry(source, value)
                elif _is_weight_name(key):
                    found[label] = Entry(source, (), _kind(value), None)
        return found

    def _walk(self, record: Record, path: str, modules: Modules, depth: int) -> None:
        if depth == 0:
            self._limits.check("nesting", self._limits.nesting + 1, "nested modules")
        state = record.state
        if record.name.startswith(SCRIPTED):  # tensors and modules side by side; what else it says is code
            self._count_parts(state)
            node = Node(_MANGLED.sub("", record.name), entries=self._entries(state, path))
            inner = {key: value for key, value in state.items() if isinstance(value, Record) and _is_module(value)}
        else:
            own, buffers, inner = (_dict(state, name) for name in ("_parameters", "_buffers", "_modules"))
            self._count_parts(own, buffers, inner)
            names, hooked = tuple(map(_label, inner)), _is_hooked(record.name, state)
            node = Node(record.name, state, self._entries({**own, **buffers}, path), names, hooked)
        self._add(modules, path, node)
        for key, value in inner.items():
            if not isinstance(key, str) or not key:
                raise ModelFormatError(f"{join(path, _label(key))}: expected a name for a module; the file is damaged")
            if isinstance(value, Record) and _is_module(value):
                self._walk(value, join(path, _label(key)), modules, depth - 1)
            elif isinstance(value, Record):
                self._add(modules, join(path, _label(key)), Node(value.name))

    def _add(self, modules: Modules, path: str, node: Node) -> None:
        self._modules += 1
        self._limits.check("entries", self._modules, "modules of the checkpoint")
        if printable(path) in modules:
            raise ModelFormatError(f"{path}: two modules go by this name; the file is damaged")
        modules[path] = node

    def _count_parts(self, *parts: dict) -> None:
        """Modules may share what they have, and then each goes through all of it."""
        self._parts += sum(map(len, parts))
        self._limits.check("memo", self._parts, "parameters and modules of the checkpoint")


def _kind(value: Record | list | tuple) -> str:
    return value.name if isinstance(value, Record) else f"a {type(value).__name__}"


def _dict(state: dict, name: str) -> dict:
    value = state.get(name)
    return value if isinstance(value, dict) else {}


def _is_hooked(class_name: str, attributes: dict) -> bool:
    """Whether a module does something else than its class: by hooks, or a forward of its own as torch.compile has."""
    replaced = "forward" in attributes and class_name != _COMPILED
    return replaced or any(_dict(attributes, name) for name in _HOOKS)


def _is_module(record: Record) -> bool:
    if not isinstance(record.state, dict):
        return False
    return isinstance(record.state.get("_modules"), dict) or record.name.startswith(SCRIPTED)


def _is_weight_name(key: str) -> bool:
    return key.rpartition(".")[2].startswith(("weight", "bias"))


def _is_listed_weight(key: str, value: object) -> bool:
    """Numbers in a list where a tensor belongs: PyTorch would not take them."""
    name = key.rpartition(".")[2]
    return isinstance(value, list | tuple) and re.fullmatch("(weight|bias)(_(ih|hh|hr)(_.*)?)?", name) is not None


def _is_weight(key: object, value: object) -> bool:
    tensor = isinstance(value, Tensor) or (isinstance(value, Record) and value.name.startswith(_UNREAD))
    return tensor and isinstance(key, str) and _is_weight_name(key)


def _label(key: object) -> str:
    """A key of the file as printable text."""
    return printable(key if isinstance(key, str) else str(key) if isinstance(key, int | float) else "?")


def _contents(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, Record):
        yield from value.entries.items()
        yield from enumerate(value.elements)
        yield from value.state.items() if isinstance(value.state, dict) else [("state", value.state)]
    else:
        yield from enumerate(value)


# Live modules: duck-typed, so that torch is not imported here.


def is_live_module(value: object) -> bool:
    """Whether ``value`` keeps its parts as ``torch.nn.Module`` does; a TorchScript module does not."""
    attributes = getattr(value, "__dict__", {})
    return all(isinstance(attributes.get(name), dict) for name in ("_parameters", "_buffers", "_modules"))


def from_live(module: object) -> Modules:
    """Modules of a live ``torch.nn.Module``."""
    modules: Modules = {}
    _walk_live(module, "", modules, Limits().nesting)
    return unwrap(modules)


def _walk_live(module: object, path: str, modules: Modules, depth: int) -> None:
    if depth == 0:
        raise UnsupportedModelError(f"{path[:80]}...: modules nested too deeply; does one contain itself?")
    cls = type(module)
    class_name = f"{cls.__module__}.{cls.__qualname__}"
    if not is_live_module(module):
        modules[path] = Node(class_name)
        return
    attributes = vars(module)
    own = {**attributes["_parameters"], **attributes["_buffers"]}
    entries = {name: _live_entry(join(path, name), tensor) for name, tensor in own.items() if tensor is not None}
    inner = {name: child for name, child in attributes["_modules"].items() if child is not None}
    modules[path] = Node(class_name, attributes, entries, tuple(inner), _is_hooked(class_name, attributes))
    for name, child in inner.items():
        _walk_live(child, join(path, name), modules, depth - 1)


def _live_entry(source: str, tensor) -> Entry:
    dtype = str(tensor.dtype).removeprefix("torch.")

    def load():
        import numpy as np

        try:
            values = tensor.detach().cpu()
            values = (values.float() if dtype in ("float16", "bfloat16") else values).contiguous().numpy()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise UnsupportedModelError(f"{source}: its values cannot be had ({error})") from None
        return np.array(values)

    try:
        shape = tuple(map(int, tensor.shape))
    except RuntimeError:  # a lazy module's, before its first call
        return Entry(source, (), "a parameter without a shape", None)
    return Entry(source, shape, dtype, load)
