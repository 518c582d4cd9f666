"""The neutral model description between importers and engine.

An importer fills a :class:`ModelSpec` and knows nothing of the engine; the engine reads it and knows nothing of
frameworks. Everything here is canonical:

* weights are row-major ``(outputs, inputs)``, float32 or float64, one dtype per model;
* LSTM gates are stacked i, f, g, o and GRU gates z, r, n along axis 0;
* input and recurrent biases are already summed, except the GRU's recurrent candidate bias ``bias_hn``, which the
  reset gate multiplies when ``reset_after`` is true.

Formulas (``[h, x]`` means both products are summed; ``s`` is ``gate_activation``, ``a`` is ``activation``, ``b`` is
``output_activation``):

* LSTM: ``c' = s(f)*c + s(i)*a(g)``, ``h' = s(o)*b(c')``, then ``h' = weight_hr @ h'`` where projected
  (Hochreiter & Schmidhuber 1997; Gers et al. 2000; projection: Sak et al. 2014).
* GRU: ``h' = z*h + (1-z)*n`` with ``n = a(Wx + b_in + r*(Uh + b_hn))`` when ``reset_after``, else
  ``n = a(Wx + U(r*h) + b_n)`` (Cho et al. 2014).
* RNN: ``h' = a(Wx + Uh + b)`` (Elman 1990).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from .activations import LINEAR, SIGMOID, TANH, Activation
from .errors import ModelFormatError, all_faults

#: Gate order along axis 0 of every stacked weight.
GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("z", "r", "n"), "rnn": ("n",)}


@dataclass(frozen=True, eq=False)
class Cell:
    """One direction of one recurrent layer: I inputs, H hidden units, G gates, R recurrent inputs (P or H)."""

    kind: Literal["lstm", "gru", "rnn"]
    weight_ih: np.ndarray  # (G*H, I)
    weight_hh: np.ndarray  # (G*H, R)
    bias: np.ndarray | None = None  # (G*H,)
    bias_hn: np.ndarray | None = None  # (H,), GRU with reset_after only
    weight_hr: np.ndarray | None = None  # (P, H), LSTM only
    reset_after: bool = True  # GRU only
    gate_activation: Activation = SIGMOID  # LSTM and GRU
    activation: Activation = TANH
    output_activation: Activation = TANH  # LSTM only

    @property
    def num_gates(self) -> int:
        return len(GATES[self.kind])

    @property
    def input_size(self) -> int:
        return int(self.weight_ih.shape[1])

    @property
    def hidden_size(self) -> int:
        return int(self.weight_ih.shape[0]) // self.num_gates

    @property
    def output_size(self) -> int:
        """Size of h: ``proj_size`` where projected, else ``hidden_size``."""
        return self.hidden_size if self.weight_hr is None else int(self.weight_hr.shape[0])

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """The weights that are present, by field name."""
        for name in ("weight_ih", "weight_hh", "bias", "bias_hn", "weight_hr"):
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def faults(self, where: str, suffix: str = "") -> Iterator[str]:
        if self.kind not in GATES:
            yield f"{where}: unknown cell kind {self.kind!r}; known: {', '.join(GATES)}"
            return
        ih, hr = self.weight_ih, self.weight_hr
        if ih.ndim != 2 or 0 in ih.shape or ih.shape[0] % self.num_gates:
            expected = f"({self.num_gates} * hidden_size, input_size)"
            yield f"{where}.weight_ih{suffix}: expected shape {expected}, got {ih.shape}"
            return
        rows = ih.shape[0]
        if hr is not None:
            if self.kind != "lstm":
                yield f"{where}.weight_hr{suffix}: only an LSTM can be projected, not {self.kind}"
            if hr.ndim != 2 or hr.shape[0] == 0:
                yield f"{where}.weight_hr{suffix}: expected shape (proj_size, {self.hidden_size}), got {hr.shape}"
                return
            yield from _shape(f"{where}.weight_hr{suffix}", hr, (hr.shape[0], self.hidden_size))
        yield from _shape(f"{where}.weight_hh{suffix}", self.weight_hh, (rows, self.output_size))
        yield from _shape(f"{where}.bias{suffix}", self.bias, (rows,))
        yield from _shape(f"{where}.bias_hn{suffix}", self.bias_hn, (self.hidden_size,))
        if self.bias_hn is not None and not (self.kind == "gru" and self.reset_after):
            yield f"{where}.bias_hn{suffix}: only a GRU with reset_after has a separate recurrent candidate bias"
        for name in ("gate_activation", "activation", "output_activation"):
            yield from getattr(self, name).faults(f"{where}.{name}")


@dataclass(frozen=True, eq=False)
class Recurrent:
    """A stack of recurrent layers of one kind: ``layers[l][d]`` is direction d of layer l.

    Directions are concatenated on the feature axis. ``reverse`` runs a single direction backwards in time, its
    outputs kept in input order. ``masked_output`` says what a masked step yields: zeros (PyTorch's packed sequences,
    ONNX, Keras' ``zero_output_for_mask``) or the previous output repeated (Keras), which is h as it is: before the
    first step that counts that of the state, where Keras, given a state, has zeros.
    """

    name: str
    layers: tuple[tuple[Cell, ...], ...]
    return_sequences: bool = True
    reverse: bool = False
    masked_output: Literal["zero", "repeat"] = "zero"

    @property
    def kind(self) -> str:
        return self.layers[0][0].kind

    @property
    def num_directions(self) -> int:
        return len(self.layers[0])

    @property
    def input_size(self) -> int:
        return self.layers[0][0].input_size

    @property
    def output_size(self) -> int:
        return sum(cell.output_size for cell in self.layers[-1])

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Every cell with its suffix, in state order: ``_l0``, ``_l0_reverse``, ``_l1``, ..."""
        for index, directions in enumerate(self.layers):
            for direction, cell in enumerate(directions):
                yield f"_l{index}" + ("_reverse" if direction else ""), cell

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        for suffix, cell in self.cells():
            for name, value in cell.tensors():
                yield name + suffix, value

    def faults(self) -> Iterator[str]:
        if not self.layers or any(len(d) not in (1, 2) or len(d) != len(self.layers[0]) for d in self.layers):
            yield f"{self.name}: every layer needs the same number of directions, 1 or 2"
            return
        found = [fault for suffix, cell in self.cells() for fault in cell.faults(self.name, suffix)]
        yield from found
        if found:
            return
        first = self.layers[0][0]
        for suffix, cell in self.cells():
            same = (cell.kind, cell.hidden_size, cell.output_size)
            if same != (first.kind, first.hidden_size, first.output_size):
                yield (
                    f"{self.name}{suffix}: all cells of a stack share kind, hidden_size and proj_size; expected"
                    f" {(first.kind, first.hidden_size, first.output_size)}, got {same}"
                )
        expected = first.input_size
        for index, directions in enumerate(self.layers):
            for direction, cell in enumerate(directions):
                if cell.input_size != expected:
                    suffix = f"_l{index}" + ("_reverse" if direction else "")
                    yield (
                        f"{self.name}.weight_ih{suffix}: expected shape ({cell.weight_ih.shape[0]}, {expected}),"
                        f" got {cell.weight_ih.shape}"
                    )
            expected = sum(cell.output_size for cell in directions)
        if self.masked_output not in ("zero", "repeat"):
            yield f"{self.name}.masked_output: expected 'zero' or 'repeat', got {self.masked_output!r}"
        if self.reverse and self.num_directions == 2:
            yield f"{self.name}: reverse applies to a single direction only"


@dataclass(frozen=True, eq=False)
class Embedding:
    """Rows of ``weight`` (vocabulary, features) picked by integer input; ``mask_zero`` masks the steps with id 0."""

    name: str
    weight: np.ndarray
    mask_zero: bool = False

    @property
    def output_size(self) -> int:
        return int(self.weight.shape[1])

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        yield "weight", self.weight

    def faults(self) -> Iterator[str]:
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            yield f"{self.name}.weight: expected shape (vocabulary, features), got {self.weight.shape}"


@dataclass(frozen=True, eq=False)
class Masking:
    """Steps whose features all equal ``mask_value`` are masked, and their features set to zero (Keras).

    Features are compared in the precision of the model's weights, whichever it runs in, as Keras casts its input first.
    A step that an earlier layer has masked stays masked.
    """

    name: str
    mask_value: float = 0.0

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        return iter(())

    def faults(self) -> Iterator[str]:
        if not np.isfinite(self.mask_value):
            yield f"{self.name}: mask_value must be finite, got {self.mask_value}"


@dataclass(frozen=True, eq=False)
class Dense:
    """``activation(weight @ x + bias)`` on the last axis; weight is (outputs, inputs)."""

    name: str
    weight: np.ndarray
    bias: np.ndarray | None = None
    activation: Activation = LINEAR

    @property
    def input_size(self) -> int:
        return int(self.weight.shape[1])

    @property
    def output_size(self) -> int:
        return int(self.weight.shape[0])

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        yield "weight", self.weight
        if self.bias is not None:
            yield "bias", self.bias

    def faults(self) -> Iterator[str]:
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            yield f"{self.name}.weight: expected shape (outputs, inputs), got {self.weight.shape}"
            return
        yield from _shape(f"{self.name}.bias", self.bias, (self.weight.shape[0],))
        yield from self.activation.faults(f"{self.name}.activation")


@dataclass(frozen=True, eq=False)
class Elementwise:
    """An activation as a layer of its own."""

    name: str
    activation: Activation

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        return iter(())

    def faults(self) -> Iterator[str]:
        yield from self.activation.faults(self.name)


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the last axis, or its logarithm."""

    name: str
    log: bool = False

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        return iter(())

    def faults(self) -> Iterator[str]:
        return iter(())


Layer = Recurrent | Embedding | Masking | Dense | Elementwise | Softmax


@dataclass(frozen=True)
class Provenance:
    """Where a canonical tensor came from, for people: ``target`` is ours, ``source`` the file's name for it."""

    target: str  # "<layer name>.<tensor>", for example "lstm.weight_ih_l0"
    source: str  # name or path in the source, several joined by " + "
    note: str = ""  # for example "gates i,f,c,o; transposed"


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """A chain of layers, all weights of one dtype.

    ``batch_first`` tells how callers lay out ``x`` and ``y``; ``source_kind`` is the file or object kind ("keras",
    "torch", "arrays", ...), ``source_sha256`` the digest of the file's bytes where there was a file.
    """

    layers: tuple[Layer, ...]
    batch_first: bool = True
    source_kind: str = "arrays"
    source_sha256: str = ""
    provenance: tuple[Provenance, ...] = field(default=())

    @property
    def dtype(self) -> np.dtype:
        """dtype of the weights (float32 for a network without any)."""
        return next((value.dtype for _, value in self.tensors()), np.dtype(np.float32))

    @property
    def recurrent(self) -> tuple[Recurrent, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, Recurrent))

    @property
    def takes_ids(self) -> bool:
        """True where the network starts with an embedding and so takes integer (batch, time) input."""
        return bool(self.layers) and isinstance(self.layers[0], Embedding)

    @property
    def vocabulary(self) -> int | None:
        """The ids that the network takes are below this; None where it takes features."""
        first = self.layers[0] if self.layers else None
        return int(first.weight.shape[0]) if isinstance(first, Embedding) else None

    @property
    def input_size(self) -> int | None:
        """Features per step; None where the network takes integer ids."""
        if self.takes_ids:
            return None
        return next(layer.input_size for layer in self.layers if isinstance(layer, Recurrent | Dense))

    @property
    def output_size(self) -> int:
        sized = [layer for layer in self.layers if isinstance(layer, Recurrent | Dense | Embedding)]
        return sized[-1].output_size

    @property
    def returns_sequences(self) -> bool:
        return all(layer.return_sequences for layer in self.recurrent)

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every weight as ("<layer name>.<tensor>", array)."""
        for layer in self.layers:
            for name, value in layer.tensors():
                yield f"{layer.name}.{name}", value

    def astype(self, dtype: np.dtype | type) -> ModelSpec:
        """The same model with its weights in another dtype (itself where nothing changes)."""
        if self.dtype == np.dtype(dtype):
            return self
        return replace(self, layers=tuple(_astype(layer, np.dtype(dtype)) for layer in self.layers))

    def faults(self) -> list[str]:
        """Every contradiction in the model, in reading order; empty when it is sound."""
        if not any(isinstance(layer, Recurrent | Dense | Embedding) for layer in self.layers):
            return ["the model has no recurrent, dense or embedding layer"]
        found = []
        names = Counter(layer.name for layer in self.layers)
        found += [f"{name}: two layers share this name" for name, count in names.items() if count > 1]
        for layer in self.layers:
            found += layer.faults()
        found += self._dtype_faults()
        return found or list(self._chain_faults())

    def validate(self, error: type[Exception] = ModelFormatError) -> ModelSpec:
        """Return self, or raise ``error`` with all faults at once."""
        if found := self.faults():
            raise error(all_faults(found, "the model"))
        return self

    def _dtype_faults(self) -> Iterator[str]:
        for name, value in self.tensors():
            if value.dtype not in (np.float32, np.float64):
                yield f"{name}: expected dtype float32 or float64, got {value.dtype}"
            elif value.dtype != self.dtype:
                yield f"{name}: expected dtype {self.dtype} as in the rest of the model, got {value.dtype}"

    def _chain_faults(self) -> Iterator[str]:
        size: int | None = None
        sequence = True
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Embedding):
                if index:
                    yield f"{layer.name}: an embedding takes integer input and must come first"
                size = layer.output_size
            elif isinstance(layer, Recurrent | Dense):
                if size is not None and layer.input_size != size:
                    yield f"{layer.name}: expected {layer.input_size} input features, got {size} from the layer before"
                size = layer.output_size
            if isinstance(layer, Recurrent | Masking) and not sequence:
                yield f"{layer.name}: needs a sequence, but an earlier layer returns only its last output"
            if isinstance(layer, Recurrent):
                sequence = sequence and layer.return_sequences


def _shape(name: str, value: np.ndarray | None, expected: tuple[int, ...]) -> Iterator[str]:
    if value is not None and value.shape != expected:
        yield f"{name}: expected shape {expected}, got {value.shape}"


def _astype(layer: Layer, dtype: np.dtype) -> Layer:
    def cast(value: np.ndarray | None) -> np.ndarray | None:
        return None if value is None else value.astype(dtype)

    if isinstance(layer, Recurrent):
        cells = (tuple(replace(c, **{n: cast(v) for n, v in c.tensors()}) for c in d) for d in layer.layers)
        return replace(layer, layers=tuple(cells))
    return replace(layer, **{name: cast(value) for name, value in layer.tensors()})
