"""Giving drafted layers their weights, from whichever of Keras' layouts; every fault is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError, all_faults
from ._hdf5 import Hdf5File
from ._keras_layers import Draft, Slot

#: (where it came from, the array) in the order in which a layer stores them.
Source = tuple[str, np.ndarray]
#: The weights of each draft, in the order of its slots.
Found = list[list[Source]]

_OLD_ROOT = "_layer_checkpoint_dependencies"  # of Keras 2.13, in place of every "layers"


def from_paths(drafts: Sequence[Draft], file: Hdf5File) -> Found:
    """Weights from Keras 3's layout, by path."""
    old = any(path.startswith(_OLD_ROOT) for path in (*file.arrays, *file.others))
    faults, found, used = [], [], set()
    for draft in drafts:
        mine = []
        for slot in draft.slots:
            parts = slot.path.split("/")
            path = "/".join(_OLD_ROOT if part == "layers" and old else part for part in parts)
            used.add(path)
            if path in file.arrays:
                mine.append((path, file.arrays[path]))
                faults += _shape_faults(slot, *mine[-1])
            elif path in file.others:
                faults.append(f"{slot.label}: {path}: expected float32 or float64, got {file.others[path]}")
            else:
                faults.append(f"{slot.label}: expected {path}, which is not in the file")
        found.append(mine)
    for path in (*file.arrays, *file.others):
        if path not in used and "seed_generator" not in path.split("/"):
            faults.append(f"{path}: in the file, but no layer of the configuration takes it")
    _raise(faults)
    return found


#: The slots of a group in the order in which it holds their weights.
Order = Callable[[Sequence[Slot]], Sequence[Slot]]


def as_they_come(slots: Sequence[Slot]) -> Sequence[Slot]:
    return slots


def frozen_last(slots: Sequence[Slot]) -> Sequence[Slot]:
    """Keras 3: what is not trainable comes last, by the layer that owns it; a frozen group keeps its order."""
    return sorted(slots, key=lambda slot: slot.place.trainable[0] and not slot.place.trainable[-1])


def inherited_frozen_last(slots: Sequence[Slot]) -> Sequence[Slot]:
    """Keras 2: all in a frozen layer is frozen. What is trainable again inside it, models and wrappers order apart."""
    flags = {slot.place.trainable for slot in slots}
    for slot in slots:
        if len(flags) > 1 and sorted(slot.place.trainable, reverse=True) != list(slot.place.trainable):
            raise UnsupportedModelError(
                f"{slot.place.where}: it is trainable inside a layer that is not, which leaves the order of weights in"
                " the file open; set trainable=True on all of the model and save again"
            )
    return sorted(slots, key=lambda slot: not all(slot.place.trainable))


def from_groups(
    drafts: Sequence[Sequence[Draft]], groups: Sequence[tuple[str, Sequence[Source]]], order: Order
) -> Found:
    """Weights by position: each group of layers with weights takes the next group that has any, as Keras does."""
    wanted = [group for group in drafts if any(draft.slots for draft in group)]
    given = [(name, weights) for name, weights in groups if weights]
    if len(wanted) != len(given):
        raise ModelFormatError(
            f"expected weights for {len(wanted)} layers ({', '.join(_names(wanted))}), found weights of {len(given)}"
            f" ({', '.join(ascii(name) for name, _ in given)}); the weights belong to another model"
        )
    faults: list[str] = []
    filled: dict[int, list[Source]] = {}
    for group, (_, weights) in zip(wanted, given, strict=True):
        slots = [slot for draft in group for slot in draft.slots]
        if len(slots) != len(weights):
            listed = ", ".join(source for source, _ in weights)
            faults.append(f"{group[0].place.where}: expected {len(slots)} weights, found {len(weights)} ({listed})")
            continue
        stored = order(slots)
        by_slot = dict(zip((slot.path for slot in stored), weights, strict=True))
        for slot in stored:
            faults += _shape_faults(slot, *by_slot[slot.path])
            if stored != slots:
                faults += _name_faults(slot, by_slot[slot.path][0])
        for draft in group:
            filled[id(draft)] = [by_slot[slot.path] for slot in draft.slots]
    _raise(faults)
    return [filled.get(id(draft), []) for group in drafts for draft in group]


def legacy_groups(file: Hdf5File) -> list[tuple[str, list[Source]]]:
    """The groups of a whole-model .h5 or a Keras 2 weights file, in the order of ``layer_names``."""
    other = [f"{path} ({dtype})" for path, dtype in file.others.items()]
    if other:
        raise ModelFormatError(f"expected weights of dtype float32 or float64, got {', '.join(other[:5])}")
    return [(name, [(path, file.arrays[path]) for path in paths]) for name, paths in file.layers or ()]


def _names(groups: Sequence[Sequence[Draft]]) -> Iterator[str]:
    for group in groups:
        yield ascii(group[0].place.name)


def _shape_faults(slot: Slot, source: str, array: np.ndarray) -> Iterator[str]:
    fits = len(array.shape) == len(slot.shape) and all(
        expected in (None, actual) for expected, actual in zip(slot.shape, array.shape, strict=True)
    )
    if not fits or 0 in array.shape:
        shape = ", ".join("any" if n is None else str(n) for n in slot.shape)
        yield f"{slot.label}: {source}: expected shape ({shape}{',' * (len(slot.shape) == 1)}), got {array.shape}"


def _name_faults(slot: Slot, source: str) -> Iterator[str]:
    """Where the order is not that of the layers, equal shapes could hide a mistake; Keras names weights by layer."""
    *around, name = source.split("/")
    layer = slot.place.name.rsplit("/", 1)[-1]
    if layer not in around or not name.startswith(slot.name):
        yield (
            f"{slot.label}: expected a weight of that name, found {source}: the model is trainable in part, and its"
            " weights are not in the order that was expected; set trainable=True on all of it and save again"
        )


def _raise(faults: list[str]) -> None:
    if faults:
        raise ModelFormatError(all_faults(faults, "the weights"))
