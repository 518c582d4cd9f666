"""From a whole Keras configuration to drafts of its layers, and from drafts with their weights to the model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits
from ..spec import Embedding, ModelSpec, Provenance
from ._keras_config import Version, class_of, show
from ._keras_graph import Node, chain, is_model
from ._keras_layers import Draft, Flow, draft
from ._keras_weights import Found

_REAL_INPUTS = (None, "float32", "float64")
_ID_INPUTS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def draft_model(described: dict, version: Version, limits: Limits) -> list[list[Draft]]:
    """Drafts of all layers, those of one layer of the outermost model together.

    Raises UnsupportedModelError naming what is not honoured, ModelFormatError, ModelLimitError.
    """
    class_name, config = class_of(described, "the configuration")
    if not is_model(class_name):
        raise UnsupportedModelError(
            f"the configuration: expected a Sequential or Functional model, got {show(class_name)}; rebuild it as one"
        )
    nodes = list(chain(class_name, config, limits))
    layers = [node for node in nodes if node.class_name != "InputLayer"]
    _check_inputs(nodes)
    if layers:
        first = [node for node in nodes if node.class_name == "InputLayer"][:1]
        _check_rank([*first, layers[0]], 2 if layers[0].class_name == "Embedding" else 3)
    flow = Flow(version)
    return [
        [draft(node.class_name, node.config, node.place, flow) for node in group]
        for _, group in groupby(layers, key=lambda node: node.group)
    ]


def flat(drafts: Sequence[Sequence[Draft]]) -> list[Draft]:
    """The drafts of a model one after another."""
    return [item for group in drafts for item in group]


def build_model(drafts: Sequence[Sequence[Draft]], found: Found) -> ModelSpec:
    """The model of drafts and the weights found for each.

    Raises ModelFormatError with every fault, UnsupportedModelError.
    """
    layers, origins = [], {}
    for item, weights in zip(flat(drafts), found, strict=True):
        layers += item.build([array for _, array in weights])
        for slot, (source, _) in zip(item.slots, weights, strict=True):
            origins.update(dict.fromkeys(slot.targets, (source, slot.note)))
    spec = ModelSpec(tuple(layers), source_kind="keras")
    if any(isinstance(layer, Embedding) for layer in layers[1:]):
        raise UnsupportedModelError("an Embedding layer must come first; rebuild the model so that it does")
    if len({value.dtype for _, value in spec.tensors()}) > 1:
        raise UnsupportedModelError("float32 and float64 layers are mixed; rebuild the model with one dtype policy")
    provenance = (Provenance(target, *origins[target]) for target, _ in spec.tensors())
    return ModelSpec(spec.layers, source_kind="keras", provenance=tuple(provenance)).validate(ModelFormatError)


def _check_inputs(nodes: Sequence[Node]) -> None:
    """Judge every input layer, also of nested models, by the layer that reads it."""
    reader = None
    for node in reversed(nodes):
        if node.class_name == "InputLayer":
            _check_input(node, reader)
        else:
            reader = node


def _check_input(node: Node, reader: Node | None) -> None:
    config = node.config if isinstance(node.config, dict) else {}
    for key in ("sparse", "ragged", "optional"):
        if config.get(key):
            raise UnsupportedModelError(f"{node.place.where}: {key} input is not supported; rebuild the model without")
    dtype = config.get("dtype")
    if dtype not in _REAL_INPUTS and not (dtype in _ID_INPUTS and _holds_ids(dtype, reader)):
        raise UnsupportedModelError(
            f"{node.place.where}: input of dtype {show(dtype)} is not supported, only float32, float64 and, for an"
            " Embedding, integers: Keras would convert to it what the model is given. Rebuild the model with"
            " Input(dtype='float32')"
        )


def _holds_ids(dtype: str, reader: Node | None) -> bool:
    if reader is None or reader.class_name != "Embedding" or not isinstance(reader.config, dict):
        return False
    rows = reader.config.get("input_dim")
    return isinstance(rows, int) and rows <= np.iinfo(dtype).max + 1


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
