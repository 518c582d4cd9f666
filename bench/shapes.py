"""What is timed: shapes from a text file, and for each a network and an input, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lstm_fast.importers.raw import torch_arrays
from lstm_fast.spec import GATES, ModelSpec

SHAPES = Path(__file__).with_name("shapes.txt")
COLUMNS = "kind B T I H layers directions"
#: Further words of a line, ``word=number``, and the field that each sets.
OPTIONS = {"proj": "proj_size", "shortest": "shortest"}


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
    proj_size: int = 0  #: of an LSTM whose output is projected; 0: it is not
    shortest: int = 0  #: length of the last row where lengths fall evenly from the first, which is whole; 0: all are

    def __post_init__(self) -> None:
        sizes = (self.batch, self.time, self.input_size, self.hidden_size, self.num_layers, self.directions)
        if self.kind not in GATES or min(sizes) < 1 or self.directions > 2:
            raise ValueError(f"expected one of {', '.join(GATES)}, sizes from 1, and 1 or 2 directions, got {self}")
        if self.proj_size and not (self.kind == "lstm" and 0 < self.proj_size < self.hidden_size):
            raise ValueError(f"expected proj= of an LSTM, from 1 and below H, got {self}")
        if not 0 <= self.shortest <= self.time:
            raise ValueError(f"expected shortest= from 1 to T, got {self}")

    def __str__(self) -> str:
        parts = [self.kind, f"B{self.batch}", f"T{self.shortest}-{self.time}" if self.shortest else f"T{self.time}"]
        parts += [f"I{self.input_size}"] if self.input_size != self.hidden_size else []
        parts += [f"H{self.hidden_size}"]
        parts += [f"P{self.proj_size}"] if self.proj_size else []
        parts += [f"x{self.num_layers}"] if self.num_layers > 1 else []
        parts += ["bi"] if self.directions == 2 else []
        return " ".join(parts)

    @property
    def rows(self) -> int:
        """Rows of a cell's gates."""
        return len(GATES[self.kind]) * self.hidden_size

    @property
    def output_size(self) -> int:
        """Of one direction."""
        return self.proj_size or self.hidden_size

    @property
    def input_sizes(self) -> list[int]:
        """Features that each layer reads."""
        return [self.input_size] + [self.directions * self.output_size] * (self.num_layers - 1)

    @property
    def recurrent_weights(self) -> int:
        """Weights of one cell that every step reads: those of the state, and of the projection."""
        return self.rows * self.output_size + self.proj_size * self.hidden_size

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """Valid steps of each row, longest first, (batch,) int64; None where all are whole."""
        if not self.shortest:
            return None
        return np.linspace(self.time, self.shortest, self.batch).round().astype(np.int64)

    @cached_property
    def rows_at(self) -> np.ndarray:
        """Rows that are still valid at each step, (time,)."""
        lengths = np.full(self.batch, self.time) if self.lengths is None else self.lengths
        return (lengths > np.arange(self.time)[:, None]).sum(axis=1)

    @property
    def weights(self) -> int:
        """All weights but biases, which are also the multiply-adds of one step of one row."""
        inputs = self.rows * sum(self.input_sizes)
        return self.directions * (inputs + self.num_layers * self.recurrent_weights)

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products, 2 to a multiply-add; activations are not counted."""
        return 2 * self.weights * int(self.rows_at.sum())

    def network(self) -> ModelSpec:
        """Weights as PyTorch starts them, uniform in +-1/sqrt(H): the state neither dies nor saturates."""
        random = np.random.default_rng(self.hidden_size)
        bound = self.hidden_size**-0.5

        def arrays(*sizes: tuple[int, ...]) -> list[np.ndarray]:
            return [random.uniform(-bound, bound, size).astype(np.float32) for size in sizes]

        inputs = [size for size in self.input_sizes for _ in range(self.directions)]
        return torch_arrays(
            self.kind,
            arrays(*((self.rows, size) for size in inputs)),
            arrays(*((self.rows, self.output_size) for _ in inputs)),
            arrays(*((self.rows,) for _ in inputs)),
            arrays(*((self.rows,) for _ in inputs)),
            arrays(*((self.proj_size, self.hidden_size) for _ in inputs)) if self.proj_size else None,
            bidirectional=self.directions == 2,
        )

    def input(self) -> np.ndarray:
        """Standard normal x, (batch, time, features) float32."""
        size = (self.batch, self.time, self.input_size)
        return np.random.default_rng(self.time).standard_normal(size, dtype=np.float32)


def read_shapes(path: Path = SHAPES) -> list[Shape]:
    """The shapes in a text file: :data:`COLUMNS`, then any of :data:`OPTIONS`, one a line; ``#`` begins a comment.

    Raises:
        ValueError: a line that is no shape, by its number.
    """
    shapes = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            shapes.append(_shape(words))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return shapes


def _shape(words: list[str]) -> Shape:
    columns = [word for word in words if "=" not in word]
    if len(columns) != len(COLUMNS.split()):
        raise ValueError(f"expected {COLUMNS}, got {len(columns)} words")
    options = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = options.keys() - OPTIONS.keys()
    if unknown:
        raise ValueError(f"expected {'= or '.join(OPTIONS)}=, got {', '.join(sorted(unknown))}=")
    return Shape(columns[0], *map(int, columns[1:]), **{OPTIONS[name]: int(value) for name, value in options.items()})
