"""Live Keras models and layers, of Keras 3, tf_keras or Keras 2, read through their own configuration and weights.

A configuration names classes and functions, and Keras does not say there whose they are: a function of one's own
called ``tanh`` is "tanh". So the live objects themselves are judged first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DTypeError, UnsupportedModelError
from ..limits import Limits
from ..spec import ModelSpec
from ._keras_config import Version
from ._keras_graph import is_model
from ._keras_layers import Flow, Place, draft
from ._keras_model import build_model, draft_model, flat
from ._keras_weights import as_they_come, from_groups, inherited_frozen_last

_ROOTS = ("keras", "tf_keras", "keras_core", "tensorflow")
_PARTS = ("layer", "forward_layer", "backward_layer", "cell")
_FUNCTIONS = ("activation", "recurrent_activation")


def from_keras_model(model: Any) -> ModelSpec:
    """A live model or layer; weights are copied.

    Raises:
        UnsupportedModelError: a class, function or attribute that is not honoured, by name.
        TypeError: ``model`` is not an object of Keras.
    """
    instance = not isinstance(model, type)
    if not (
        instance and callable(getattr(model, "get_config", None)) and callable(getattr(model, "get_weights", None))
    ):
        what = f"{type(model).__module__}.{type(model).__qualname__}" if instance else f"the class {model.__name__}"
        raise TypeError(f"expected a Keras model or layer, got {what}; files are for load()")
    _check_own(model, type(model).__name__)
    if not getattr(model, "built", True):
        raise UnsupportedModelError(
            "the model has no weights yet; call it once, or model.build((None, None, features))"
        )
    version = _version(_root(type(model)))
    class_name = type(model).__name__
    if is_model(class_name):
        drafts = draft_model({"class_name": class_name, "config": _config(model)}, version, Limits())
        layers = dict(_leaves(model, ""))
        given = [(d.place.name, _weights(layers[d.place.name])) for d in flat(drafts) if d.slots]
    else:
        config = _config(model)
        name = config["name"] if isinstance(config.get("name"), str) else class_name.lower()
        place = Place(name, f"{class_name} layer {name!a}", "").of(config)
        drafts = [[draft(class_name, config, place, Flow(version))]]
        given = [(name, _weights(model))]
    order = as_they_come if version.keras3 else inherited_frozen_last  # as get_weights() gives them
    return build_model(drafts, from_groups([[d] for d in flat(drafts)], given, order))


def _version(root: str) -> Version:
    text = "2.4" if root == "tensorflow" else getattr(sys.modules.get(root), "__version__", None)
    return Version(text if isinstance(text, str) else "")


def _root(owner: Any) -> str:
    """The package that a class or function comes from."""
    return str(getattr(owner, "__module__", "")).split(".")[0]


def _check_own(item: Any, where: str) -> None:
    """Refuse what is not Keras' own: the class of ``item`` and of every layer in it, and their functions."""
    if _root(type(item)) not in _ROOTS or "call" in vars(item):
        raise UnsupportedModelError(
            f"{where}: {type(item).__qualname__} is a class of somebody's own, or its call() was replaced; lstm_fast"
            " runs Keras' own Sequential and Functional models and layers: give it one of those inside"
        )
    for name in _FUNCTIONS:
        function = getattr(item, name, None)
        if callable(getattr(function, "get_config", None)):
            _check_own(function, f"{where}, {name}")
        elif function is not None and not (_root(function) in _ROOTS and ".activations" in function.__module__):
            raise UnsupportedModelError(
                f"{where}: {name} {getattr(function, '__name__', function)!a} is a function of somebody's own; use one"
                " of keras.activations"
            )
    members = [id(layer) for layer in getattr(item, "_layers", ())]
    if len(members) > len(set(members)):
        raise UnsupportedModelError(
            f"{where}: a layer stands in it twice, and Keras names it once; build another layer"
        )
    for part in _parts(item):
        _check_own(part, f"{where}, {getattr(part, 'name', type(part).__name__)!a}")


def _parts(item: Any) -> Iterator[Any]:
    if is_model(type(item).__name__):
        yield from item.layers
    yield from (part for name in _PARTS if (part := getattr(item, name, None)) is not None)
    yield from getattr(item, "cells", ())


def _config(model: Any) -> dict:
    """A live configuration as it would be read from a file: tuples are lists, unknown objects text to be refused."""
    return json.loads(json.dumps(model.get_config(), default=repr))


def _leaves(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The layers of a live model and of the models nested in it, by the name that ``chain`` gives them."""
    for layer in model.layers:
        name = prefix + layer.name
        if is_model(type(layer).__name__):
            yield from _leaves(layer, name + "/")
        else:
            yield name, layer


def _weights(layer: Any) -> list[tuple[str, np.ndarray]]:
    found = []
    for index, value in enumerate(layer.get_weights()):
        array = np.array(value)
        if array.dtype not in (np.float32, np.float64):
            raise DTypeError(f"{layer.name}, weight {index}: expected float32 or float64, got {array.dtype}")
        found.append((f"{layer.name}.get_weights()[{index}]", array))
    return found
