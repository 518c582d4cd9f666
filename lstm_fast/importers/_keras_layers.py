"""The closed table of Keras layer classes: from one layer's configuration to its part of the model.

A layer is drafted first, from the configuration alone: which weights it needs, of which shapes, and how to make our
layers of them. The weights come later, from wherever they are (:mod:`lstm_fast.importers._keras_weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..activations import LINEAR, Activation
from ..arrays import single
from ..errors import UnsupportedModelError
from ..spec import Cell, Dense, Elementwise, Embedding, Layer, Masking, Recurrent, Softmax
from ._gates import GATE_NOTES, keras_cell, keras_cudnn_arrays
from ._keras_config import (
    ADVICE,
    Config,
    Version,
    activation,
    activation_layer,
    activation_or_softmax,
    class_of,
    show,
    snake_case,
    unsupported_class,
)

_RECURRENT = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
_CELLS = {"LSTMCell": "lstm", "GRUCell": "gru", "SimpleRNNCell": "rnn"}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_MOST_CELLS = 256
#: Identity at inference, with their own keys.
_TRAINING_ONLY = {
    "Dropout": ("rate", "noise_shape"),
    "SpatialDropout1D": ("rate", "noise_shape"),
    "GaussianNoise": ("stddev",),
    "GaussianDropout": ("rate",),
    "AlphaDropout": ("rate", "noise_shape"),
    "ActivityRegularization": ("l1", "l2"),
    "Identity": (),
}
_TIME_INDEPENDENT = "Dense Activation ReLU LeakyReLU ELU ThresholdedReLU Softmax".split() + list(_TRAINING_ONLY)


@dataclass(frozen=True)
class Place:
    """Where a layer stands: its name here, its words in messages, its path in Keras 3's weight files."""

    name: str
    where: str
    path: str
    alone: bool = False  # what else the layer returns besides its output is lost, or an error in Keras
    #: Of the layers around it and of its own, the outermost first: HDF5 files hold weights that are not trainable last.
    trainable: tuple[bool, ...] = ()

    def inside(self, attribute: str, what: str = "") -> Place:
        return replace(self, where=f"{self.where}, {what or attribute}", path=f"{self.path}/{attribute}")

    def of(self, config: object) -> Place:
        """The place of the weights of a layer that stands here and is configured so."""
        frozen = isinstance(config, dict) and config.get("trainable") is False
        return replace(self, trainable=(*self.trainable, not frozen))


@dataclass(frozen=True)
class Slot:
    """One weight to be filled: its name, its path in Keras 3's files, its shape (None: any), what becomes of it."""

    place: Place
    name: str
    path: str
    shape: tuple[int | None, ...]
    targets: tuple[str, ...]
    note: str

    @property
    def label(self) -> str:
        return f"{self.place.where}: {self.name}"


@dataclass(frozen=True)
class Draft:
    """A Keras layer before it has its weights: ``build`` takes their arrays in the order of ``slots``."""

    place: Place
    slots: tuple[Slot, ...]
    build: Callable[[Sequence[np.ndarray]], tuple[Layer, ...]]


@dataclass
class Flow:
    """What is known of the values that reach the next layer."""

    version: Version
    masked: bool = False
    sequence: bool = True
    size: int | None = None
    policy: object = None  # dtype policy of the layer before


def draft(class_name: str, values: object, place: Place, flow: Flow) -> Draft:
    """Draft one layer and update ``flow``.

    Raises UnsupportedModelError for a class outside the table or an attribute that is not honoured, ModelFormatError
    for a configuration that contradicts itself.
    """
    config = Config(values, place.where, _TRAINING_ONLY.get(class_name, ()))
    _check_policy(config, flow)
    if class_name in _TRAINING_ONLY:
        config.finish()
        return Draft(place, (), lambda arrays: ())
    if class_name in _RECURRENT or class_name == "RNN":
        return _recurrent(_run(class_name, config, place, flow.version), place, flow)
    if class_name in _TABLE:
        made = _TABLE[class_name](config, place, flow)
        config.finish()
        return made
    if class_name == "Softmax" and flow.masked:
        raise UnsupportedModelError(
            f"{place.where}: a Softmax layer after a mask is not supported: Keras applies the mask to the features; use"
            " Dense(activation='softmax') or Activation('softmax')"
        )
    found = activation_layer(class_name, config, flow.version)
    if found is None:
        raise unsupported_class(class_name, place.where)
    return Draft(place, (), lambda arrays: _activation_layers(place.name, found))


