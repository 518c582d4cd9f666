"""What each PyTorch module class means, by its name: the mapping table of the importer."""

from __future__ import annotations

from ..activations import ACTIVATIONS, Activation
from ..errors import UnsupportedModelError
from ._torch_find import SCRIPTED, Node
from ._torch_stack import is_parameter

_DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
_ACTIVATION_PATH = "torch.nn.modules.activation."

_KINDS = {
    **{f"torch.nn.modules.rnn.{name}{cell}": "recurrent" for name in ("LSTM", "GRU", "RNN") for cell in ("", "Cell")},
    **{f"torch.nn.modules.dropout.{name}": "identity" for name in _DROPOUTS},
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.linear.Linear": "linear",
    "torch.nn.modules.sparse.Embedding": "embedding",
    "torch.nn.modules.container.Sequential": "sequential",
}

#: Activation modules without parameters: the spec's name.
_PLAIN = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "Mish": "mish",
    "Softsign": "softsign",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_silu",
}
#: Those with one: the spec's name and the attribute that is its alpha.
_SLOPED = {"LeakyReLU": ("leaky_relu", "negative_slope"), "ELU": ("elu", "alpha")}
_SOFTMAX = {"Softmax": False, "LogSoftmax": True}

_FLOAT32_MAX = 3.4028234663852886e38

#: PyTorch's own values of the parameters an activation takes.
_DEFAULTS = {"leaky_relu": (0.01, 0.0), "elu": (1.0, 0.0), "hard_sigmoid": (1 / 6, 0.5)}


def kind_of(node: Node) -> str:
    """recurrent, linear, embedding, matrix (either of the two), activation, softmax, identity, sequential, or other.

    Where the class is none of PyTorch's, or not known, a module is what its tensors look like.
    """
    name = node.class_name
    if name in _KINDS:
        return _KINDS[name]
    if not node.entries and _KINDS.get(name.removeprefix(SCRIPTED)) in ("identity", "sequential"):
        return _KINDS[name.removeprefix(SCRIPTED)]
    if name.startswith(_ACTIVATION_PATH):
        short = name.removeprefix(_ACTIVATION_PATH)
        return "softmax" if short in _SOFTMAX else "activation"
    if is_own(node):
        return "other"
    if any(map(is_parameter, node.entries)):
        return "recurrent"
    weight = node.entries.get("weight")
    if weight is not None and len(weight.shape) == 2 and set(node.entries) <= {"weight", "bias"}:
        return "linear" if "bias" in node.entries else "matrix"
    return "other"


def is_own(node: Node) -> bool:
    """Whether the class is known and PyTorch's, so that its attributes and forward are."""
    return node.class_name.startswith("torch.")


def is_torch(node: Node) -> bool:
    """Whether the class is PyTorch's; TorchScript keeps its attributes as code, so that only its tensors are known."""
    return node.class_name.removeprefix(SCRIPTED).startswith("torch.")


def is_scripted(node: Node) -> bool:
    return node.class_name.startswith(SCRIPTED)


def is_scripted_activation(node: Node) -> bool:
    return node.class_name.startswith(SCRIPTED + _ACTIVATION_PATH) and not node.entries


def tensors_text(node: Node) -> str:
    """The first few tensors of a module, for a message: shapes, or why a tensor cannot be read."""
    return ", ".join(f"{key} {e.shape if e.load else e.dtype}" for key, e in list(node.entries.items())[:4])


def named_activation(name: str) -> Activation:
    """An activation by the spec's name, with PyTorch's values of its parameters."""
    if ACTIVATIONS[name] and name not in _DEFAULTS:
        raise UnsupportedModelError(f"{name}: takes {', '.join(ACTIVATIONS[name])}, which module= cannot give")
    return Activation(name, *_DEFAULTS.get(name, ()))


def activation_module(node: Node) -> Activation:
    """The function of an activation module. Raises UnsupportedModelError, without the module's name in front."""
    short = node.class_name.removeprefix(_ACTIVATION_PATH)
    if short in _PLAIN:
        return named_activation(_PLAIN[short])
    if short in _SLOPED:
        name, attribute = _SLOPED[short]
        value = node.attributes.get(attribute)
        if not isinstance(value, int | float) or not abs(value) <= _FLOAT32_MAX:
            raise UnsupportedModelError(f"expected a finite number as {attribute}, got {describe(value)}")
        return Activation(name, float(value))
    if short == "GELU":
        return Activation({"none": "gelu", "tanh": "gelu_tanh"}[_only(node, "approximate", "none", ("none", "tanh"))])
    if short == "Softplus":
        _only(node, "beta", 1, (1,))
        _only(node, "threshold", 20, (20,))
        return Activation("softplus")
    raise UnsupportedModelError(
        f"{short} is not supported; supported are {', '.join([*_PLAIN, *_SLOPED])}, GELU, Softplus"
    )


def softmax_module(node: Node) -> bool:
    """Whether a softmax module is the logarithmic one; only the last axis is softmax in this engine."""
    _only(node, "dim", None, (-1, 2))  # 2 is the last axis of (batch, time, features)
    return _SOFTMAX[node.class_name.removeprefix(_ACTIVATION_PATH)]


def _only(node: Node, attribute: str, default: object, allowed: tuple):
    value = node.attributes.get(attribute, default)
    if not isinstance(value, int | float | str) or value not in allowed:
        wanted = " or ".join(map(repr, allowed))
        raise UnsupportedModelError(f"expected {attribute}={wanted}, got {describe(value)}")
    return value


def describe(value: object) -> str:
    """An attribute's value for a message; what a file may have made deep or large, by type alone."""
    return repr(value)[:80] if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"
