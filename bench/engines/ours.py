"""lstm_fast: NumPy in, NumPy out, final states included."""

from __future__ import annotations

import lstm_fast as lf
from lstm_fast.spec import ModelSpec

from ..shapes import Feed, arrays_of
from . import Engine, Run


class Ours(Engine):
    package = "lstm_fast"

    def __init__(self, name: str, backend: str, isa: str | None = None) -> None:
        self.name, self.backend, self.isa = name, backend, isa

    def available(self) -> bool:
        """With an instruction set of its own, where this CPU has it and would not use it anyway."""
        config = lf.config()
        known, used = config["isa"]["known"], config["isa"]["used"]
        other = self.isa is None or (known.get(self.isa) == "usable" and used != self.isa)
        return other and self.backend in config["backends"]

    def version(self) -> str:
        return lf.__version__

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        model = lf.Model(spec, backend=self.backend, isa=self.isa, num_threads=threads)
        return Run(
            lambda: model.forward_sequence(feed.x, feed.state, lengths=feed.lengths),
            lambda result: result[0],
            lambda result: arrays_of(result[1]),
        )