def _check_policy(config: Config, flow: Flow) -> None:
    """Some versions of Keras 3 lose a mask where a layer converts its input to another precision, others do not."""
    policy = config.policy
    if flow.masked and None not in (policy, flow.policy) and policy != flow.policy:
        raise UnsupportedModelError(
            f"{config.where}: dtype policy {show(policy)} after {show(flow.policy)} is not supported behind a mask, for"
            " some versions of Keras lose it there; rebuild the model with one policy"
        )
    flow.policy = policy or flow.policy


def _activation_layers(name: str, found: Activation | bool) -> tuple[Layer, ...]:
    if isinstance(found, bool):
        return (Softmax(name, log=found),)
    return () if found == LINEAR else (Elementwise(name, found),)


def _dense(config: Config, place: Place, flow: Flow) -> Draft:
    units, use_bias = config.size("units"), config.flag("use_bias", True)
    found = activation_or_softmax(config, "activation", "linear", flow.version)
    slots = [_slot(place, 0, "kernel", (None, units), (f"{place.name}.weight",), "transposed")]
    if use_bias:
        slots.append(_slot(place, 1, "bias", (units,), (f"{place.name}.bias",), ""))
    flow.size = units

    def build(arrays: Sequence[np.ndarray]) -> tuple[Layer, ...]:
        inner = LINEAR if isinstance(found, bool) else found
        layer = Dense(place.name, np.ascontiguousarray(arrays[0].T), arrays[1] if use_bias else None, inner)
        return (layer, Softmax(f"{place.name}.softmax", log=found)) if isinstance(found, bool) else (layer,)

    return Draft(place, tuple(slots), build)


def _embedding(config: Config, place: Place, flow: Flow) -> Draft:
    shape = (config.size("input_dim"), config.size("output_dim"))
    mask_zero = config.flag("mask_zero")
    flow.masked, flow.size = mask_zero, shape[1]
    slot = _slot(place, 0, "embeddings", shape, (f"{place.name}.weight",), "")
    return Draft(place, (slot,), lambda arrays: (Embedding(place.name, arrays[0], mask_zero),))


def _masking(config: Config, place: Place, flow: Flow) -> Draft:
    if flow.masked:
        raise UnsupportedModelError(
            f"{place.where}: a second mask is not supported: Keras replaces the first one by it; keep one Masking layer"
            " or Embedding(mask_zero=True)"
        )
    value = config.number("mask_value", 0.0)
    if config.policy == "float64" and flow.version.keras3 and value != single(value):
        config.refuse(
            "mask_value", "in float64 releases of Keras 3 disagree about it; mask with a number like 0.0 or -1.0"
        )
    if config.policy != "float64":  # Keras compares in the layer's precision, where 0.1 is another number
        value = single(value)
    flow.masked = True
    return Draft(place, (), lambda arrays: (Masking(place.name, value),))


def _flatten(config: Config, place: Place, flow: Flow) -> Draft:
    config.require("data_format", None, "channels_last")
    config.require("target_shape", [-1], [flow.size])
    if flow.sequence:
        raise UnsupportedModelError(
            f"{place.where}: reshaping a sequence is not supported, only a last output, where it changes nothing;"
            f" {ADVICE}"
        )
    return Draft(place, (), lambda arrays: ())


def _time_distributed(config: Config, place: Place, flow: Flow) -> Draft:
    name, inner = class_of(config.take("layer"), f"{place.where}, layer")
    inside = place.inside("layer", f"{name} inside")
    if name not in _TIME_INDEPENDENT:
        raise UnsupportedModelError(
            f"{inside.where}: TimeDistributed is supported around {', '.join(_TIME_INDEPENDENT)} only; {ADVICE}"
        )
    return draft(name, inner, inside.of(inner), replace(flow) if name != "Dense" else flow)


@dataclass(frozen=True)
class _CellDraft:
    kind: str
    units: int
    slots: tuple[Slot, ...]
    build: Callable[[Sequence[np.ndarray]], Cell]


@dataclass(frozen=True)
class _Run:
    """A recurrent layer's configuration: cells from the bottom up and how they run over time."""

    cells: tuple[tuple[str, _CellDraft], ...]  # with the name of the layer each one becomes
    return_sequences: bool
    go_backwards: bool
    zero_output: bool


