"""What was measured, as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from lstm_fast.summary import table

from .cells import Cell, geometric_mean
from .engines import OURS

#: What every shape must reach against an engine: its median ÷ ours.
REQUIRED = {"numpy": 1.0, "onnxruntime": 0.5}


def times_table(cells: Sequence[Cell]) -> str:
    """Median microseconds per call, and how ours stands to the best of the others; LOSS where it is slower."""
    engines = list(cells[0].times)
    headers = ["µs per call", *engines, "best peer", "peer/ours", "", "GFLOP/s", "of roofline"]
    rows = [
        [
            str(cell.shape),
            *(_microseconds(cell.times[name].median) for name in engines),
            cell.best_peer or "",
            "" if cell.ratio is None else f"{cell.ratio:.2f}",
            "LOSS" if cell.ratio is not None and cell.ratio < 1 else "",
            f"{cell.gflops:.0f}",
            "" if cell.roofline is None else f"{cell.roofline:.0%}",
        ]
        for cell in cells
    ]
    numbers = {*range(1, len(engines) + 1), len(engines) + 2, len(engines) + 4, len(engines) + 5}
    return table(headers, rows, right=numbers)


def latency_table(cells: Sequence[Cell]) -> str:
    """Fastest, median and 99th percentile of a call, for the shapes of one step; empty where there are none."""
    rows = [
        [str(cell.shape), name, *map(_microseconds, (times.fastest, times.median, times.p99))]
        for cell in cells
        if cell.shape.time == 1
        for name, times in cell.times.items()
    ]
    return table(["one step, µs", "engine", "fastest", "median", "p99"], rows, right={2, 3, 4}) if rows else ""


def verdict(cells: Sequence[Cell]) -> str:
    """One line on wins, losses and the mean."""
    mean = geometric_mean(cells)
    if mean is None:
        return "Nothing to compare with: ours alone was timed."
    lost = [str(cell.shape) for cell in cells if cell.ratio is not None and cell.ratio < 1]
    losses = f"slower than the best peer at {len(lost)}: {', '.join(lost)}" if lost else "slower at none"
    return f"Geometric mean of peer/ours over {len(cells)} shapes: {mean:.2f}; {losses}."


def check_table(cells: Sequence[Cell]) -> tuple[str, bool]:
    """Each shape against :data:`REQUIRED`, and whether every one reaches it."""
    rows, passed = [], True
    for cell in cells:
        ratios = {name: cell.ratio_to(name) for name in REQUIRED}
        good = all(ratios[name] >= least for name, least in REQUIRED.items())
        passed = passed and good
        times = [_microseconds(cell.times[name].median) for name in (OURS, *REQUIRED)]
        rows.append([str(cell.shape), *times, *(f"{ratio:.2f}" for ratio in ratios.values()), "ok" if good else "FAIL"])
    wanted = [f"{name}/ours >= {least:g}" for name, least in REQUIRED.items()]
    headers = ["µs per call", OURS, *REQUIRED, *wanted, ""]
    return table(headers, rows, right={1, 2, 3, 4, 5}), passed


def _microseconds(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
