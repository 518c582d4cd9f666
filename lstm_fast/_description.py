"""A ModelSpec without its weights, as the JSON description that a native file carries.

:func:`describe` and :func:`build` are each other's inverse. The schema is closed: a key that is not in it, or a kind
or name it does not list, is refused, because whatever is not read would be silently ignored. The schema's text is
docs/file-format.md; a change to it is a new :data:`SPEC_REVISION`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .activations import ACTIVATIONS, Activation
from .errors import ModelFormatError, UnsupportedModelError
from .limits import Limits
from .spec import Cell, Dense, Elementwise, Embedding, Layer, Masking, ModelSpec, Provenance, Recurrent, Softmax

#: Revision of the layer kinds and options below; a file of a higher one is refused.
SPEC_REVISION = 1

_ROOT = "description"
_NUMBER = (float, int)

#: The options that mean something for each kind of cell.
_CELL_OPTIONS = {
    "lstm": {"gate_activation": dict, "activation": dict, "output_activation": dict},
    "gru": {"gate_activation": dict, "activation": dict, "reset_after": bool},
    "rnn": {"activation": dict},
}
_MASKED_OUTPUTS = ("zero", "repeat")


def describe(spec: ModelSpec) -> str:
    """The description of ``spec``: JSON with sorted keys and no spaces, so that one model has one text."""
    description = {
        "spec_revision": SPEC_REVISION,
        "batch_first": bool(spec.batch_first),
        "layers": [_describe_layer(layer) for layer in spec.layers],
        "source": {"kind": spec.source_kind, "sha256": spec.source_sha256},
        "provenance": [{"target": p.target, "source": p.source, "note": p.note} for p in spec.provenance],
    }
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _describe_layer(layer: Layer) -> dict[str, Any]:
    name = layer.name
    if isinstance(layer, Recurrent):
        return {
            "layer": "recurrent",
            "name": name,
            "kind": layer.kind,
            "cells": [[_describe_cell(cell) for cell in directions] for directions in layer.layers],
            "return_sequences": bool(layer.return_sequences),
            "reverse": bool(layer.reverse),
            "masked_output": layer.masked_output,
        }
    if isinstance(layer, Embedding):
        return {"layer": "embedding", "name": name, "mask_zero": bool(layer.mask_zero)}
    if isinstance(layer, Masking):
        return {"layer": "masking", "name": name, "mask_value": float(layer.mask_value)}
    if isinstance(layer, Dense):
        return {"layer": "dense", "name": name, "activation": _describe_activation(layer.activation)}
    if isinstance(layer, Elementwise):
        return {"layer": "elementwise", "name": name, "activation": _describe_activation(layer.activation)}
    return {"layer": "softmax", "name": name, "log": bool(layer.log)}


def _describe_cell(cell: Cell) -> dict[str, Any]:
    values = {option: getattr(cell, option) for option in _CELL_OPTIONS[cell.kind]}
    return {o: _describe_activation(v) if isinstance(v, Activation) else bool(v) for o, v in values.items()}


def _describe_activation(activation: Activation) -> dict[str, Any]:
    return {"name": activation.name} | {p: float(getattr(activation, p)) for p in ACTIVATIONS[activation.name]}


def build(text: str, tensors: Mapping[str, np.ndarray], limits: Limits) -> ModelSpec:
    """The model that ``text`` describes with the weights in ``tensors``; the caller validates it.

    Raises:
        ModelFormatError: the text is not such a description, or a tensor is missing or left over.
        UnsupportedModelError: it has a key, kind or name this version does not know.
        ModelLimitError: more layers or provenance entries than ``limits.entries``.
    """
    description = parse_json(text, _ROOT)
    revision = description.get("spec_revision") if isinstance(description, dict) else None
    if type(revision) is int and revision > SPEC_REVISION:
        raise UnsupportedModelError(
            f"{_ROOT}.spec_revision: this file uses revision {revision} of the model description, this lstm_fast reads"
            f" up to {SPEC_REVISION}; upgrade lstm_fast"
        )
    revision, batch_first, layers, source, provenance = _fields(
        description, _ROOT, spec_revision=int, batch_first=bool, layers=list, source=dict, provenance=list
    )
    if revision < 1:
        raise ModelFormatError(f"{_ROOT}.spec_revision: expected 1 or higher, got {revision}")
    limits.check("entries", len(layers), "layers in the description")
    limits.check("entries", len(provenance), "provenance entries in the description")
    source_kind, source_sha256 = _fields(source, f"{_ROOT}.source", kind=str, sha256=str)
    weights = _Weights(tensors)
    spec = ModelSpec(
        layers=tuple(_build_layer(layer, f"{_ROOT}.layers[{i}]", weights) for i, layer in enumerate(layers)),
        batch_first=batch_first,
        source_kind=source_kind,
        source_sha256=source_sha256,
        provenance=tuple(
            Provenance(*_fields(entry, f"{_ROOT}.provenance[{i}]", target=str, source=str, note=str))
            for i, entry in enumerate(provenance)
        ),
    )
    weights.finish()
    return spec


class _Weights:
    """Hands each tensor out, and knows at the end which ones nothing asked for."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._left = dict(tensors)

    def take(self, layer: str, tensor: str) -> np.ndarray:
        name = f"{layer}.{tensor}"
        if name not in self._left:
            raise ModelFormatError(f"{name}: the description needs this tensor, and the file does not hold it")
        return self._left.pop(name)

    def take_if_there(self, layer: str, tensor: str) -> np.ndarray | None:
        return self._left.pop(f"{layer}.{tensor}", None)

    def finish(self) -> None:
        if self._left:
            raise ModelFormatError(
                f"{', '.join(sorted(self._left)[:5])}: the file holds {len(self._left)} tensor(s) that no layer of the"
                " description uses"
            )


