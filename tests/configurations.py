"""Keras configurations put together for tests, and the models that they describe."""

from __future__ import annotations

import json

import numpy as np

from lstm_fast.importers._hdf5 import Hdf5File
from lstm_fast.importers._keras_config import Version
from lstm_fast.importers._keras_model import build_model, draft_model, flat
from lstm_fast.importers._keras_weights import from_paths
from lstm_fast.limits import Limits


def layer(class_name, _name=None, **config):
    return {"class_name": class_name, "config": {"name": _name or class_name.lower(), **config}}


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "net", "layers": list(layers)}}


def spec_of(described, version="3.8.0"):
    """The model of a configuration with random weights of whatever shapes it asks for."""
    rng = np.random.default_rng(0)
    drafts = draft_model(json.loads(json.dumps(described)), Version(version), Limits())
    size, arrays = 3, {}
    for slot in (slot for draft in flat(drafts) for slot in draft.slots):
        shape = tuple(size if n is None else n for n in slot.shape)
        arrays[slot.path] = rng.standard_normal(shape).astype(np.float32)
        if slot.label.endswith("kernel"):
            size = shape[0] if slot.label.endswith("recurrent_kernel") else shape[1]
    return build_model(drafts, from_paths(flat(drafts), Hdf5File({}, None, arrays, {})))
