"""One shape on every engine: checked against the float64 reference, then timed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lstm_fast import reference
from lstm_fast.check import difference

from .engines import OURS, OURS_BLAS, Engine
from .shapes import Shape
from .timing import Times, time_in_turn

#: Largest ``|y - reference| / max(1, |reference|)`` of a float32 engine that is let in.
TOLERANCE = 1e-5


class DisagreementError(Exception):
    """An engine does not compute what the reference does, so timing it would say nothing."""


@dataclass(frozen=True)
class Cell:
    """What one shape gave: times by engine, the differences to the reference, and the least seconds if known."""

    shape: Shape
    times: dict[str, Times]
    differences: dict[str, float]
    floor: float | None = None

    @property
    def best_peer(self) -> str | None:
        """The fastest of the others; None where only ours was timed."""
        peers = [name for name in self.times if name not in (OURS, OURS_BLAS)]
        return min(peers, key=lambda name: self.times[name].median, default=None)

    @property
    def ratio(self) -> float | None:
        """Best peer ÷ ours: above 1, ours is faster."""
        return None if self.best_peer is None else self.ratio_to(self.best_peer)

    @property
    def gflops(self) -> float:
        """Operations of ours in the matrix products, in GFLOP/s."""
        return self.shape.flops / self.times[OURS].median / 1e3

    @property
    def roofline(self) -> float | None:
        """Least time ÷ ours, at most about 1."""
        return None if self.floor is None else self.floor * 1e6 / self.times[OURS].median

    def ratio_to(self, engine: str) -> float:
        """That engine's median ÷ ours."""
        return self.times[engine].median / self.times[OURS].median

    def as_json(self) -> dict[str, Any]:
        engines = {
            name: {
                "median_us": times.median,
                "fastest_us": times.fastest,
                "p99_us": times.p99,
                "calls": sum(map(len, times.rounds)),
                "round_medians_us": times.medians,
                "difference": self.differences[name],
            }
            for name, times in self.times.items()
        }
        return {
            "name": str(self.shape),
            "shape": asdict(self.shape),
            "engines": engines,
            "best_peer": self.best_peer,
            "ratio": self.ratio,
            "gflops": self.gflops,
            "roofline": self.roofline,
        }


def measure(shape: Shape, engines: Sequence[Engine], threads: int, seconds: float) -> Cell:
    """Build ``shape`` on every engine, compare outputs with the reference, and time for ``seconds`` each.

    Raises:
        DisagreementError: an output differs from the reference by more than ``TOLERANCE``.
    """
    spec, x = shape.network(), shape.input()
    expected, _ = reference.forward(spec, x)
    runs = {engine.name: engine.prepare(spec, x, threads) for engine in engines}
    differences = {name: difference(run.output(run.call()), expected) for name, run in runs.items()}
    for name, off in differences.items():
        if not off <= TOLERANCE:
            raise DisagreementError(
                f"{name} differs from the float64 reference by {off:.1e} at {shape}, expected at most {TOLERANCE:.0e};"
                " nothing was timed"
            )
    return Cell(shape, time_in_turn({name: run.call for name, run in runs.items()}, seconds), differences)


def geometric_mean(cells: Sequence[Cell]) -> float | None:
    """Of the cells' ratios; None where there are no peers."""
    ratios = [cell.ratio for cell in cells if cell.ratio is not None]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None
