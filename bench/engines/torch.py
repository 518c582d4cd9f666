"""PyTorch: ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, tensor in and tensor out, time first, without gradients.

Ragged batches go in and come out as packed sequences. int8 is PyTorch's own dynamic quantization.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lstm_fast.spec import Cell, ModelSpec, Recurrent

from ..shapes import Feed, Shape
from . import Engine, Run, recurrent_bias


class PyTorch(Engine):
    name, package, modules = "torch", "torch", ("torch",)

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        import torch
        from torch.nn.utils import rnn

        torch.set_num_threads(threads)
        [stack] = spec.recurrent
        module = self.build(stack)
        tensor = torch.from_numpy(np.ascontiguousarray(feed.x.swapaxes(0, 1)))
        tensors = tuple(map(torch.from_numpy, feed.states))
        state = tensors if len(tensors) == 2 else tensors[0] if tensors else None
        if feed.lengths is None:
            return Run(lambda: module(tensor, state)[0], lambda y: y.numpy().swapaxes(0, 1))
        packed = rnn.pack_padded_sequence(tensor, torch.from_numpy(feed.lengths))
        return Run(
            lambda: module(packed, state)[0],
            lambda y: rnn.pad_packed_sequence(y, batch_first=True, total_length=feed.x.shape[1])[0].numpy(),
        )

    def build(self, stack: Recurrent) -> Any:
        """The module, time first."""
        import torch

        module = getattr(torch.nn, stack.kind.upper())(**module_options(stack))
        module.eval().requires_grad_(False)
        module.load_state_dict({name: torch.from_numpy(value) for name, value in state_dict(stack).items()})
        return module


class PyTorchInt8(PyTorch):
    name, precision = "torch-int8", "int8"

    def cannot(self, shape: Shape) -> str:
        if shape.kind == "rnn" or shape.proj_size:
            return "no dynamic quantization of simple RNNs and projections"
        return ""

    def build(self, stack: Recurrent) -> Any:
        """Quantization replaces the children of a module, so the recurrent one must be a child for a while."""
        import torch

        module = torch.nn.Sequential(super().build(stack))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its successor, torchao, which has no LSTM
            return torch.ao.quantization.quantize_dynamic(module, {torch.nn.LSTM, torch.nn.GRU}, dtype=torch.qint8)[0]


def module_options(stack: Recurrent) -> dict[str, Any]:
    """What the module's class takes."""
    first = stack.layers[0][0]
    options = {"input_size": first.input_size, "hidden_size": first.hidden_size, "num_layers": len(stack.layers)}
    if first.weight_hr is not None:
        options["proj_size"] = first.output_size
    return options | {"bidirectional": stack.num_directions == 2}


def state_dict(stack: Recurrent) -> dict[str, np.ndarray]:
    """The module's parameters."""
    return {name + suffix: value for suffix, cell in stack.cells() for name, value in _parameters(cell).items()}


def _parameters(cell: Cell) -> dict[str, np.ndarray]:
    """PyTorch's names and gate order: a GRU has its reset gate first. The spec's summed bias goes to the input's."""
    arrays = {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh}
    arrays |= {"bias_ih": cell.bias, "bias_hh": recurrent_bias(cell)}
    if cell.kind == "gru":
        arrays = {
            name: np.concatenate([np.split(value, 3)[gate] for gate in (1, 0, 2)]) for name, value in arrays.items()
        }
    return arrays if cell.weight_hr is None else arrays | {"weight_hr": cell.weight_hr}
