"""From files, live framework objects and raw arrays to a :class:`~lstm_fast.Model`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

from .limits import Limits
from .model import Model


def load(
    path: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    module: str | Sequence[str] | None = None,
    batch_first: bool | None = None,
    config: str | os.PathLike[str] | bytes | BinaryIO | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Model:
    """Load a model file: Keras ``.keras`` / ``.h5``, PyTorch ``.pt`` / ``.pth`` / ``.safetensors``, native ``.lstmf``.

    The kind is told by content, not by suffix; no framework is imported and nothing in the file is run.

    Args:
        path: path, binary file object, or the file's bytes.
        module: PyTorch: one module out of a state dict ("encoder.lstm"), or a chain of them in the order they run,
            each with options: ``"embed, lstm:last, head:softmax"``. Options are activations (a function may be an
            entry of its own: ``":relu"``), "last" (last output only, each direction's final one, as ``h_n`` has it;
            for ``output[:, -1]`` of a bidirectional network leave it out), "embedding" or "linear" (what a bare matrix
            is), and of an RNN "tanh" or "relu", which a state dict does not hold; tanh is assumed.
        batch_first: PyTorch: whether x is (batch, time, features). A state dict does not say, and True is assumed;
            TorchScript must be told.
        config: Keras ``.weights.h5``: its JSON configuration.
        limits: what the file may cost to read; see :class:`~lstm_fast.Limits`.
        options: ``dtype``, ``backend``, ``num_threads`` and ``isa`` of :class:`~lstm_fast.Model`. float64 weights run
            in float32 unless ``dtype="float64"``.

    Raises:
        ModelFormatError: damaged. UnsupportedModelError: valid, but uses what is not honoured; says what to do.
        ModuleChoiceError: several modules, and nothing says which of them make the model; lists them.
        ModelLimitError: exceeds ``limits``. OSError: cannot be opened.
    """
    from .importers import load_spec

    spec = load_spec(path, module=module, batch_first=batch_first, config=config, limits=limits)
    return Model(spec, **options)


def from_torch(
    live: Any, /, *, module: str | Sequence[str] | None = None, batch_first: bool | None = None, **options: Any
) -> Model:
    """Take a live ``nn.LSTM``, ``GRU``, ``RNN``, one of their cells, or ``nn.Sequential`` of supported layers.

    Out of a module of another class, ``module=`` takes what :func:`load` would. The weights are copied. A recurrent
    module inside a Sequential passes on its output sequence; a cell becomes a one-layer stack over a sequence.
    ``batch_first`` defaults to the module's own; ``options`` as in :func:`load`.
    """
    from .importers.torch import from_torch_module

    return Model(from_torch_module(live, module=module, batch_first=batch_first), **options)


def from_keras(model: Any, **options: Any) -> Model:
    """Take a live Keras model or layer (Keras 2 or 3). The weights are copied; ``options`` as in :func:`load`."""
    from .importers._keras_live import from_keras_model

    return Model(from_keras_model(model), **options)


def LSTM(  # noqa: N802 - PyTorch's word
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    weight_hr: Any = None,
    *,
    bidirectional: bool = False,
    reverse: bool = False,
    batch_first: bool = True,
    return_sequences: bool = True,
    gate_activation: Any = "sigmoid",
    activation: Any = "tanh",
    output_activation: Any = "tanh",
    **options: Any,
) -> Model:
    """An LSTM from arrays in PyTorch's layout, gates i, f, g, o.

    Args:
        weight_ih, weight_hh: (4 * hidden_size, inputs), (4 * hidden_size, proj_size or hidden_size).
        bias_ih, bias_hh: (4 * hidden_size,); summed; None is zero.
        weight_hr: (proj_size, hidden_size). Each of these five may be a list: layers outermost, then directions.
        bidirectional: every layer has two directions. reverse: a single direction that runs backwards in time.
        batch_first: layout of x and y. return_sequences: False returns the last output only.
        gate_activation, activation, output_activation: names in ``lstm_fast.activations.ACTIVATIONS``, or
            ``Activation``.
        options: as in :func:`load`.

    Raises:
        ShapeError: with every fault. DTypeError: an array that is not floating point.
    """
    from .importers.raw import torch_arrays

    spec = torch_arrays(
        "lstm",
        weight_ih,
        weight_hh,
        bias_ih,
        bias_hh,
        weight_hr,
        bidirectional=bidirectional,
        reverse=reverse,
        batch_first=batch_first,
        return_sequences=return_sequences,
        gate_activation=gate_activation,
        activation=activation,
        output_activation=output_activation,
    )
    return Model(spec, **options)


def GRU(  # noqa: N802 - PyTorch's word
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    reset_after: bool = True,
    bidirectional: bool = False,
    reverse: bool = False,
    batch_first: bool = True,
    return_sequences: bool = True,
    gate_activation: Any = "sigmoid",
    activation: Any = "tanh",
    **options: Any,
) -> Model:
    """A GRU from arrays in PyTorch's layout, gates r, z, n; arguments as in :func:`LSTM`.

    ``reset_after`` False applies the reset gate before the recurrent product (Cho et al. 2014).
    """
    from .importers.raw import torch_arrays

    spec = torch_arrays(
        "gru",
        weight_ih,
        weight_hh,
        bias_ih,
        bias_hh,
        reset_after=reset_after,
        bidirectional=bidirectional,
        reverse=reverse,
        batch_first=batch_first,
        return_sequences=return_sequences,
        gate_activation=gate_activation,
        activation=activation,
    )
    return Model(spec, **options)


def RNN(  # noqa: N802 - PyTorch's word
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    nonlinearity: Any = "tanh",
    bidirectional: bool = False,
    reverse: bool = False,
    batch_first: bool = True,
    return_sequences: bool = True,
    **options: Any,
) -> Model:
    """A simple recurrent network (Elman 1990) from arrays in PyTorch's layout; arguments as in :func:`LSTM`."""
    from .importers.raw import torch_arrays

    spec = torch_arrays(
        "rnn",
        weight_ih,
        weight_hh,
        bias_ih,
        bias_hh,
        bidirectional=bidirectional,
        reverse=reverse,
        batch_first=batch_first,
        return_sequences=return_sequences,
        activation=nonlinearity,
    )
    return Model(spec, **options)