def _build_layer(value: Any, where: str, weights: _Weights) -> Layer:
    kind = value.get("layer") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise ModelFormatError(f"{where}: expected an object with the text 'layer', got {_shown(value)}")
    if kind not in _LAYERS:
        raise UnsupportedModelError(
            f"{where}: layer {_shown(kind)} is unknown to this version; known: {', '.join(_LAYERS)}. Upgrade lstm_fast"
        )
    return _LAYERS[kind]({key: item for key, item in value.items() if key != "layer"}, where, weights)


def _build_recurrent(value: dict, where: str, weights: _Weights) -> Recurrent:
    name, kind, stack, return_sequences, reverse, masked_output = _fields(
        value, where, name=str, kind=str, cells=list, return_sequences=bool, reverse=bool, masked_output=str
    )
    if kind not in _CELL_OPTIONS:
        raise UnsupportedModelError(f"{where}.kind: {_shown(kind)} is unknown; known: {', '.join(_CELL_OPTIONS)}")
    if masked_output not in _MASKED_OUTPUTS:
        raise UnsupportedModelError(
            f"{where}.masked_output: {_shown(masked_output)} is unknown; known: {', '.join(_MASKED_OUTPUTS)}"
        )
    if not stack or not all(isinstance(directions, list) and len(directions) in (1, 2) for directions in stack):
        raise ModelFormatError(f"{where}.cells: expected a list of layers, each a list of one or two directions")
    layers = tuple(
        tuple(
            _build_cell(cell, f"{where}.cells[{index}][{direction}]", kind, name, index, direction, weights)
            for direction, cell in enumerate(directions)
        )
        for index, directions in enumerate(stack)
    )
    return Recurrent(name, layers, return_sequences, reverse, masked_output)


def _build_cell(value: Any, where: str, kind: str, name: str, index: int, direction: int, weights: _Weights) -> Cell:
    values = _fields(value, where, **_CELL_OPTIONS[kind])
    options = {
        option: _build_activation(v, f"{where}.{option}") if isinstance(v, dict) else v
        for option, v in zip(_CELL_OPTIONS[kind], values, strict=True)
    }
    suffix = f"_l{index}" + ("_reverse" if direction else "")
    return Cell(
        kind=kind,
        weight_ih=weights.take(name, f"weight_ih{suffix}"),
        weight_hh=weights.take(name, f"weight_hh{suffix}"),
        bias=weights.take_if_there(name, f"bias{suffix}"),
        bias_hn=weights.take_if_there(name, f"bias_hn{suffix}"),
        weight_hr=weights.take_if_there(name, f"weight_hr{suffix}"),
        **options,
    )


