"""From a Keras model's configuration to its layers in the order in which values pass through them.

Sequential models and Functional models of a single path, nested in each other. Keras 3 writes the computation of
masks into the graph too (``NotEqual``, ``Any``); these are recognised and left to the mask that flows by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits
from ._keras_config import ADVICE, class_of, show, snake_case
from ._keras_layers import Place

_MODELS = ("Sequential", "Functional", "Model")
_MASK_OPERATIONS = ("NotEqual", "Any")
_LONGEST_NAME = 1000  # of a layer with those of the models around it


@dataclass(frozen=True)
class Node:
    """A layer of the chain; ``group`` counts the layers of the outermost model, among which it is or lies in one."""

    class_name: str
    config: object
    place: Place
    group: int


def is_model(class_name: object) -> bool:
    return class_name in _MODELS


def chain(class_name: str, config: object, limits: Limits) -> Iterator[Node]:
    """The layers of a model in order, input layers included."""
    for group, (item, place) in enumerate(_members(class_name, config, Place("", "", ""), limits)):
        for name, inner, at in _unfold(item, place, limits):
            yield Node(name, inner, at, group)


def _unfold(item: dict, place: Place, limits: Limits) -> Iterator[tuple[str, object, Place]]:
    class_name, config = class_of(item, place.where)
    if not is_model(class_name):
        yield class_name, config, place
        return
    for inner, at in _members(class_name, config, place, limits):
        yield from _unfold(inner, at, limits)


def _members(class_name: str, config: object, place: Place, limits: Limits) -> Iterator[tuple[dict, Place]]:
    """The layers of one model, in the order of computation, each with its place."""
    where = place.where or f"{class_name} model"
    items = config.get("layers") if isinstance(config, dict) else config  # a bare list in Keras before 2.2.3
    if not isinstance(items, list) or not items:
        raise ModelFormatError(f"{where}: expected a list of layers, got {show(items)}")
    limits.check("entries", len(items), f"layers of the {where}")
    places, counts = [], {}
    for index, item in enumerate(items):
        name, inner = class_of(item, f"{where}, layer {index}")
        label = _label(item, inner, index, place)
        if len(label) > _LONGEST_NAME or len(name) > _LONGEST_NAME:
            raise ModelFormatError(f"{where}, layer {index}: a name of more than {_LONGEST_NAME} characters")
        kind = snake_case(name)
        counts[kind] = counts.get(kind, -1) + 1
        path = f"{place.path}/layers/{kind}".lstrip("/") + (f"_{counts[kind]}" if counts[kind] else "")
        sequential = class_name == "Sequential"
        at = Place(label, f"{show(name)[1:-1]} layer {show(label)}", path, sequential, place.trainable)
        places.append(at.of(inner))
    order = range(len(items)) if class_name == "Sequential" else _path(config, items, where)
    for index in order:
        yield items[index], places[index]


def _label(item: dict, config: object, index: int, model: Place) -> str:
    """A layer's name behind those of the models around it."""
    label = config.get("name") if isinstance(config, dict) else None
    label = label if isinstance(label, str) else item.get("name")
    if not isinstance(label, str) or not label:
        label = f"layer {index}"
    return f"{model.name}/{label}" if model.name else label


@dataclass(frozen=True)
class _Call:
    source: str
    mask: object  # None, or a reference to what computes it
    constant: object  # the second operand of NotEqual


def _path(config: dict, items: list[dict], where: str) -> list[int]:
    """Positions of a Functional model's layers along its only path, input first."""
    names = [item.get("name") for item in items]
    position = {name: index for index, name in enumerate(names) if isinstance(name, str)}
    if len(position) != len(items):
        raise ModelFormatError(f"{where}: expected every layer to have a name of its own, got {show(names)}")
    models = {n for n in position if is_model(items[position[n]].get("class_name"))}
    name, first = _endpoint(config, "output_layers", where), _endpoint(config, "input_layers", where)
    glue = {n for n in position if items[position[n]].get("class_name") in _MASK_OPERATIONS}
    calls = {n: _call(items[position[n]], n, models, where) for n in position if n != first}
    path: dict[str, None] = {}  # in order, from the output back to the input
    while True:
        if name not in position or name in path or name in glue:
            raise UnsupportedModelError(f"{where}: no single path leads from its input to {show(name)}; {ADVICE}")
        path[name] = None
        if name == first:
            break
        name = calls[name].source
    off = [n for n in names if n not in path and n not in glue]
    if off:
        raise UnsupportedModelError(
            f"{where}: only a single path of layers can be run, but {', '.join(map(show, off[:5]))} lies beside it;"
            f" {ADVICE}"
        )
    order = list(reversed(path))
    _check_masks(order, items, position, calls, where)
    return [position[name] for name in order]


