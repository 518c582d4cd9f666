"""The NumPy loop of the examples: what people write who have no engine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lstm_fast.spec import ModelSpec

from ..shapes import Feed, Shape
from . import Engine, Run

EXAMPLES = str(Path(__file__).resolve().parents[2] / "examples")


class NumPyLoop(Engine):
    name, package = "numpy", "numpy"

    def cannot(self, shape: Shape) -> str:
        return "no lengths in the loop" if shape.shortest else "no state in the loop" if shape.state else ""

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        """The threads are those of NumPy's BLAS, which the environment sets."""
        if EXAMPLES not in sys.path:
            sys.path.append(EXAMPLES)
        from numpy_loop import numpy_loop

        loop = numpy_loop(spec)
        return Run(lambda: loop(feed.x), np.asarray)
