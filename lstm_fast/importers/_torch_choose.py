"""Which modules of a source make the model: what ``module=`` says, or the only answer there can be."""

from __future__ import annotations

from collections.abc import Sequence

from ..activations import ACTIVATIONS
from ..errors import ModuleChoiceError, UnsupportedModelError
from ._torch_find import Modules, Node
from ._torch_kinds import is_own, is_scripted_activation, is_torch, kind_of, tensors_text
from ._torch_layers import Chain
from ._torch_stack import analyse

_FUNCTIONS = (*(name for name in ACTIVATIONS if name != "linear"), "softmax", "log_softmax")
_USABLE = ("embedding", "matrix", "recurrent", "linear")
_MAX_LISTED = 60
_GRAMMAR = """and what else its forward does: ":last" behind a recurrent module for its last output; ":relu", ":softmax"
or another function behind a module, or as an entry of its own"""


def choose(modules: Modules, module: str | Sequence[str] | None) -> Chain:
    """The chain that ``module`` describes, see :mod:`lstm_fast.importers.torch`.

    Without it: the root where its class is PyTorch's own, or the only module there is. How several modules follow
    one another, and what the forward of an unknown class does, is never guessed.
    """
    modules = _name_root(modules)
    chain = Chain(modules)
    if module is not None:
        for position, entry in enumerate(_split(module)):
            _add(chain, modules, entry, first=position == 0)
        return chain
    root = next(iter(modules))
    listed = _listed(modules)
    if is_own(modules[root]) and ".container.Module" not in modules[root].class_name:
        chain.add(root)
    elif (
        len(listed) == 1
        and kind_of(modules[listed[0]]) != "matrix"
        and all(is_torch(node) or not node.class_name for node in modules.values())
    ):
        chain.add(listed[0])
    else:
        example = _example(modules, listed)
        advice = f', for example\n  module="{example}"\n{_GRAMMAR}' if example else "; none of them is supported"
        raise ModuleChoiceError(
            f"nothing says how the modules in it follow one another; say it with module={advice}\n"
            f"{_table(modules, listed)}",
            {name or "(root)": _describe(modules[name]) for name in listed},
            example,
        )
    return chain


def _name_root(modules: Modules) -> Modules:
    """Give a module at the root, which has no name, that of its kind."""
    node = modules.get("")
    if node is None or kind_of(node) == "sequential" or not node.entries:
        return modules
    kind = kind_of(node)
    stack = _stack(node) if kind == "recurrent" else None
    label = stack.kind if stack else node.class_name.rpartition(".")[2].lower() or kind
    if label in modules:
        return modules
    return {label if name == "" else name: value for name, value in modules.items()}


def _split(module: str | Sequence[str]) -> list[list[str]]:
    entries = module.split(",") if isinstance(module, str) else module
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
        raise TypeError(f"module: expected names separated by commas, or a list of names, got {module!r}")
    if not entries or not all(entry.strip() for entry in entries):
        raise UnsupportedModelError(f"module={module!r}: expected names, one of them is empty; see a comma too many?")
    return [[part.strip() for part in entry.split(":")] for entry in entries]


def _add(chain: Chain, modules: Modules, entry: list[str], *, first: bool) -> None:
    name, *options = entry
    if "" in options:
        raise UnsupportedModelError(f"module={':'.join(entry)!r}: an option is empty; see a colon too many?")
    functions = [option for option in options if option in _FUNCTIONS]
    if not name and functions == options and options:
        for function in functions:
            chain.add_function(function, function)
        return
    if name not in modules:
        listed = _listed(modules)
        raise UnsupportedModelError(f"module=: nothing is called {name!r}\n{_table(modules, listed)}")
    kind = kind_of(modules[name])
    nonlinearity = ""
    if kind == "recurrent":  # the only kind for which tanh and relu are no functions applied behind it
        nonlinearity = next((option for option in options if option in ("tanh", "relu")), "")
        functions = [option for option in functions if option != nonlinearity]
    others = [option for option in options if option not in functions and option != nonlinearity]
    for option in others:
        if not _fits(option, kind):
            raise UnsupportedModelError(
                f"module=: {option!r} is no option of {name!r}, {_describe(modules[name])}; options are 'last' for"
                f" recurrent modules, 'embedding' or 'linear' for a matrix, and the functions {', '.join(_FUNCTIONS)}"
            )
    if kind == "recurrent" and functions:
        raise UnsupportedModelError(
            f"module=: {functions[0]!r} is no nonlinearity of a recurrent module; to apply it to the output of"
            f" {name!r}, add the entry ':{functions[0]}' behind it"
        )
    if kind == "matrix":
        kind = next(iter(others), "embedding" if first else "linear")
    chain.add(name, kind=kind, last="last" in others, nonlinearity=nonlinearity)
    for function in functions:
        chain.add_function(f"{name}.{function}", function)


def _fits(option: str, kind: str) -> bool:
    if option == "last":
        return kind == "recurrent"
    return option in ("embedding", "linear") and kind in ("matrix", option)


# For people: what there is.


def _listed(modules: Modules) -> list[str]:
    """Modules that do something: those with tensors, and PyTorch's own that are no container and no identity."""
    containers = ("sequential", "identity")
    return [
        name
        for name, node in modules.items()
        if kind_of(node) not in containers
        and (node.entries or (is_torch(node) and ".container." not in node.class_name))
    ]


def _example(modules: Modules, listed: list[str]) -> str:
    """A guess at what comes first and last, for the user to correct."""
    usable = [name for name in listed if kind_of(modules[name]) in _USABLE]
    usable.sort(key=lambda name: _USABLE.index(kind_of(modules[name])))
    return ", ".join(usable[:6])


def _table(modules: Modules, listed: list[str]) -> str:
    width = max((len(name) for name in listed[:_MAX_LISTED]), default=0)
    lines = [f"  {name or '(root)':{width}}  {_describe(modules[name])}" for name in listed[:_MAX_LISTED]]
    if len(listed) > _MAX_LISTED:
        lines.append(f"  and {len(listed) - _MAX_LISTED} more")
    return "modules found:\n" + "\n".join(lines)


def _stack(node: Node):
    shapes = {key: entry.shape for key, entry in node.entries.items()}
    return analyse(shapes, {key: entry.source for key, entry in node.entries.items()})[0]


def _describe(node: Node) -> str:
    kind = kind_of(node)
    weight = node.entries.get("weight")
    if kind == "recurrent":
        stack = _stack(node) if node.entries else None
        return str(stack) if stack else "a recurrent module whose tensors do not fit together"
    if kind == "matrix":
        return f"matrix {weight.shape[0]} x {weight.shape[1]}: an embedding, or linear without bias"
    if kind in ("linear", "embedding") and weight is not None and len(weight.shape) == 2:
        rows, columns = weight.shape
        return f"Linear {columns} -> {rows}" if kind == "linear" else f"Embedding {rows} x {columns}"
    name = node.class_name.rpartition(".")[2]
    if kind == "other":
        if is_scripted_activation(node):
            return f"{name}: TorchScript keeps its settings as code, give it as an option of the module before it"
        return "not supported: " + ", ".join(part for part in (name, tensors_text(node)) if part)
    return name or kind