def _build_embedding(value: dict, where: str, weights: _Weights) -> Embedding:
    name, mask_zero = _fields(value, where, name=str, mask_zero=bool)
    return Embedding(name, weights.take(name, "weight"), mask_zero)


def _build_masking(value: dict, where: str, weights: _Weights) -> Masking:
    name, mask_value = _fields(value, where, name=str, mask_value=_NUMBER)
    return Masking(name, _finite(mask_value, f"{where}.mask_value"))


def _build_dense(value: dict, where: str, weights: _Weights) -> Dense:
    name, activation = _fields(value, where, name=str, activation=dict)
    return Dense(
        name,
        weights.take(name, "weight"),
        weights.take_if_there(name, "bias"),
        _build_activation(activation, f"{where}.activation"),
    )


def _build_elementwise(value: dict, where: str, weights: _Weights) -> Elementwise:
    name, activation = _fields(value, where, name=str, activation=dict)
    return Elementwise(name, _build_activation(activation, f"{where}.activation"))


def _build_softmax(value: dict, where: str, weights: _Weights) -> Softmax:
    return Softmax(*_fields(value, where, name=str, log=bool))


_LAYERS: dict[str, Callable[[dict, str, _Weights], Layer]] = {
    "recurrent": _build_recurrent,
    "embedding": _build_embedding,
    "masking": _build_masking,
    "dense": _build_dense,
    "elementwise": _build_elementwise,
    "softmax": _build_softmax,
}


def _build_activation(value: dict, where: str) -> Activation:
    name = value.get("name")
    if isinstance(name, str) and name not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"{where}: activation {_shown(name)} is unknown to this version; known: {', '.join(ACTIVATIONS)}"
        )
    parameters = dict.fromkeys(ACTIVATIONS[name], _NUMBER) if isinstance(name, str) else {}
    name, *values = _fields(value, where, name=str, **parameters)
    finite = (_finite(v, f"{where}.{p}") for p, v in zip(parameters, values, strict=True))
    return Activation(name, **dict(zip(parameters, finite, strict=True)))


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if not np.isfinite(number):
        raise ModelFormatError(f"{where}: expected a finite number, got {_shown(value)}")
    return number


def _fields(value: Any, where: str, **types: type | tuple[type, ...]) -> list[Any]:
    """The values of an object that has exactly the keys in ``types``, in their order."""
    if not isinstance(value, dict):
        raise ModelFormatError(f"{where}: expected an object, got {_shown(value)}")
    unknown = sorted(value.keys() - types.keys())
    if unknown:
        raise UnsupportedModelError(
            f"{where}: this version does not honour {_shown(unknown[0])}; it knows {', '.join(types)}"
        )
    for key, kind in types.items():
        if key not in value:
            raise ModelFormatError(f"{where}: expected a value for {key!r}, found none")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(value[key]) not in kinds:
            names = " or ".join(k.__name__ for k in kinds)
            raise ModelFormatError(f"{where}.{key}: expected {names}, got {_shown(value[key])}")
        if isinstance(value[key], str) and not is_text(value[key]):
            raise ModelFormatError(f"{where}.{key}: expected valid Unicode, got {_shown(value[key])}")
    return [value[key] for key in types]


def is_text(value: str) -> bool:
    """False for lone surrogates, which JSON can escape and no encoding can write."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def parse_json(text: str, where: str) -> Any:
    """Parse JSON as RFC 8259 has it, refusing what readers disagree about: repeated keys, NaN and Infinity."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ModelFormatError(f"{where}: an object in the JSON repeats a key; the file is damaged")
        return found

    def constant(name: str) -> Any:
        raise ModelFormatError(f"{where}: {name} is not JSON; the file is damaged")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except ModelFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{where}: not valid JSON ({error}); the file is damaged") from None


def _shown(value: Any) -> str:
    """A value from a file, short enough for a message."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
