"""A recurrent stack from PyTorch's named arrays: ``weight_ih_l0``, ``weight_hh_l0_reverse``, ..., or a cell's names.

Every shape is judged under its source's name before any array is made, all faults at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..activations import Activation
from ..spec import GATES, Provenance, Recurrent
from ._gates import GATE_NOTES, torch_cell

_NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l([0-9]{1,4})(_reverse)?)?")
_KIND_OF_GATES = {len(gates): kind for kind, gates in GATES.items()}


@dataclass(frozen=True)
class Stack:
    """The form of a recurrent module: what PyTorch's constructor was called with."""

    kind: str
    cell: bool  # one of the *Cell classes: no _l0 in the names
    num_layers: int
    num_directions: int
    bias: bool
    input_size: int
    hidden_size: int
    proj_size: int  # 0 without projection

    def suffixes(self) -> list[list[str]]:
        """Suffix of every layer and direction."""
        if self.cell:
            return [[""]]
        ends = ("", "_reverse")[: self.num_directions]
        return [[f"_l{layer}{end}" for end in ends] for layer in range(self.num_layers)]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array, in PyTorch's parameter order."""
        rows = len(GATES[self.kind]) * self.hidden_size
        recurrent = self.proj_size or self.hidden_size
        expected: dict[str, tuple[int, ...]] = {}
        inputs = self.input_size
        for directions in self.suffixes():
            for suffix in directions:
                expected["weight_ih" + suffix] = (rows, inputs)
                expected["weight_hh" + suffix] = (rows, recurrent)
                if self.bias:
                    expected["bias_ih" + suffix] = expected["bias_hh" + suffix] = (rows,)
                if self.proj_size:
                    expected["weight_hr" + suffix] = (self.proj_size, self.hidden_size)
            inputs = self.num_directions * recurrent
        return expected

    def __str__(self) -> str:
        name = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}[self.kind] + ("Cell" if self.cell else "")
        parts = [f"{name} {self.input_size} -> {self.hidden_size}"]
        parts += [f"{self.num_layers} layers"] if self.num_layers > 1 else []
        parts += ["bidirectional"] if self.num_directions == 2 else []
        parts += [f"proj_size {self.proj_size}"] if self.proj_size else []
        return ", ".join(parts)


def is_parameter(name: str) -> bool:
    """Whether a recurrent module may have a tensor of that name."""
    return _NAME.fullmatch(name) is not None


def analyse(
    shapes: Mapping[str, tuple[int, ...]], where: Mapping[str, str], kind: str | None = None
) -> tuple[Stack | None, list[str]]:
    """The stack that named shapes form, and every fault in them.

    Args:
        shapes: of at least one array, by names of which :func:`is_parameter` holds.
        where: each name's name in the source.
        kind: "lstm", "gru" or "rnn"; without it the number of gates tells them apart.
    """
    faults: list[str] = []
    parsed = [match.groups() for name in shapes if (match := _NAME.fullmatch(name))]
    numbers = sorted({int(layer) for _, layer, _ in parsed if layer is not None})
    cell = not numbers
    if not cell and any(layer is None for _, layer, _ in parsed):
        return None, [f"{_any(where)}: names with and without a layer number are mixed"]
    if not cell and numbers != list(range(len(numbers))):
        return None, [f"{_any(where)}: expected layers numbered from 0 without a gap, got {numbers}"]
    first = "" if cell else "_l0"
    needed = [f"{part}{first}" for part in ("weight_ih", "weight_hh")]
    if "weight_hr" + first in shapes:
        needed.append("weight_hr" + first)
    for name in needed:
        if name not in shapes:
            faults.append(f"{_sibling(where, name)}: missing")
        elif len(shapes[name]) != 2 or 0 in shapes[name]:
            faults.append(f"{where[name]}: expected 2 dimensions of 1 or more, got shape {shapes[name]}")
    if faults:
        return None, faults
    rows, inputs = shapes["weight_ih" + first]
    projection = shapes.get("weight_hr" + first)
    kind = kind or ("lstm" if projection else _kind(shapes))
    if kind is None:
        name = "weight_hh" + first
        return None, [
            f"{where[name]}: expected shape (gates * hidden_size, hidden_size) with 4 (LSTM), 3 (GRU) or 1 (RNN)"
            f" gates, got {shapes[name]}"
        ]
    gates = len(GATES[kind])
    stack = Stack(
        kind=kind,
        cell=cell,
        num_layers=max(1, len(numbers)),
        num_directions=2 if any(reverse for _, _, reverse in parsed) else 1,
        bias=any(part.startswith("bias") for part, _, _ in parsed),
        input_size=inputs,
        hidden_size=rows // gates if rows % gates == 0 else shapes["weight_hh" + first][1],
        proj_size=projection[0] if projection else 0,
    )
    return stack, list(_compare(stack, shapes, where))


