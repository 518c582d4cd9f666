"""What is timed: shapes from a text file, and for each a network and an input, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstm_fast.importers.raw import torch_arrays
from lstm_fast.reference import State
from lstm_fast.spec import GATES, ModelSpec

SHAPES = Path(__file__).with_name("shapes.txt")
COLUMNS = "kind B T I H layers directions"
#: Further words of a line, ``word=number``, and the field that each sets.
OPTIONS = {"proj": "proj_size", "shortest": "shortest", "state": "state"}


class Feed(NamedTuple):
    """What a forward pass is given."""

    x: np.ndarray  #: (batch, time, features) float32
    lengths: np.ndarray | None = None  #: valid steps of each row, (batch,) int64, falling; later outputs are zero
    #: (h, c) of an LSTM, else h, each (layers * directions, batch, size) float32; the final one is wanted then.
    #: None: zeros, and the output is all that is wanted.
    state: State | None = None

    @property
    def states(self) -> tuple[np.ndarray, ...]:
        """The arrays of the state."""
        return () if self.state is None else arrays_of(self.state)


def arrays_of(state: State) -> tuple[np.ndarray, ...]:
    """h, and c of an LSTM."""
    return state if isinstance(state, tuple) else (state,)


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
    state: int = 0  #: 1: a state is given and the final one wanted, as in a stream; 0: it starts at zero

    def __post_init__(self) -> None:
        sizes = (self.batch, self.time, self.input_size, self.hidden_size, self.num_layers, self.directions)
        if self.kind not in GATES or min(sizes) < 1 or self.directions > 2:
            raise ValueError(f"expected one of {', '.join(GATES)}, sizes from 1, and 1 or 2 directions, got {self}")
        if self.proj_size and not (self.kind == "lstm" and 0 < self.proj_size < self.hidden_size):
            raise ValueError(f"expected proj= of an LSTM, from 1 and below H, got {self}")
        if not 0 <= self.shortest <= self.time:
            raise ValueError(f"expected shortest= from 1 to T, got {self}")
        if self.state not in (0, 1):
            raise ValueError(f"expected state=1 or none, got {self}")

    def __str__(self) -> str:
        parts = [self.kind, f"B{self.batch}", f"T{self.shortest}-{self.time}" if self.shortest else f"T{self.time}"]
        parts += [f"I{self.input_size}"] if self.input_size != self.hidden_size else []
        parts += [f"H{self.hidden_size}"]
        parts += [f"P{self.proj_size}"] if self.proj_size else []
        parts += [f"x{self.num_layers}"] if self.num_layers > 1 else []
        parts += ["bi"] if self.directions == 2 else []
        parts += ["state"] if self.state else []
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
        """Weights of one cell that a step needs beside those of its input: the state's, and the projection's."""
        return self.rows * self.output_size + self.proj_size * self.hidden_size

    @property
    def first_weights(self) -> int:
        """Those of them that the first step needs: none but the projection's where the state is zero."""
        return self.recurrent_weights if self.state else self.proj_size * self.hidden_size

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
        """All weights but biases, which are also the multiply-adds of a step of one row whose state is not zero."""
        inputs = self.rows * sum(self.input_sizes)
        return self.directions * (inputs + self.num_layers * self.recurrent_weights)

    @property
    def spared(self) -> int:
        """Those of them that the first step does not need."""
        return self.directions * self.num_layers * (self.recurrent_weights - self.first_weights)

    @property
    def flops(self) -> int:
        """Floating-point operations that the matrix products need, 2 to a multiply-add; activations are not counted."""
        return 2 * (self.weights * int(self.rows_at.sum()) - self.spared * self.batch)

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

    def feed(self) -> Feed:
        """Standard normal x, and a state as large as outputs are."""
        random = np.random.default_rng(self.time)
        x = random.standard_normal((self.batch, self.time, self.input_size), dtype=np.float32)
        if not self.state:
            return Feed(x, self.lengths)
        sizes = [self.output_size, self.hidden_size][: 2 if self.kind == "lstm" else 1]
        cells = self.num_layers * self.directions
        state = tuple(random.uniform(-0.5, 0.5, (cells, self.batch, size)).astype(np.float32) for size in sizes)
        return Feed(x, self.lengths, state if self.kind == "lstm" else state[0])


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
