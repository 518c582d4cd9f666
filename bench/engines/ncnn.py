"""ncnn, one sequence at a time, in float32: a network built from its text and binary formats."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lstm_fast.spec import Cell, ModelSpec, Recurrent

from ..shapes import Feed, Shape
from . import Engine, Run, recurrent_bias, states_by_layer, states_of_layers

_ORDER = {"lstm": (0, 1, 3, 2), "gru": (1, 0, 2), "rnn": (0,)}  # ncnn has i, f, o, g and r, z, n
_MAGIC, _FLOAT32 = "7767517", bytes(4)
_HALF_PRECISION = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage")


class Ncnn(Engine):
    name, package, modules = "ncnn", "ncnn", ("ncnn",)

    def cannot(self, shape: Shape) -> str:
        if shape.proj_size:
            return "no projections"
        return "no batches" if shape.batch > 1 else ""

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        import ncnn

        [stack] = spec.recurrent
        net = ncnn.Net()
        net.opt.num_threads = threads
        for option in _HALF_PRECISION:
            setattr(net.opt, f"use_{option}", False)
        given = _inputs(stack, feed)
        net.load_param_mem(_description(stack, list(given)))
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder, "weights.bin")
            weights.write_bytes(b"".join(map(_weights, stack.layers)))
            net.load_model(str(weights))
        mats = {name: ncnn.Mat(array) for name, array in given.items()}
        wanted = [f"x{len(stack.layers)}", *(f"final_{name}" for name in given if name != "x0")]

        def call():
            extractor = net.create_extractor()
            for name, mat in mats.items():
                extractor.input(name, mat)
            return [extractor.extract(name)[1] for name in wanted]

        return Run(
            call,
            lambda found: np.array(found[0])[None],
            lambda found: states_of_layers([np.array(mat)[:, None] for mat in found[1:]], len(stack.layers)),
        )


def _inputs(stack: Recurrent, feed: Feed) -> dict[str, np.ndarray]:
    """What goes in: x, and the states of each layer, (directions, size)."""
    states = states_by_layer(feed, len(stack.layers))
    return {"x0": feed.x[0], **{name: np.ascontiguousarray(part[:, 0]) for name, part in states.items()}}


def _description(stack: Recurrent, given: list[str]) -> str:
    """A line for each input, and for each layer: type, name, how many go in and come out, which, and its options.

    Those are hidden size (0), input weights (1), direction (2).
    """
    direction = 2 if stack.num_directions == 2 else 0
    lines, blobs = [f"Input {name} 0 1 {name}" for name in given], len(given)
    for index, cells in enumerate(stack.layers):
        states = [name for name in (f"h{index}", f"c{index}") if name in given]
        names = [f"x{index}", *states, f"x{index + 1}", *(f"final_{name}" for name in states)]
        count = 1 + len(states)
        blobs += count
        weights = sum(cell.weight_ih.size for cell in cells)
        options = f"0={cells[0].hidden_size} 1={weights} 2={direction}"
        lines.append(f"{stack.kind.upper()} layer{index} {count} {count} {' '.join(names)} {options}")
    return "\n".join([_MAGIC, f"{len(lines)} {blobs}", *lines, ""])


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
