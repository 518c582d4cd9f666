"""PyTorch: ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, their cells for one step, tensors in and out, time first, no gradients.

Ragged batches go in and come out as packed sequences. int8 is PyTorch's own dynamic quantization.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lstm_fast.spec import Cell, ModelSpec, Recurrent

from ..shapes import Feed, Shape, arrays_of
from . import Engine, Run, recurrent_bias


class PyTorch(Engine):
    name, package, modules = "torch", "torch", ("torch",)
    has_cells = True  #: and takes one where a single step is all there is

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        import torch
        from torch.nn.utils import rnn

        torch.set_num_threads(threads)
        [stack] = spec.recurrent
        states = [torch.from_numpy(array) for array in feed.states]
        if self.has_cells and _is_one_step(stack, feed):
            return _one_step(stack, torch.from_numpy(feed.x[:, 0]), [state[0] for state in states])
        module, state = self.build(stack), _state(states)
        tensor = torch.from_numpy(np.ascontiguousarray(feed.x.swapaxes(0, 1)))
        if feed.lengths is None:
            return Run(lambda: module(tensor, state), lambda y: y[0].numpy().swapaxes(0, 1), lambda y: _arrays(y[1]))
        packed = rnn.pack_padded_sequence(tensor, torch.from_numpy(feed.lengths))
        return Run(
            lambda: module(packed, state),
            lambda y: rnn.pad_packed_sequence(y[0], batch_first=True, total_length=feed.x.shape[1])[0].numpy(),
            lambda y: _arrays(y[1]),
        )

    def build(self, stack: Recurrent) -> Any:
        """The module, time first."""
        return _loaded(stack.kind.upper(), module_options(stack), state_dict(stack))


def _loaded(name: str, options: dict[str, Any], weights: dict[str, np.ndarray]) -> Any:
    import torch

    module = getattr(torch.nn, name)(**options)
    module.eval().requires_grad_(False)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return module


def _is_one_step(stack: Recurrent, feed: Feed) -> bool:
    """Whether a cell computes the whole: it takes a quarter of the time of the module for sequences."""
    [*_, last] = stack.layers
    return feed.x.shape[1] == len(stack.layers) == len(last) == 1 and feed.lengths is None and last[0].weight_hr is None


def _one_step(stack: Recurrent, x: Any, states: list[Any]) -> Run:
    [[cell]] = stack.layers
    options = {"input_size": cell.input_size, "hidden_size": cell.hidden_size}
    module, state = _loaded(f"{stack.kind.upper()}Cell", options, _parameters(cell)), _state(states)
    return Run(
        lambda: module(x, state),
        lambda found: _arrays(found)[0][:, None],
        lambda found: tuple(array[None] for array in _arrays(found)),
    )


def _state(tensors: list[Any]) -> Any:
    """As modules take it: a tuple for an LSTM, one tensor for others, None for zeros."""
    return tuple(tensors) if len(tensors) == 2 else tensors[0] if tensors else None


def _arrays(state: Any) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in arrays_of(state))


class PyTorchInt8(PyTorch):
    name, precision = "torch-int8", "int8"
    has_cells = False

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
