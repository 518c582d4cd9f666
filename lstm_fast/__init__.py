"""Fast CPU inference for recurrent networks: LSTM, GRU and RNN from Keras and PyTorch, NumPy in and NumPy out.

``model = lstm_fast.load("model.keras")``, then ``y, state = model.forward_sequence(x)``.
"""

from ._version import __version__
from .activations import Activation
from .config import config, show_config
from .errors import (
    BackendError,
    DTypeError,
    IndexRangeError,
    LstmFastError,
    ModelFormatError,
    ModelLimitError,
    ModuleChoiceError,
    ShapeError,
    StateError,
    UnsupportedModelError,
)
from .limits import Limits
from .loading import GRU, LSTM, RNN, from_keras, from_torch, load
from .model import Model
from .spec import ModelSpec

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "BackendError",
    "DTypeError",
    "IndexRangeError",
    "Limits",
    "LstmFastError",
    "Model",
    "ModelFormatError",
    "ModelLimitError",
    "ModelSpec",
    "ModuleChoiceError",
    "ShapeError",
    "StateError",
    "UnsupportedModelError",
    "__version__",
    "config",
    "from_keras",
    "from_torch",
    "load",
    "show_config",
]
