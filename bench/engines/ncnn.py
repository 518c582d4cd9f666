"""ncnn, one sequence at a time, in float32: a network built from its text and binary formats."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lstm_fast.spec import Cell, ModelSpec, Recurrent

from ..shapes import Shape
from . import Engine, Run, recurrent_bias

_ORDER = {"lstm": (0, 1, 3, 2), "gru": (1, 0, 2), "rnn": (0,)}  # ncnn has i, f, o, g and r, z, n
_MAGIC, _FLOAT32 = "7767517", bytes(4)
_HALF_PRECISION = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage")


class Ncnn(Engine):
    name, package, modules = "ncnn", "ncnn", ("ncnn",)

    def cannot(self, shape: Shape) -> str:
        if shape.proj_size:
            return "no projections"
        return "no batches" if shape.batch > 1 else ""

    def prepare(self, spec: ModelSpec, x: np.ndarray, lengths: np.ndarray | None, threads: int) -> Run:
        import ncnn

        [stack] = spec.recurrent
        net = ncnn.Net()
        net.opt.num_threads = threads
        for option in _HALF_PRECISION:
            setattr(net.opt, f"use_{option}", False)
        net.load_param_mem(_description(stack))
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder, "weights.bin")
            weights.write_bytes(b"".join(map(_weights, stack.layers)))
            net.load_model(str(weights))
        given, last = ncnn.Mat(x[0]), f"x{len(stack.layers)}"

        def call():
            extractor = net.create_extractor()
            extractor.input("x0", given)
            return extractor.extract(last)[1]

        return Run(call, lambda y: np.array(y)[None])


def _description(stack: Recurrent) -> str:
    """One line a layer: type, name, one input, one output, hidden size (0), input weights (1), direction (2)."""
    count, direction = len(stack.layers) + 1, 2 if stack.num_directions == 2 else 0
    lines = [_MAGIC, f"{count} {count}", "Input x 0 1 x0"]
    for index, cells in enumerate(stack.layers):
        weights = sum(cell.weight_ih.size for cell in cells)
        options = f"0={cells[0].hidden_size} 1={weights} 2={direction}"
        lines.append(f"{stack.kind.upper()} layer{index} 1 1 x{index} x{index + 1} {options}")
    return "\n".join([*lines, ""])


def _weights(cells: tuple[Cell, ...]) -> bytes:
    """A layer's input weights, biases and recurrent weights, each with its type in front and directions inside."""
    inputs = [_reorder(cell, cell.weight_ih) for cell in cells]
    states = [_reorder(cell, cell.weight_hh) for cell in cells]
    return b"".join(
        _FLOAT32 + b"".join(value.tobytes() for value in part) for part in (inputs, map(_bias, cells), states)
    )


def _bias(cell: Cell) -> np.ndarray:
    """A GRU has the recurrent bias of its candidate in a fourth row."""
    bias = _reorder(cell, cell.bias)
    return np.append(bias, recurrent_bias(cell)[-cell.hidden_size :]) if cell.kind == "gru" else bias


def _reorder(cell: Cell, value: np.ndarray) -> np.ndarray:
    gates = np.split(value, len(_ORDER[cell.kind]))
    return np.concatenate([gates[gate] for gate in _ORDER[cell.kind]])
