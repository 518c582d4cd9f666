"""Reading Keras' JSON configurations as data: every key is understood, known to be harmless, or refused by name.

Sources: ``get_config`` of the layers of Keras 2.0 to 3.15; nothing a configuration names is imported or called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ..activations import LINEAR, Activation
from ..arrays import single
from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits

#: Modules that Keras itself writes; anything else is somebody's own class.
_KERAS_MODULES = {"keras", "tf_keras", "keras_core", "tensorflow"}

#: Keys without effect on what a trained layer computes.
_HARMLESS = frozenset(
    "name trainable dtype seed batch_input_shape batch_shape input_shape input_length input_dtype implementation unroll"
    " dropout recurrent_dropout unit_forget_bias kernel_initializer recurrent_initializer bias_initializer"
    " embeddings_initializer kernel_regularizer recurrent_regularizer bias_regularizer activity_regularizer"
    " embeddings_regularizer kernel_constraint recurrent_constraint bias_constraint embeddings_constraint".split()
)

#: Activations that Keras writes by name, with the parameters the bare name means. ``hard_sigmoid`` depends on the
#: version, ``softmax`` and ``log_softmax`` are no elementwise functions: see the callers.
_NAMED = {
    "linear": LINEAR,
    "relu": Activation("relu"),
    "relu6": Activation("relu6"),
    "leaky_relu": Activation("leaky_relu", 0.2),
    "elu": Activation("elu", 1.0),
    "selu": Activation("selu"),
    "gelu": Activation("gelu"),
    "silu": Activation("silu"),
    "swish": Activation("silu"),
    "hard_silu": Activation("hard_silu"),
    "hard_swish": Activation("hard_silu"),
    "mish": Activation("mish"),
    "softplus": Activation("softplus"),
    "softsign": Activation("softsign"),
    "sigmoid": Activation("sigmoid"),
    "tanh": Activation("tanh"),
    "exponential": Activation("exponential"),
}
_SOFTMAX = {"softmax": False, "log_softmax": True}

ADVICE = "save the part of the network that lstm_fast runs as a model of its own and keep the rest outside"
_ADVICE_FOR = {
    "quantization_config": "save the model as it was before quantize()",
    "lora_rank": "save its weights, load them into the same model built without enable_lora(), and save that",
}


class Version:
    """The Keras version that wrote a file, for the few functions that changed their meaning."""

    def __init__(self, text: str) -> None:
        numbers = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", text)
        self.text = text or "unknown"
        self.number = (int(numbers[1]), int(numbers[2])) if numbers else None
        # tf.keras before TensorFlow 2.4 marked its versions; Keras was a package of its own until 2.3.
        self.standalone = self.number is not None and self.number < (2, 4) and "-tf" not in text
        self.keras3 = self.number is not None and self.number >= (3, 0)
        self.early_tf = self.number is not None and self.number < (2, 2) and "-tf" in text

    def hard_sigmoid(self, where: str) -> Activation:
        if self.number is None:
            raise UnsupportedModelError(
                f"{where}: hard_sigmoid means something else in Keras 2 and Keras 3, and the configuration does not say"
                " which wrote it; add a key keras_version to it"
            )
        return Activation("hard_sigmoid", 0.2 if self.number < (3, 0) else 1 / 6, 0.5)


def parse_json(data: bytes | memoryview | str, limits: Limits, what: str) -> dict:
    """A JSON object from a file, bounded in size and nesting."""
    limits.check("header_bytes", len(data), f"size in bytes of {what}")
    try:
        value = json.loads(data if isinstance(data, str) else bytes(data).decode())
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{what}: expected JSON, cannot parse it ({error}); the file is damaged") from None
    if not isinstance(value, dict):
        raise ModelFormatError(f"{what}: expected a JSON object, got {show(value)}")
    _check_tree(value, limits, what)
    return value


def _check_tree(value: Any, limits: Limits, what: str) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        limits.check("nesting", depth, f"depth of nesting in {what}")
        below = []
        for item in level:
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                try:
                    item.encode()
                except UnicodeEncodeError:
                    raise ModelFormatError(f"{what}: {item!a} is no valid text; the file is damaged") from None
        level = below


class Config:
    """One layer's configuration. Read what is understood, then :meth:`finish` refuses what is left."""

    def __init__(self, values: object, where: str, harmless: Sequence[str] = ()) -> None:
        if not isinstance(values, dict):
            raise ModelFormatError(f"{where}: expected its config to be a JSON object, got {show(values)}")
        self._values = values
        self.where = where
        self._known = set(_HARMLESS) | set(harmless)

    def fail(self, key: str, expected: str) -> NoReturn:
        raise ModelFormatError(f"{self.where}: {key}: expected {expected}, got {show(self._values.get(key))}")

    def refuse(self, key: str, advice: str = ADVICE) -> NoReturn:
        raise UnsupportedModelError(f"{self.where}: {key}={show(self._values.get(key))} is not supported; {advice}")

    def take(self, key: str, default: object = None) -> Any:
        self._known.add(key)
        return self._values.get(key, default)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            self.fail(key, "true or false")
        return value

    def size(self, key: str) -> int:
        """A positive integer; Keras 2 may write a whole number as 32.0."""
        value = self.take(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 < value < 1 << 31:
            self.fail(key, "a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.take(key, default)
        if isinstance(value, dict):  # NumPy scalars in old configs: {"type": "ndarray", "value": 0.3}
            value = value.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            self.fail(key, "a finite number")
        return float(value)

    def require(self, key: str, *allowed: object, advice: str = ADVICE) -> None:
        """Refuse any value of ``key``, where present, that is not one of ``allowed``."""
        if key in self._values and not any(self._values[key] == value for value in allowed):
            self.refuse(key, advice)
        self._known.add(key)

    def finish(self) -> None:
        """Refuse every key that nothing has read and that is set."""
        self._check_dtype()
        for key, value in self._values.items():
            if key not in self._known and value not in (None, False, [], {}):
                self.refuse(key, _ADVICE_FOR.get(key, ADVICE))

    @property
    def policy(self) -> object:
        """The dtype policy by name, "float32" for example; None where the file leaves it open."""
        policy = self._values.get("dtype")
        if isinstance(policy, dict) and isinstance(policy.get("config"), dict):
            return policy["config"].get("name", policy)  # a quantized policy has no name
        return policy

    def _check_dtype(self) -> None:
        policy = self.policy
        if policy not in (None, "float32", "float64"):
            raise UnsupportedModelError(
                f"{self.where}: dtype policy {show(policy)} is not supported, only float32 and float64: its framework"
                " rounds inside the layer, so results would differ. Rebuild the model with dtype='float32', copy the"
                " weights with set_weights(get_weights()) and save that"
            )


def class_of(item: object, where: str) -> tuple[str, Any]:
    """Class name and config of a serialized object, once it is sure that the class is Keras' own.

    Keras gives a class defined in a script no module, and any class that is not its own a ``registered_name``, which
    may well be "Dense".
    """
    if not isinstance(item, dict) or not isinstance(item.get("class_name"), str):
        raise ModelFormatError(f"{where}: expected an object with a class_name, got {show(item)}")
    name, module, registered = item["class_name"], item.get("module"), item.get("registered_name")
    known = isinstance(module, str) and module.split(".")[0] in _KERAS_MODULES
    if not (known or module is None) or registered not in ((None, name) if known else (None,)):
        raise UnsupportedModelError(
            f"{where}: class {show(registered or name)} of module {show(module)} is not Keras' own, and no code is"
            f" ever loaded for a file; {ADVICE}"
        )
    return name, item.get("config")


def snake_case(name: str) -> str:
    """A class name as Keras writes it in paths: ``SimpleRNN`` is ``simple_rnn``, ``ReLU`` is ``re_lu``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def unsupported_class(name: str, where: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{where}: layers of class {show(name)} are not supported; {ADVICE}")


def activation(config: Config, key: str, default: str, version: Version) -> Activation:
    """An elementwise activation; softmax is refused."""
    value = activation_or_softmax(config, key, default, version)
    if isinstance(value, bool):
        config.refuse(key, "only elementwise activations can be used inside a recurrent layer")
    return value


def activation_or_softmax(config: Config, key: str, default: str, version: Version) -> Activation | bool:
    """An elementwise activation, or for a softmax over the last axis whether its logarithm is taken."""
    value = config.take(key, default)
    where = f"{config.where}: {key}"
    if value is None:
        return LINEAR
    if isinstance(value, dict) and value.get("class_name") == "function":  # Keras 3's form of a plain function
        if value.get("module") != "builtins" or value.get("registered_name") not in (
            None,
            "function",
            value.get("config"),
        ):
            raise UnsupportedModelError(
                f"{where}: {show(value.get('registered_name'))} is a function of somebody's own, and no code is ever"
                f" loaded for a file; {ADVICE}"
            )
        value = value.get("config")
    if isinstance(value, dict):
        name, inner = class_of(value, where)
        found = activation_layer(name, Config(inner, where), version)
        if found is None:
            raise unsupported_class(name, where)
        return found
    if not isinstance(value, str):
        config.fail(key, "the name of an activation")
    if value == "hard_sigmoid":
        return version.hard_sigmoid(where)
    if value in _SOFTMAX:
        return _SOFTMAX[value]
    if value not in _NAMED:
        raise UnsupportedModelError(
            f"{where}: unknown activation {show(value)}; supported are hard_sigmoid, softmax, log_softmax,"
            f" {', '.join(_NAMED)}"
        )
    return _NAMED[value]


def activation_layer(name: str, config: Config, version: Version) -> Activation | bool | None:
    """An activation given as a layer; None where ``name`` is no such layer."""
    if name == "Activation":
        found: Activation | bool = activation_or_softmax(config, "activation", "linear", version)
    elif name == "Softmax":
        config.require("axis", -1, [-1], advice="only a softmax over the last axis can be run")
        found = False
    elif name == "ReLU":
        found = _relu(config)
    elif name == "LeakyReLU":
        key = "alpha" if config.take("negative_slope") is None else "negative_slope"
        found = Activation("leaky_relu", config.number(key, 0.3))
    elif name == "ELU":
        found = Activation("elu", config.number("alpha", 1.0))
    elif name == "ThresholdedReLU":
        found = _thresholded(config, config.number("theta", 1.0))
    else:
        return None
    config.finish()
    return found


def _relu(config: Config) -> Activation:
    top, slope = config.take("max_value"), config.number("negative_slope", 0.0)
    threshold = config.number("threshold", 0.0)
    if top is None and threshold == 0:
        return Activation("leaky_relu", slope) if slope else Activation("relu")
    if top is None and slope == 0:
        return _thresholded(config, threshold)
    if top == 6 and slope == 0 and threshold == 0:
        return Activation("relu6")
    raise UnsupportedModelError(
        f"{config.where}: ReLU with max_value={show(top)}, negative_slope={slope:g}, threshold={threshold:g} is not"
        " supported; a slope, a threshold, or max_value=6 can be run, each alone"
    )


def _thresholded(config: Config, threshold: float) -> Activation:
    """Keras compares in the layer's precision, where 0.2 is another number."""
    return Activation("thresholded_relu", threshold if config.policy == "float64" else single(threshold))


def show(value: object) -> str:
    """Any JSON value for a message, cut to a line."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
