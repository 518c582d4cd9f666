"""What one shape gave, as plain data: who was timed, how fast, how exact, and what the machine could do meanwhile."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lstm_fast.timing import Times

from .engines import OURS, OURS_AVX2, OURS_BLAS
from .roofline import Speeds, least_seconds
from .shapes import Shape

#: The distribution of calls that is kept for shapes of one step, in percent: both ends finer than the middle.
PERCENTS = (0, 1, 2, 5, *range(10, 90, 10), 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 100)
FLOAT32 = "float32"


@dataclass(frozen=True)
class Timing:
    """One engine at one shape. Times are microseconds per call."""

    precision: str
    difference: float  #: to the float64 reference, largest ``|y - expected| / max(1, |expected|)``
    median: float  #: of the rounds' medians
    fastest: float
    p99: float
    p999: float
    calls: int
    distribution: list[float] = field(default_factory=list)  #: at :data:`PERCENTS`, for shapes of one step

    @classmethod
    def of(cls, times: Times, precision: str, difference: float, keep_distribution: bool) -> Timing:
        return cls(
            precision,
            float(f"{difference:.3g}"),
            _rounded(times.median),
            _rounded(times.calls[0]),
            _rounded(times.percentile(99)),
            _rounded(times.percentile(99.9)),
            len(times.calls),
            [_rounded(times.percentile(percent)) for percent in PERCENTS] if keep_distribution else [],
        )


@dataclass(frozen=True)
class Cell:
    """One shape on every engine that takes part, ours among them.

    ``unable`` says why others do not; ``speeds`` is what the machine's cores did in the same rounds, None where
    there is no compiler to find out.
    """

    shape: Shape
    timings: dict[str, Timing]
    unable: dict[str, str] = field(default_factory=dict)
    speeds: Speeds | None = None

    @property
    def ours(self) -> Timing:
        return self.timings[OURS]

    @property
    def peers(self) -> dict[str, Timing]:
        """The others that compute in float32 as ours does."""
        return {
            name: timing
            for name, timing in self.timings.items()
            if name not in (OURS, OURS_AVX2, OURS_BLAS) and timing.precision == FLOAT32
        }

    @property
    def best_peer(self) -> str | None:
        """The fastest of the peers; None where only ours was timed."""
        peers = self.peers
        return min(peers, key=lambda name: peers[name].median, default=None)

    @property
    def ratio(self) -> float | None:
        """Best peer ÷ ours: above 1, ours is faster."""
        return None if self.best_peer is None else self.ratio_to(self.best_peer)

    def ratio_to(self, engine: str) -> float:
        """That engine's median ÷ ours."""
        return self.timings[engine].median / self.ours.median

    @property
    def lost(self) -> bool:
        return self.ratio is not None and self.ratio < 1

    @property
    def gflops(self) -> float:
        """Operations that the matrix products need, in the time of ours, in GFLOP/s."""
        return self.shape.flops / self.ours.median / 1e3

    @property
    def roofline(self) -> float | None:
        """Least time ÷ ours: about 1 where nothing is left to win."""
        return None if self.speeds is None else least_seconds(self.shape, self.speeds) * 1e6 / self.ours.median

    @property
    def slow_in_torch(self) -> bool:
        """Whether PyTorch has no fused path: anything but an LSTM of whole rows without a projection."""
        return self.shape.kind != "lstm" or bool(self.shape.proj_size or self.shape.shortest)

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads, and what follows from it, for other readers."""
        return {
            "name": str(self.shape),
            **asdict(self),
            "best_peer": self.best_peer,
            "ratio": self.ratio,
            "gflops": self.gflops,
            "roofline": self.roofline,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Cell:
        speeds = data["speeds"]
        return cls(
            Shape(**data["shape"]),
            {name: Timing(**timing) for name, timing in data["timings"].items()},
            data["unable"],
            None if speeds is None else Speeds(**speeds),
        )


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Of those that are there; None where there are none."""
    found = [ratio for ratio in ratios if ratio is not None]
    return math.exp(statistics.fmean(map(math.log, found))) if found else None


def engines_of(cells: Sequence[Cell]) -> list[str]:
    """Every engine that was timed in some cell, in the order in which they were first met."""
    return list(dict.fromkeys(name for cell in cells for name in (*cell.timings, *cell.unable)))


def _rounded(value: float) -> float:
    """To a nanosecond, or five digits."""
    return round(value, 3) if value < 100 else float(f"{value:.5g}")
