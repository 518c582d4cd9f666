"""Keras: ``.keras`` archives, ``.h5`` models, weights beside their JSON configuration, live models and layers.

Configurations are data read against a closed table of layers (:mod:`lstm_fast.importers._keras_layers`); Keras is
never imported, and no code that a file holds or names ever runs.

``stateful=True`` is read as a plain layer: a stream goes on by feeding the returned state back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DTypeError, ModelFormatError, UnsupportedModelError
from ..limits import Limits
from ..spec import Embedding, ModelSpec, Provenance
from ._hdf5 import read_hdf5
from ._keras_config import Version, class_of, parse_json, show
from ._keras_graph import Node, chain, is_model
from ._keras_layers import Draft, Flow, Place, draft
from ._keras_weights import Found, from_groups, from_paths, legacy_groups

if TYPE_CHECKING:
    from ._zip import SafeZip

_KERAS_ROOTS = ("keras", "tf_keras", "keras_core", "tensorflow")
_PAIR = (
    "weights without a configuration; give the model's JSON beside them, config='model.json', written by"
    " open('model.json', 'w').write(model.to_json())"
)


def read_keras_zip(zip: SafeZip, limits: Limits) -> ModelSpec:  # noqa: A002 - the archive's kind
    """A ``.keras`` archive.

    Raises ModelFormatError where it is damaged, UnsupportedModelError naming what is not honoured, ModelLimitError.
    """
    config = parse_json(zip.read("config.json"), limits, "config.json")
    metadata = parse_json(zip.read("metadata.json"), limits, "metadata.json") if "metadata.json" in zip else {}
    if "model.weights.h5" not in zip:
        names = [name for name in zip.names() if name.startswith("model.weights.")]
        raise UnsupportedModelError(
            f"weights in {', '.join(map(show, names))}: only model.weights.h5 can be read; load the model with Keras"
            " and save it again with model.save('model.keras')"
        )
    drafts = _drafts(config, Version(_text(metadata.get("keras_version"))))
    return _spec(drafts, from_paths(_flat(drafts), read_hdf5(zip.view("model.weights.h5"), limits)))


def read_keras_h5(data: bytes, config: bytes | None, limits: Limits) -> ModelSpec:
    """A whole model in HDF5, or weights alone (``.weights.h5``, ``save_weights``) with ``config``, the model's JSON.

    Raises ModelFormatError where it is damaged, UnsupportedModelError naming what is not honoured, ModelLimitError.
    """
    file = read_hdf5(data, limits)
    version = file.attributes.get("keras_version", "")
    if "model_config" in file.attributes:
        if config is not None:
            raise UnsupportedModelError("config= means nothing for an HDF5 file with a configuration of its own")
        described = parse_json(file.attributes["model_config"], limits, "the attribute model_config")
    elif config is None:
        raise UnsupportedModelError(f"an HDF5 file of {_PAIR}")
    else:
        described = parse_json(config, limits, "config")
        version = version or _text(described.get("keras_version")) or ("3.0" if "module" in described else "")
    if file.layers is not None and version.split(".")[0] in ("", "0", "1"):
        raise UnsupportedModelError(
            f"a file of Keras {version or '1'}; load it with Keras 2 (2.3.1 reads it) and save it again"
        )
    drafts = _drafts(described, Version(version))
    found = from_paths(_flat(drafts), file) if file.layers is None else from_groups(drafts, legacy_groups(file))
    return _spec(drafts, found)


def from_keras_model(model: Any) -> ModelSpec:
    """A live model or layer of Keras 3, tf_keras or Keras 2; weights are copied.

    Raises:
        UnsupportedModelError: a class or an attribute that is not honoured, by name.
        TypeError: ``model`` is not an object of Keras.
    """
    root = type(model).__module__.split(".")[0]
    if not (callable(getattr(model, "get_config", None)) and callable(getattr(model, "get_weights", None))):
        raise TypeError(f"expected a Keras model or layer, got {type(model).__module__}.{type(model).__qualname__}")
    if root not in _KERAS_ROOTS:
        raise UnsupportedModelError(
            f"{type(model).__qualname__} is a class of somebody's own; lstm_fast runs Keras' own Sequential and"
            " Functional models and layers: give it one of those inside"
        )
    class_name = type(model).__name__
    version = Version("2.4" if root == "tensorflow" else _text(getattr(sys.modules.get(root), "__version__", None)))
    if is_model(class_name):
        drafts = _drafts({"class_name": class_name, "config": _config(model)}, version)
        layers = dict(_leaves(model, ""))
        given = [(d.place.name, _weights(layers[d.place.name])) for group in drafts for d in group if d.slots]
    else:
        config = _config(model)
        name = _text(config.get("name")) or class_name.lower()
        place = Place(name, f"{class_name} layer {show(name)}", "")
        drafts = [[draft(class_name, config, place, Flow(version))]]
        given = [(name, _weights(model))]
    return _spec(drafts, from_groups([[d] for d in _flat(drafts)], given)).validate()


def _config(model: Any) -> dict:
    """A live configuration as it would be read from a file: tuples are lists, unknown objects text to be refused."""
    return json.loads(json.dumps(model.get_config(), default=repr))


def _leaves(model: Any, prefix: str):
    """The layers of a live model and of the models nested in it, by the name :func:`chain` gives them."""
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


def _drafts(described: dict, version: Version) -> list[list[Draft]]:
    """Drafts of all layers, those of one layer of the outermost model together."""
    class_name, config = class_of(described, "the configuration")
    if not is_model(class_name):
        raise UnsupportedModelError(
            f"the configuration: expected a Sequential or Functional model, got {show(class_name)}; rebuild it as one"
        )
    nodes = list(chain(class_name, config))
    inputs = [node for node in nodes if node.class_name == "InputLayer"]
    layers = [node for node in nodes if node.class_name != "InputLayer"]
    for node in inputs:
        _check_input(node)
    if layers:
        _check_rank([*inputs[:1], layers[0]], 2 if layers[0].class_name == "Embedding" else 3)
    flow = Flow(version)
    return [
        [draft(node.class_name, node.config, node.place, flow) for node in group]
        for _, group in groupby(layers, key=lambda node: node.group)
    ]


def _check_input(node: Node) -> None:
    config = node.config if isinstance(node.config, dict) else {}
    for key in ("sparse", "ragged", "optional"):
        if config.get(key):
            raise UnsupportedModelError(f"{node.place.where}: {key} input is not supported; rebuild the model without")
    if config.get("dtype") == "string":
        raise UnsupportedModelError(f"{node.place.where}: text input is not supported; give the model numbers")


def _check_rank(nodes: Sequence[Node], rank: int) -> None:
    for node in nodes:
        config = node.config if isinstance(node.config, dict) else {}
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        if isinstance(shape, list) and len(shape) != rank:
            axes = "(batch, time)" if rank == 2 else "(batch, time, features)"
            raise UnsupportedModelError(
                f"{node.place.where}: expected input {axes}, got batch_shape {show(shape)}; lstm_fast runs"
                " networks over sequences"
            )


def _flat(drafts: Sequence[Sequence[Draft]]) -> list[Draft]:
    return [item for group in drafts for item in group]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _spec(drafts: Sequence[Sequence[Draft]], found: Found) -> ModelSpec:
    layers, origins = [], {}
    for item, weights in zip(_flat(drafts), found, strict=True):
        layers += item.build([array for _, array in weights])
        for slot, (source, _) in zip(item.slots, weights, strict=True):
            origins.update(dict.fromkeys(slot.targets, (source, slot.note)))
    spec = ModelSpec(tuple(layers), source_kind="keras")
    if any(isinstance(layer, Embedding) for layer in layers[1:]):
        raise UnsupportedModelError("an Embedding layer must come first; rebuild the model so that it does")
    provenance = (Provenance(target, *origins[target]) for target, _ in spec.tensors())
    return ModelSpec(spec.layers, source_kind="keras", provenance=tuple(provenance)).validate(ModelFormatError)
