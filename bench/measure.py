"""One shape on every engine: checked against the float64 reference, then timed, the machine's peaks among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lstm_fast import reference
from lstm_fast.check import difference
from lstm_fast.timing import time_in_turn

from .cells import FLOAT32, Cell, Timing
from .engines import Engine, Run
from .peaks import Peaks
from .roofline import footprint
from .shapes import Shape, arrays_of

#: Largest ``|y - reference| / max(1, |reference|)`` of a float32 engine that is let in.
TOLERANCE = 1e-5


class DisagreementError(Exception):
    """An engine does not compute what the reference does, so timing it would say nothing."""


def measure(shape: Shape, engines: Sequence[Engine], threads: int, seconds: float, peaks: Peaks | None = None) -> Cell:
    """Build ``shape`` on every engine that can, compare outputs with the reference, and time for ``seconds`` each.

    Raises:
        DisagreementError: a float32 output differs from the reference by more than ``TOLERANCE``, or one of another
            precision is no number.
    """
    spec, feed = shape.network(), shape.feed()
    given = None if feed.state is None else [feed.state]
    y, [state] = reference.forward(spec, feed.x, given, lengths=feed.lengths)
    expected = (y, *arrays_of(state)) if given else (y,)
    unable = {engine.name: reason for engine in engines if (reason := engine.cannot(shape))}
    able = [engine for engine in engines if engine.name not in unable]
    runs = {engine.name: engine.prepare(spec, feed, threads) for engine in able}
    differences = {name: _difference(run, expected) for name, run in runs.items()}
    for engine in able:
        tolerance = TOLERANCE if engine.precision == FLOAT32 else math.inf
        off = differences[engine.name]
        if not (math.isfinite(off) and off <= tolerance):
            raise DisagreementError(
                f"{engine.name} differs from the float64 reference by {off:.1e} at {shape}, expected at most"
                f" {tolerance:.0e}; nothing was timed"
            )
    size = footprint(shape)
    probes = {} if peaks is None else peaks.probes(size)
    calls = {name: run.call for name, run in runs.items()} | {name: probe.call for name, probe in probes.items()}
    times = time_in_turn(calls, seconds, threads=threads)
    timings = {
        engine.name: Timing.of(times[engine.name], engine.precision, differences[engine.name], shape.time == 1)
        for engine in able
    }
    return Cell(shape, timings, unable, None if peaks is None else peaks.speeds(probes, times, size))


def _difference(run: Run, expected: tuple[np.ndarray, ...]) -> float:
    """The largest, of the output and, where they are expected, of final states."""
    found = run.call()
    states = run.states(found) if len(expected) > 1 else ()
    return max(difference(*pair) for pair in zip((run.output(found), *states), expected, strict=True))
