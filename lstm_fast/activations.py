"""Elementwise activations, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

#: Elementwise activations and the parameters each one takes. The order is the C enumeration's.
ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "tanh": (),
    "sigmoid": (),
    "relu": (),
    "hard_sigmoid": ("alpha", "beta"),
    "leaky_relu": ("alpha",),
    "relu6": (),
    "elu": ("alpha",),
    "selu": (),
    "gelu": (),
    "gelu_tanh": (),
    "silu": (),
    "hard_silu": (),
    "mish": (),
    "softplus": (),
    "softsign": (),
    "exponential": (),
    "affine": ("alpha", "beta"),
    "scaled_tanh": ("alpha", "beta"),
    "thresholded_relu": ("alpha",),
}


@dataclass(frozen=True)
class Activation:
    """An elementwise function by name; ``alpha`` and ``beta`` are zero where the function takes none."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def faults(self, where: str) -> Iterator[str]:
        if self.name not in ACTIVATIONS:
            yield f"{where}: unknown activation {self.name!r}; known: {', '.join(ACTIVATIONS)}"
        if not (np.isfinite(self.alpha) and np.isfinite(self.beta)):
            yield f"{where}: activation parameters must be finite, got alpha={self.alpha}, beta={self.beta}"

    def __str__(self) -> str:
        values = [f"{getattr(self, p):g}" for p in ACTIVATIONS.get(self.name, ())]
        return f"{self.name}({', '.join(values)})" if values else self.name


LINEAR = Activation("linear")
TANH = Activation("tanh")
SIGMOID = Activation("sigmoid")