def _endpoint(config: dict, key: str, where: str) -> str:
    value = config.get(key)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and value[2] == 0:
        return value[0]
    raise UnsupportedModelError(
        f"{where}: {key}: expected exactly one, the layer's own output, got {show(config.get(key))}; rebuild the model"
        " with one input and one output and without return_state"
    )


def _call(item: dict, name: str, models: Set[str], where: str) -> _Call:
    """The single call of a layer on the single output of another."""
    where = f"{where}, layer {show(name)}"
    made = item.get("inbound_nodes")
    if not isinstance(made, list) or len(made) != 1:
        count = len(made) if isinstance(made, list) else 0
        raise UnsupportedModelError(f"{where}: called {count} times, only layers called once can be run; {ADVICE}")
    call, constant = made[0], None
    if isinstance(call, dict):  # Keras 3
        inputs, keywords = call.get("args"), call.get("kwargs")
        if item.get("class_name") == "NotEqual" and isinstance(inputs, list) and len(inputs) == 2:
            inputs, constant = inputs[:1], inputs[1]
        source = _reference(inputs[0]) if isinstance(inputs, list) and len(inputs) == 1 else None
    else:  # Keras 2: [[source, node, output, keywords]]
        inputs = call[0] if isinstance(call, list) and len(call) == 1 and isinstance(call[0], list) else []
        source, keywords = _history(inputs[:3], models), inputs[3] if len(inputs) > 3 else {}
    if source is None or not isinstance(keywords, dict):
        raise UnsupportedModelError(
            f"{where}: expected one input, the output of another layer, got {show(call)}; {ADVICE}"
        )
    for key, value in keywords.items():
        if key != "mask" and value not in (None, False):
            raise UnsupportedModelError(
                f"{where}: called with {show(key)}={show(value)}, which is not supported; {ADVICE}"
            )
    return _Call(source, keywords.get("mask"), constant)


def _reference(value: object) -> str | None:
    """Name of the layer that a serialized tensor is the output of."""
    if (
        isinstance(value, dict)
        and value.get("class_name") == "__keras_tensor__"
        and isinstance(value.get("config"), dict)
    ):
        return _history(value["config"].get("keras_history"))
    return None


def _history(value: object, models: Set[str] = frozenset()) -> str | None:
    """Name of the layer of [name, call, output], where these are its only ones.

    Keras 2 may count the making of a nested model as its call 0; layers called twice are refused by their own entries.
    """
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)):
        return None
    return value[0] if value[1:] == [0, 0] or (value[0] in models and value[1:] == [1, 0]) else None


def _check_masks(path: list[str], items: list[dict], position: dict, calls: dict[str, _Call], where: str) -> None:
    """Every mask passed explicitly must be the one that flows along the path anyway."""
    flowing: tuple | None = None
    for name in path[1:]:
        item, given = items[position[name]], calls[name].mask
        if given is not None and (flowing is None or _mask(given, items, position, calls) != flowing):
            raise UnsupportedModelError(
                f"{where}, layer {show(name)}: called with a mask of its own; only masks made by Embedding and Masking"
                f" layers of the path can be run; {ADVICE}"
            )
        config = item.get("config")
        if item.get("class_name") == "Embedding" and isinstance(config, dict) and config.get("mask_zero"):
            flowing = ("NotEqual", calls[name].source, 0)
        elif item.get("class_name") == "Masking" and isinstance(config, dict):
            flowing = ("Any", calls[name].source, config.get("mask_value", 0.0))


def _mask(given: object, items: list[dict], position: dict, calls: dict[str, _Call]) -> tuple | None:
    """(kind, source, value) of the mask that mask operations compute, None for anything else."""
    name, kind = _reference(given), "NotEqual"
    item = items[position[name]] if name in position else {}
    if item.get("class_name") == "Any":
        config = item.get("config")
        if not isinstance(config, dict) or config.get("axis") not in (-1, [-1]) or config.get("keepdims"):
            return None
        name, kind = calls[name].source, "Any"
        item = items[position[name]] if name in position else {}
    if item.get("class_name") != "NotEqual":
        return None
    return kind, calls[name].source, calls[name].constant