def _run(class_name: str, config: Config, place: Place, version: Version, suffix: str = "") -> _Run:
    if class_name == "RNN":
        cells = _wrapped_cells(config, place, version, suffix)
    elif class_name in _RECURRENT:
        cells = ((place.name, _cell(class_name, config, place.inside("cell"), place.name, version, suffix)),)
    else:
        raise unsupported_class(class_name, place.where)
    config.require("time_major", False, advice="rebuild the model with batch-major input")
    config.flag("stateful")  # states start at zero here; the caller carries them on by feeding them back
    if config.flag("return_state") and place.alone:
        config.refuse("return_state", "rebuild the model without it: forward_sequence always returns the state")
    made = _Run(
        cells, config.flag("return_sequences"), config.flag("go_backwards"), config.flag("zero_output_for_mask")
    )
    config.finish()
    return made


def _wrapped_cells(config: Config, place: Place, version: Version, suffix: str) -> tuple[tuple[str, _CellDraft], ...]:
    name, inner = class_of(config.take("cell"), f"{place.where}, cell")
    inside = place.inside("cell", f"cell {name}")
    if name != "StackedRNNCells":
        _refuse_partly_frozen(config, place, [inner], version)
        return ((place.name, _named_cell(name, inner, inside.of(inner), place.name, version, suffix)),)
    stack = Config(inner, inside.where, ("reverse_state_order",))
    items = stack.take("cells")
    if not isinstance(items, list) or not 0 < len(items) <= _MOST_CELLS:
        stack.fail("cells", f"a list of 1 to {_MOST_CELLS} cells")
    stack.finish()
    found, counts = [], {}
    for item in items:
        name, values = class_of(item, inside.where)
        _refuse_partly_frozen(config, place, [values], version)
        counts[name] = counts.get(name, -1) + 1
        path = f"cells/{snake_case(name)}" + (f"_{counts[name]}" if counts[name] else "")
        target = f"{place.name}.{len(found)}"
        at = inside.of(inner).inside(path, f"cell {len(found)}, {name}").of(values)
        found.append((target, _named_cell(name, values, at, target, version, suffix)))
    return tuple(found)


def _named_cell(name: str, values: object, place: Place, target: str, version: Version, suffix: str) -> _CellDraft:
    if name not in _CELLS:
        raise unsupported_class(name, place.where)
    config = Config(values, place.where)
    made = _cell(name, config, place, target, version, suffix)
    config.finish()
    return made


def _cell(class_name: str, config: Config, place: Place, target: str, version: Version, suffix: str) -> _CellDraft:
    """One cell's weights and functions. Keras 2 before 2.1 has no ``reset_after``: there, and then, it is False."""
    cudnn = class_name.startswith("CuDNN")
    kind = _RECURRENT.get(class_name) or _CELLS[class_name]
    units, rows = config.size("units"), _GATES[kind] * config.size("units")
    use_bias = cudnn or config.flag("use_bias", True)
    reset_after = kind == "gru" and (cudnn or config.flag("reset_after"))
    functions = {}
    if not cudnn:
        functions["activation"] = activation(config, "activation", "tanh", version)
        if kind != "rnn":
            functions["gate_activation"] = activation(config, "recurrent_activation", "sigmoid", version)
    note = GATE_NOTES["keras", kind]
    bias = (2 * rows,) if cudnn else (2, rows) if reset_after else (rows,)
    shapes = {"kernel": (None, rows), "recurrent_kernel": (units, rows), "bias": bias}
    targets = {"kernel": ["weight_ih"], "recurrent_kernel": ["weight_hh"], "bias": ["bias", "bias_hn"]}
    slots = [
        _slot(place, index, label, shapes[label], tuple(f"{target}.{t}_l0{suffix}" for t in targets[label]), note)
        for index, label in enumerate(shapes)
        if use_bias or label != "bias"
    ]

    def build(arrays: Sequence[np.ndarray]) -> Cell:
        plain = keras_cudnn_arrays(kind, *arrays) if cudnn else arrays
        return keras_cell(kind, *plain, reset_after=reset_after, **functions)

    return _CellDraft(kind, units, tuple(slots), build)


