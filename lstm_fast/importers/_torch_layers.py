"""From PyTorch modules to layers of the spec, in two steps: judge every shape and attribute, then make the arrays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..activations import LINEAR, TANH, Activation
from ..errors import ModelFormatError, UnsupportedModelError, all_faults
from ..spec import Dense, Elementwise, Embedding, Layer, ModelSpec, Provenance, Softmax
from . import _torch_stack
from ._torch_find import Modules, Node, join
from ._torch_kinds import (
    activation_module,
    describe,
    is_own,
    is_scripted,
    is_torch,
    kind_of,
    named_activation,
    softmax_module,
    tensors_text,
)
from ._torch_tensors import FLOATS, Entry

_UNNORM = "torch.nn.utils.remove_weight_norm, torch.nn.utils.parametrize.remove_parametrizations"


@dataclass
class _Plan:
    """A layer to be: what it needs and how it is made."""

    entries: dict[str, Entry]
    make: Callable[[Mapping[str, np.ndarray]], Layer]
    provenance: list[Provenance] = field(default_factory=list)


class Chain:
    """Modules run one after another. ``add`` judges; ``spec`` raises all faults at once, or makes the model."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._sorted = sorted(modules)
        self._plans: list[_Plan] = []
        self._names: set[str] = set()
        self._faults: list[str] = []
        self._refused: list[str] = []
        self._layouts: dict[bool, str] = {}  # batch_first of the modules that say it
        self._scripted = ""  # a recurrent module that says it in code only

    def add(self, name: str, *, kind: str = "", last: bool = False, nonlinearity: str = "") -> None:
        """Append a module; ``kind`` stands in for :func:`kind_of` where the tensors alone leave it open."""
        node = self._modules.get(name)
        if node is None:
            self._faults.append(f"{name}: expected a module here, found none")
            return
        kind = kind or kind_of(node)
        if node.hooked:
            self._refuse(name, node, f"has forward hooks or a forward of its own; remove them ({_UNNORM})")
        elif kind == "sequential":
            for child in node.children:
                self._add_child(join(name, child))
        elif kind == "recurrent":
            self._add_recurrent(name, node, last, nonlinearity)
        elif kind in ("linear", "embedding"):
            self._add_matrix(name, node, kind)
        elif kind in ("activation", "softmax"):
            self._add_function(name, node, kind)
        elif ".parametrize." in node.class_name:
            self._refuse(name, node, f"is parametrized; make its weights plain ({_UNNORM})")
        elif kind != "identity":
            held = f" (it has {tensors_text(node)})" if node.entries else ""
            self._refuse(
                name, node, f"is not supported{held}; recurrent modules, Linear, Embedding and activations are"
            )

    def add_function(self, name: str, function: str) -> None:
        """Append an activation of the spec by name, or softmax or log_softmax."""
        name = self._unique(name)
        if function in ("softmax", "log_softmax"):
            layer: Layer = Softmax(name, log=function == "log_softmax")
        else:
            layer = Elementwise(name, named_activation(function))
        self._plans.append(_Plan({}, lambda arrays: layer))

    def spec(self, batch_first: bool | None, source_kind: str) -> ModelSpec:
        """The model. ``batch_first`` None is what the modules say, or True where none does."""
        if not isinstance(batch_first, bool | None):
            raise TypeError(f"batch_first: expected True, False or None, got {batch_first!r}")
        self._check_layout(batch_first)
        if messages := self._refused + self._faults:
            error = UnsupportedModelError if self._refused else ModelFormatError
            raise error(all_faults(messages, "the model"))
        wide = any(entry.dtype == "float64" for plan in self._plans for entry in plan.entries.values())
        dtype = np.float64 if wide else np.float32
        layers: list[Layer] = []
        for plan in self._plans:
            arrays = {name: entry.load().astype(dtype, copy=False) for name, entry in plan.entries.items()}
            _append(layers, plan.make(arrays))
        return ModelSpec(
            layers=tuple(layers),
            batch_first=next(iter(self._layouts), True) if batch_first is None else batch_first,
            source_kind=source_kind,
            provenance=tuple(origin for plan in self._plans for origin in plan.provenance),
        )

    # One method per kind of module.

    def _add_child(self, name: str) -> None:
        """Append a member of a Sequential. Nobody has said that a class of somebody's own is what its tensors are."""
        node = self._modules.get(name)
        if node is not None and node.class_name and not is_torch(node):
            self._refuse(name, node, f"is no class of PyTorch; take it for what its tensors are with module={name!r}")
        else:
            self.add(name)

    def _add_recurrent(self, name: str, node: Node, last: bool, nonlinearity: str) -> None:
        where = {key: entry.source for key, entry in node.entries.items()}
        if not where:
            self._faults.append(f"{name or 'the module'} ({node.class_name}): it has no parameters")
            return
        if not self._check_entries(name, node, _torch_stack.is_parameter):
            return
        own_kind = node.class_name.rpartition(".")[2].removesuffix("Cell").lower() if is_own(node) else None
        stack, faults = _torch_stack.analyse({key: e.shape for key, e in node.entries.items()}, where, own_kind)
        self._faults += faults
        if stack is None or faults:
            return
        self._check_attributes(name, node, stack)
        if nonlinearity and stack.kind != "rnn":
            self._refused.append(
                f"module=: {nonlinearity!r} is the nonlinearity of an RNN, and {name!r} is {stack}; to apply it to the"
                f" output, add the entry ':{nonlinearity}' behind it"
            )
        note = ""
        activation = TANH
        if stack.kind == "rnn":
            said = _nonlinearity(node)
            if nonlinearity and said and nonlinearity != said:
                self._refused.append(f"{name}: the module says nonlinearity {said!r}, not {nonlinearity!r}")
            if is_scripted(node) and not nonlinearity:
                self._refuse(
                    name, node, "keeps its nonlinearity as code, which is not run; say :tanh or :relu behind it"
                )
            chosen = nonlinearity or said or "tanh"
            note = f"nonlinearity {chosen}" + ("" if nonlinearity or said else " assumed, a state dict does not say")
            activation = Activation(chosen)
        layer_name = self._unique(name or stack.kind)
        self._plans.append(
            _Plan(
                node.entries,
                lambda arrays: _torch_stack.build(layer_name, stack, arrays, last=last, activation=activation),
                _torch_stack.provenance(layer_name, stack, where, note),
            )
        )

    def _add_matrix(self, name: str, node: Node, kind: str) -> None:
        entries = node.entries
        allowed = ("weight", "bias") if kind == "linear" else ("weight",)
        if not self._check_entries(name, node, allowed.__contains__):
            return
        if "weight" not in entries:
            self._faults.append(f"{join(name, 'weight')}: missing")
            return
        weight, bias = entries["weight"], entries.get("bias")
        if len(weight.shape) != 2 or 0 in weight.shape:
            self._faults.append(f"{weight.source}: expected 2 dimensions of 1 or more, got shape {weight.shape}")
        elif kind == "linear" and bias is not None and bias.shape != weight.shape[:1]:
            self._faults.append(f"{bias.source}: expected shape {weight.shape[:1]}, got {bias.shape}")
        if kind == "embedding" and node.attributes.get("max_norm") is not None:
            self._refuse(name, node, "has max_norm; embed with it applied, or retrain without it")
        layer_name = self._unique(name or kind)

        def make(arrays: Mapping[str, np.ndarray]) -> Layer:
            if kind == "embedding":
                return Embedding(layer_name, arrays["weight"])
            return Dense(layer_name, arrays["weight"], arrays.get("bias"))

        origins = [Provenance(f"{layer_name}.{key}", entry.source) for key, entry in entries.items()]
        self._plans.append(_Plan(entries, make, origins))

    def _add_function(self, name: str, node: Node, kind: str) -> None:
        layer_name = self._unique(name or kind)
        try:
            layer: Layer = (
                Softmax(layer_name, softmax_module(node))
                if kind == "softmax"
                else Elementwise(layer_name, activation_module(node))
            )
        except UnsupportedModelError as error:
            self._refused.append(f"{layer_name} ({node.class_name}): {error}")
            return
        self._plans.append(_Plan({}, lambda arrays: layer))

    # Judging.

    def _refuse(self, name: str, node: Node, what: str) -> None:
        known = f" ({node.class_name})" if node.class_name else ""
        self._refused.append(f"{name or 'the module'}{known} {what}")

    def _check_entries(self, name: str, node: Node, known: Callable[[str], bool]) -> bool:
        """Refuse a leaf with modules below it, and tensors unknown or not float; whether all was well."""
        count = len(self._refused)
        at = bisect_left(self._sorted, name + ".")
        if name and at < len(self._sorted) and self._sorted[at].startswith(name + "."):
            self._refuse(name, node, f"has a module of its own, {self._sorted[at]}: it is no plain PyTorch module")
        for key, entry in node.entries.items():
            if not known(key):
                self._refused.append(f"{entry.source}: not a plain module's; make its weights plain ({_UNNORM})")
            elif entry.dtype not in FLOATS:
                self._refused.append(
                    f"{entry.source}: expected {', '.join(FLOATS)}, got {entry.dtype}; convert it to a plain float"
                    " tensor before saving"
                )
        return len(self._refused) == count

    def _check_attributes(self, name: str, node: Node, stack: _torch_stack.Stack) -> None:
        expected = {
            "input_size": stack.input_size,
            "hidden_size": stack.hidden_size,
            "num_layers": stack.num_layers,
            "bidirectional": stack.num_directions == 2,
            "bias": stack.bias,
            "proj_size": stack.proj_size,
        }
        for key, value in expected.items():
            said = node.attributes.get(key, value)
            if isinstance(said, bool | int) and said != value:
                self._faults.append(f"{join(name, key)}: the module says {said}, its tensors {value}")
        batch_first = node.attributes.get("batch_first")
        if isinstance(batch_first, bool):
            self._layouts[batch_first] = name or stack.kind
        if is_scripted(node) and not node.class_name.endswith("Cell"):
            self._scripted = name or stack.kind

    def _check_layout(self, batch_first: bool | None) -> None:
        if len(self._layouts) == 2:
            self._refused.append(
                f"{self._layouts[True]} has batch_first=True and {self._layouts[False]} batch_first=False; make them"
                " agree"
            )
        elif batch_first is not None and (not batch_first) in self._layouts:
            self._refused.append(
                f"{self._layouts[not batch_first]} has batch_first={not batch_first}, but batch_first={batch_first} was"
                " given; leave it out"
            )
        elif batch_first is None and self._scripted:
            self._refused.append(
                f"{self._scripted}: TorchScript keeps batch_first as code, which is not run; give batch_first=True or"
                " False (PyTorch's default)"
            )

    def _unique(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self._names:
            candidate, number = f"{name}_{number}", number + 1
        self._names.add(candidate)
        return candidate


def _nonlinearity(node: Node) -> str:
    """An RNN module's "tanh" or "relu", or "" where nothing says it."""
    mode = node.attributes.get("mode", node.attributes.get("nonlinearity"))  # a cell has no mode
    if mode is None:
        return ""
    known = {"tanh": "tanh", "relu": "relu", "RNN_TANH": "tanh", "RNN_RELU": "relu"}
    if not isinstance(mode, str) or mode not in known:
        raise UnsupportedModelError(f"expected nonlinearity 'tanh' or 'relu' of an RNN, got {describe(mode)}")
    return known[mode]


def _append(layers: list[Layer], layer: Layer) -> None:
    """Append a layer; an elementwise function right behind a dense layer becomes its activation."""
    before = layers[-1] if layers else None
    if isinstance(layer, Elementwise) and isinstance(before, Dense) and before.activation == LINEAR:
        layers[-1] = replace(before, activation=layer.activation)
    else:
        layers.append(layer)
