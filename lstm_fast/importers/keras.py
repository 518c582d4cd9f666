"""Keras: ``.keras`` archives, ``.h5`` models, weights beside their JSON configuration.

Configurations are data read against a closed table of layers (:mod:`lstm_fast.importers._keras_layers`); Keras is
never imported, and no code that a file holds or names ever runs.

``stateful=True`` is read as a plain layer: a stream goes on by feeding the returned state back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UnsupportedModelError
from ..limits import Limits
from ..spec import ModelSpec
from ._hdf5 import read_hdf5
from ._keras_config import Version, parse_json, show
from ._keras_model import build_model, draft_model, flat
from ._keras_weights import from_groups, from_paths, frozen_last, inherited_frozen_last, legacy_groups

if TYPE_CHECKING:
    from ._zip import SafeZip

_PAIR = (
    "weights without a configuration; give the model's JSON beside them, config='model.json', written by"
    " open('model.json', 'w').write(model.to_json())"
)


def read_keras_zip(zip: SafeZip, limits: Limits) -> ModelSpec:  # noqa: A002 - the archive's kind
    """A ``.keras`` archive.

    Raises ModelFormatError where it is damaged, UnsupportedModelError naming what is not honoured, ModelLimitError.
    """
    config = parse_json(zip.description("config.json"), limits, "config.json")
    metadata = parse_json(zip.description("metadata.json"), limits, "metadata.json") if "metadata.json" in zip else {}
    if "model.weights.h5" not in zip:
        names = [name for name in zip.names() if name.startswith("model.weights.")]
        raise UnsupportedModelError(
            f"weights in {', '.join(map(show, names))}: only model.weights.h5 can be read; load the model with Keras"
            " and save it again with model.save('model.keras')"
        )
    drafts = draft_model(config, Version(_text(metadata.get("keras_version"))), limits)
    weights = read_hdf5(zip.view("model.weights.h5"), limits, zip.file_size)
    return build_model(drafts, from_paths(flat(drafts), weights))


def read_keras_h5(data: bytes, config: bytes | None, limits: Limits) -> ModelSpec:
    """A whole model in HDF5, or weights alone (``.weights.h5``, ``save_weights``) with ``config``, the model's JSON.

    Raises ModelFormatError where it is damaged, UnsupportedModelError naming what is not honoured, ModelLimitError.
    """
    file = read_hdf5(data, limits)
    version = file.attributes.get("keras_version", "")
    if "model_config" in file.attributes:
        if config is not None:
            raise UnsupportedModelError("config= means nothing for an HDF5 file with a configuration of its own")
        described = parse_json(file.attributes["model_config"], limits, "the attribute model_config")
    elif config is None:
        raise UnsupportedModelError(f"an HDF5 file of {_PAIR}")
    else:
        described = parse_json(config, limits, "config")
        version = version or _text(described.get("keras_version")) or ("3.0" if "module" in described else "")
    if file.layers is not None and version.split(".")[0] in ("", "0", "1"):
        raise UnsupportedModelError(
            f"a file of Keras {version or '1'}; load it with Keras 2 (2.3.1 reads it) and save it again"
        )
    writer = Version(version)
    drafts = draft_model(described, writer, limits)
    if file.layers is None:
        return build_model(drafts, from_paths(flat(drafts), file))
    order = frozen_last if writer.keras3 else inherited_frozen_last
    return build_model(drafts, from_groups(drafts, legacy_groups(file), order))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
