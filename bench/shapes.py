"""What is timed: shapes from a text file, and for each a network and an input, the same on every machine."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from lstm_fast.importers.raw import torch_arrays
from lstm_fast.spec import GATES, ModelSpec

SHAPES = Path(__file__).with_name("shapes.txt")


@dataclass(frozen=True)
class Shape:
    """A recurrent stack and the size of its input."""

    kind: str
    batch: int
    time: int
    input_size: int
    hidden_size: int
    num_layers: int = 1
    directions: int = 1

    def __post_init__(self) -> None:
        sizes = astuple(self)[1:]
        if self.kind not in GATES or min(sizes) < 1 or self.directions > 2:
            raise ValueError(f"expected one of {', '.join(GATES)}, sizes from 1, and 1 or 2 directions, got {self}")

    def __str__(self) -> str:
        parts = [self.kind, f"B{self.batch}", f"T{self.time}"]
        parts += [f"I{self.input_size}"] if self.input_size != self.hidden_size else []
        parts += [f"H{self.hidden_size}"]
        parts += [f"x{self.num_layers}"] if self.num_layers > 1 else []
        parts += ["bi"] if self.directions == 2 else []
        return " ".join(parts)

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products, 2 to a multiply-add; activations are not counted."""
        inputs = self.input_size + (self.num_layers - 1) * self.directions * self.hidden_size
        rows = self.directions * len(GATES[self.kind]) * self.hidden_size
        return 2 * self.batch * self.time * rows * (inputs + self.num_layers * self.hidden_size)

    def network(self) -> ModelSpec:
        """Weights as PyTorch starts them, uniform in +-1/sqrt(H): the state neither dies nor saturates."""
        random = np.random.default_rng(self.hidden_size)
        rows, bound = len(GATES[self.kind]) * self.hidden_size, self.hidden_size**-0.5

        def arrays(*sizes: tuple[int, ...]) -> list[np.ndarray]:
            return [random.uniform(-bound, bound, size).astype(np.float32) for size in sizes]

        sizes = [self.input_size] + [self.directions * self.hidden_size] * (self.num_layers - 1)
        inputs = [size for size in sizes for _ in range(self.directions)]
        return torch_arrays(
            self.kind,
            arrays(*((rows, size) for size in inputs)),
            arrays(*((rows, self.hidden_size) for _ in inputs)),
            arrays(*((rows,) for _ in inputs)),
            arrays(*((rows,) for _ in inputs)),
            bidirectional=self.directions == 2,
        )

    def input(self) -> np.ndarray:
        """Standard normal x, (batch, time, features) float32."""
        size = (self.batch, self.time, self.input_size)
        return np.random.default_rng(self.time).standard_normal(size, dtype=np.float32)


def read_shapes(path: Path = SHAPES) -> list[Shape]:
    """The shapes in a text file: kind B T I H layers directions, one a line; ``#`` begins a comment.

    Raises:
        ValueError: a line that is no shape, by its number.
    """
    shapes = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            if len(words) != 7:
                raise ValueError(f"expected kind B T I H layers directions, got {len(words)} words")
            shapes.append(Shape(words[0], *map(int, words[1:])))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return shapes
