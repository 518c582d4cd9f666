"""Keras on its PyTorch backend: the model called on a tensor, which costs less than ``predict``, without gradients."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lstm_fast.spec import Cell, ModelSpec, Recurrent

from ..shapes import Feed, Shape
from . import Engine, Run, recurrent_bias


class Keras(Engine):
    name, package, modules = "keras", "keras", ("keras", "torch")

    def available(self) -> bool:
        """Keras reads its backend from the environment when it is imported."""
        return os.environ.get("KERAS_BACKEND") == "torch" and super().available()

    def cannot(self, shape: Shape) -> str:
        if shape.proj_size:
            return "no projections"
        if shape.state:
            return "a Sequential keeps its state to itself"
        return "masks instead of lengths" if shape.shortest else ""

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        import torch

        torch.set_num_threads(threads)
        model = keras_model(spec.recurrent[0], feed.x.shape)
        tensor = torch.from_numpy(feed.x)
        return Run(lambda: model(tensor, training=False), lambda y: y.numpy())


def keras_model(stack: Recurrent, input_shape: tuple[int, int, int]) -> Any:
    """The Sequential model, its input (batch, time, features) fixed."""
    import keras

    layer_class = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[stack.kind]
    model = keras.Sequential([keras.Input(input_shape[1:], batch_size=input_shape[0])])
    for cells in stack.layers:
        layer = layer_class(cells[0].hidden_size, return_sequences=True)
        model.add(keras.layers.Bidirectional(layer) if len(cells) == 2 else layer)
        model.layers[-1].set_weights([array for cell in cells for array in _weights(cell)])
    model.trainable = False
    return model


def _weights(cell: Cell) -> list[np.ndarray]:
    """Keras' gate orders are the spec's; its matrices are transposed, and a GRU has both biases in one array."""
    bias = np.stack([cell.bias, recurrent_bias(cell)]) if cell.kind == "gru" else cell.bias
    return [cell.weight_ih.T, cell.weight_hh.T, bias]