def _compare(stack: Stack, shapes: Mapping[str, tuple[int, ...]], where: Mapping[str, str]):
    expected = stack.shapes()
    for name, shape in expected.items():
        if name not in shapes:
            yield f"{_sibling(where, name)}: missing; expected shape {shape}"
        elif shapes[name] != shape:
            yield f"{where[name]}: expected shape {shape}, got {shapes[name]}"
    for name in shapes:
        if name not in expected:
            yield f"{where[name]}: not expected in this {stack}; its siblings of the same kind are missing"
    if stack.proj_size and stack.kind != "lstm":
        yield f"{_sibling(where, 'weight_hr')}: only an LSTM can be projected, not a {stack.kind.upper()}"


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    for name, shape in shapes.items():
        if name.startswith("weight_hh") and len(shape) == 2 and shape[1] and shape[0] % shape[1] == 0:
            kind = _KIND_OF_GATES.get(shape[0] // shape[1])
            if kind:
                return kind
    return None


def _any(where: Mapping[str, str]) -> str:
    return next(iter(where.values()))


def _sibling(where: Mapping[str, str], name: str) -> str:
    """What an absent tensor would be called in the source, judging by one that is there."""
    there, source = next(iter(where.items()))
    return source.removesuffix(there) + name


def build(
    layer_name: str,
    stack: Stack,
    arrays: Mapping[str, np.ndarray],
    *,
    last: bool = False,
    **options: bool | Activation,
) -> Recurrent:
    """The recurrent layer of a sound stack; ``options`` are those of :func:`~lstm_fast.importers._gates.torch_cell`."""
    layers = tuple(
        tuple(
            torch_cell(
                stack.kind,
                arrays["weight_ih" + suffix],
                arrays["weight_hh" + suffix],
                arrays.get("bias_ih" + suffix),
                arrays.get("bias_hh" + suffix),
                arrays.get("weight_hr" + suffix),
                **options,
            )
            for suffix in directions
        )
        for directions in stack.suffixes()
    )
    return Recurrent(layer_name, layers, return_sequences=not last)


def provenance(layer_name: str, stack: Stack, where: Mapping[str, str], note: str = "") -> list[Provenance]:
    """Where each canonical tensor of :func:`build` comes from."""
    gates = GATE_NOTES["torch", stack.kind]
    notes = "; ".join(text for text in (gates, note) if text)
    summed = "; ".join(
        text for text in (gates, "summed, n from the first" if stack.kind == "gru" else "summed") if text
    )
    found = []
    for index, directions in enumerate(stack.suffixes()):
        for direction, suffix in enumerate(directions):
            target = f"_l{index}" + ("_reverse" if direction else "")
            found += [
                Provenance(f"{layer_name}.{part}{target}", where[part + suffix], notes)
                for part in ("weight_ih", "weight_hh")
            ]
            if stack.bias:
                both = f"{where['bias_ih' + suffix]} + {where['bias_hh' + suffix]}"
                found.append(Provenance(f"{layer_name}.bias{target}", both, summed))
            if stack.bias and stack.kind == "gru":
                found.append(Provenance(f"{layer_name}.bias_hn{target}", where["bias_hh" + suffix], "gate n"))
            if stack.proj_size:
                found.append(Provenance(f"{layer_name}.weight_hr{target}", where["weight_hr" + suffix]))
    return found