def _recurrent(run: _Run, place: Place, flow: Flow) -> Draft:
    if run.go_backwards and run.return_sequences:
        raise UnsupportedModelError(
            f"{place.where}: go_backwards=True with return_sequences=True is not supported outside Bidirectional: its"
            " outputs come in reversed order; return the last output only, or wrap the layer in Bidirectional"
        )
    if run.zero_output and flow.masked and not run.return_sequences:
        raise UnsupportedModelError(
            f"{place.where}: zero_output_for_mask=True with return_sequences=False is not supported behind a mask: the"
            " output of a row that ends in a masked step is zero; rebuild the model without it"
        )
    slots = tuple(slot for _, cell in run.cells for slot in cell.slots)
    flow.sequence, flow.size = run.return_sequences, run.cells[-1][1].units
    flow.masked = flow.masked and run.return_sequences

    def build(arrays: Sequence[np.ndarray]) -> tuple[Layer, ...]:
        rest, layers = list(arrays), []
        for name, cell in run.cells:
            mine, rest = rest[: len(cell.slots)], rest[len(cell.slots) :]
            last = len(layers) == len(run.cells) - 1
            layers.append(
                Recurrent(
                    name,
                    ((cell.build(mine),),),
                    return_sequences=run.return_sequences or not last,
                    reverse=run.go_backwards,
                    masked_output="zero" if run.zero_output and last else "repeat",
                )
            )
        return tuple(layers)

    return Draft(place, slots, build)


def _bidirectional(config: Config, place: Place, flow: Flow) -> Draft:
    config.require("merge_mode", "concat", advice="only merge_mode='concat' can be run")
    items = [config.take("layer"), config.take("backward_layer")]
    runs, inner = [], []
    for item, attribute, suffix in zip(items, ("forward_layer", "backward_layer"), ("", "_reverse"), strict=True):
        name, values = class_of(items[0] if item is None else item, f"{place.where}, {attribute}")
        inner.append(values)
        at = place.inside(attribute).of(values)
        run = _run(name, Config(values, at.where), at, flow.version, suffix)
        runs.append(replace(run, go_backwards=not run.go_backwards) if item is None else run)
    _refuse_partly_frozen(config, place, inner, flow.version)
    forward, backward = runs
    if forward.go_backwards or not backward.go_backwards:
        config.refuse("layer", "only layer with go_backwards=False and backward_layer with True can be run")
    if forward.return_sequences != backward.return_sequences:
        config.fail("backward_layer", "the same return_sequences in both directions")
    (name, cell), (_, other) = forward.cells[0], backward.cells[0]
    if len(forward.cells) + len(backward.cells) > 2 or (cell.kind, cell.units) != (other.kind, other.units):
        config.refuse("layer", "only one cell in each direction, both of the same kind and units, can be run")
    flow.sequence, flow.size = forward.return_sequences, 2 * cell.units
    masked_output = _bidirectional_mask(forward, place, flow)
    flow.masked = flow.masked and forward.return_sequences
    split = len(cell.slots)
    return Draft(
        place,
        cell.slots + other.slots,
        lambda arrays: (
            Recurrent(
                name,
                ((cell.build(arrays[:split]), other.build(arrays[split:])),),
                return_sequences=forward.return_sequences,
                masked_output=masked_output,
            ),
        ),
    )


def _bidirectional_mask(run: _Run, place: Place, flow: Flow) -> str:
    """Keras in TensorFlow since 1.13, and Keras 3, force zeros on both directions; the old package did not."""
    if flow.masked and run.return_sequences and flow.version.early_tf:
        raise UnsupportedModelError(
            f"{place.where}: a masked sequence through Bidirectional, from {flow.version.text}: TensorFlow releases of"
            " that version disagree about it; load and save the model with TensorFlow 1.14 or later"
        )
    return "zero" if run.return_sequences and not flow.version.standalone else "repeat"


def _refuse_partly_frozen(config: Config, place: Place, inner: list[object], version: Version) -> None:
    """Before Keras 3 wrappers of different releases disagree about the order of weights that are frozen in part."""
    flags = [values.get("trainable", True) for values in inner if isinstance(values, dict)]
    if config.take("trainable", True) and not all(flags) and not version.keras3:
        raise UnsupportedModelError(
            f"{place.where}: only a part of the layer is trainable, which changes the order of its weights in the file;"
            " set trainable=True on all of it and save again"
        )


def _slot(place: Place, index: int, name: str, shape: tuple, targets: tuple[str, ...], note: str) -> Slot:
    return Slot(place, name, f"{place.path}/vars/{index}", shape, targets, note)


_TABLE = {
    "Dense": _dense,
    "Embedding": _embedding,
    "Masking": _masking,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "TimeDistributed": _time_distributed,
    "Bidirectional": _bidirectional,
}
