"""lstm_fast: NumPy in, NumPy out, final states included."""

from __future__ import annotations

import numpy as np

import lstm_fast as lf
from lstm_fast.spec import ModelSpec

from . import Engine, Run


class Ours(Engine):
    package = "lstm_fast"

    def __init__(self, name: str, backend: str) -> None:
        self.name, self.backend = name, backend

    def available(self) -> bool:
        return self.backend in lf.config()["backends"]

    def version(self) -> str:
        return lf.__version__

    def prepare(self, spec: ModelSpec, x: np.ndarray, lengths: np.ndarray | None, threads: int) -> Run:
        model = lf.Model(spec, backend=self.backend, num_threads=threads)
        return Run(lambda: model.forward_sequence(x, lengths=lengths), lambda result: result[0])
