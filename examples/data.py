"""What the training scripts and the demo share: how numbers, images and text become network input. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent

#: The character model's alphabet: newline and printable ASCII; a character's place is its id.
VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))
_IDS = {character: index for index, character in enumerate(VOCABULARY)}


@dataclass(frozen=True)
class MinMax:
    """Scaling that sends ``low`` to 0 and ``high`` to 1; values outside go outside."""

    low: float
    high: float

    @classmethod
    def fit(cls, values: np.ndarray) -> MinMax:
        return cls(float(values.min()), float(values.max()))

    def scale(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.low) / (self.high - self.low)).astype(np.float32)

    def restore(self, scaled: np.ndarray) -> np.ndarray:
        return scaled.astype(np.float64) * (self.high - self.low) + self.low


def windows(series: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Every run of ``length`` values with the value that follows it.

    Returns:
        inputs, (n - length, length, 1), and targets, (n - length,), for a series of n values.
    """
    inputs = np.lib.stride_tricks.sliding_window_view(series, length)[:-1]
    return inputs[..., None].copy(), series[length:].copy()


def encode(text: str) -> np.ndarray:
    """Ids of the characters of ``text``, int64; characters outside the alphabet are dropped."""
    return np.array([_IDS[c] for c in text if c in _IDS], dtype=np.int64)


def decode(ids: np.ndarray) -> str:
    return "".join(VOCABULARY[i] for i in np.ravel(ids))


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))
