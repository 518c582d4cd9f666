"""PyTorch: ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, tensor in and tensor out, time first, without gradients."""

from __future__ import annotations

import numpy as np

from lstm_fast.spec import Cell, ModelSpec

from . import Engine, Run, recurrent_bias


class PyTorch(Engine):
    name, package, modules = "torch", "torch", ("torch",)

    def prepare(self, spec: ModelSpec, x: np.ndarray, threads: int) -> Run:
        import torch

        torch.set_num_threads(threads)
        [stack] = spec.recurrent
        module = getattr(torch.nn, stack.kind.upper())(
            stack.input_size,
            stack.layers[0][0].hidden_size,
            num_layers=len(stack.layers),
            bidirectional=stack.num_directions == 2,
        )
        module.eval().requires_grad_(False)
        weights = {name + suffix: value for suffix, cell in stack.cells() for name, value in _parameters(cell).items()}
        module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        tensor = torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1)))
        return Run(lambda: module(tensor)[0], lambda y: y.numpy().swapaxes(0, 1))


def _parameters(cell: Cell) -> dict[str, np.ndarray]:
    """PyTorch's names and gate order: a GRU has its reset gate first. The spec's summed bias goes to the input's."""
    arrays = {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh}
    arrays |= {"bias_ih": cell.bias, "bias_hh": recurrent_bias(cell)}
    if cell.kind != "gru":
        return arrays
    return {name: np.concatenate([np.split(value, 3)[gate] for gate in (1, 0, 2)]) for name, value in arrays.items()}
