"""What was measured, as tables and sentences for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lstm_fast import summary

from . import machine
from .cells import FLOAT32, Cell, engines_of, geometric_mean
from .engines import OURS, OURS_AVX2
from .measure import TOLERANCE
from .results import Run, Start

#: What every shape must reach against an engine: its median ÷ ours.
REQUIRED = {"numpy": 1.0, "onnxruntime": 0.5}


class Table(NamedTuple):
    """Columns under their headers; those in ``right`` hold numbers."""

    headers: list[str]
    rows: list[list[str]]
    right: set[int]

    def __str__(self) -> str:
        return summary.table(*self) if self.rows else ""


def run_text(run: Run) -> str:
    """Everything that one run found but its curves, which are for pictures."""
    parts = [machine.facts_text(run.machine)]
    if run.cells:
        parts += [
            f"Every float32 engine within {TOLERANCE:.0e} of the float64 reference at every shape.",
            str(times_table(run.cells)),
            str(latency_table(run.cells)),
            str(low_precision_table(run.cells)),
            unable_text(run.cells),
            verdict(run.cells),
            slow_paths(run.cells),
            avx2_text(run.cells),
            peaks_text(run.cells),
            machine.caution(run.machine),
        ]
    return "\n\n".join(filter(None, parts))


def times_table(cells: Sequence[Cell]) -> Table:
    """Median microseconds per call, and how ours stands to the best of the others; LOSS where it is slower."""
    engines = [name for name in engines_of(cells) if _precision(cells, name) == FLOAT32]
    headers = ["µs per call", *engines, "best peer", "peer/ours", "", "GFLOP/s", "of roofline"]
    rows = [
        [
            str(cell.shape),
            *(microseconds(cell.timings[name].median) if name in cell.timings else "-" for name in engines),
            cell.best_peer or "",
            "" if cell.ratio is None else f"{cell.ratio:.2f}",
            "LOSS" if cell.lost else "",
            f"{cell.gflops:.0f}",
            "" if cell.roofline is None else f"{cell.roofline:.0%}",
        ]
        for cell in cells
    ]
    numbers = {*range(1, len(engines) + 1), len(engines) + 2, len(engines) + 4, len(engines) + 5}
    return Table(headers, rows, numbers)


def latency_table(cells: Sequence[Cell]) -> Table:
    """Fastest, median and the slowest in a hundred and in a thousand, for shapes of one step."""
    rows = [
        [str(cell.shape), name, *map(microseconds, (timing.fastest, timing.median, timing.p99, timing.p999))]
        for cell in cells
        if cell.shape.time == 1
        for name, timing in cell.timings.items()
    ]
    return Table(["one step, µs", "engine", "fastest", "median", "p99", "p99.9"], rows, {2, 3, 4, 5})


def low_precision_table(cells: Sequence[Cell]) -> Table:
    """Engines that compute in less than float32, with what that costs in exactness."""
    rows = [
        [
            str(cell.shape),
            name,
            microseconds(timing.median),
            f"{cell.ratio_to(name):.2f}",
            f"{timing.difference:.0e}",
            f"{cell.ours.difference:.0e}",
        ]
        for cell in cells
        for name, timing in cell.timings.items()
        if timing.precision != FLOAT32
    ]
    return Table(["µs per call", "engine", "median", "engine/ours", "its error", "error of ours"], rows, {2, 3, 4, 5})


def starts_table(starts: Mapping[str, Start]) -> Table:
    """Cold start and peak memory, and what they are over those of NumPy alone."""
    rows = [
        [
            name,
            f"{start.milliseconds:,.0f}",
            f"{start.more_milliseconds:+,.0f}",
            f"{start.mebibytes:,.0f}",
            f"{start.more_mebibytes:+,.0f}",
        ]
        for name, start in starts.items()
    ]
    return Table(["first output", "ms", "over NumPy", "MiB", "over NumPy"], rows, {1, 2, 3, 4})


def unable_text(cells: Sequence[Cell]) -> str:
    """Who was left out where, and why."""
    where: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for name, reason in cell.unable.items():
            where.setdefault((name, reason), []).append(str(cell.shape))
    return "\n".join(
        f"- {name} cannot, {reason}: {', '.join(shapes) if len(shapes) <= 5 else f'{len(shapes)} shapes'}"
        for (name, reason), shapes in where.items()
    )


def verdict(cells: Sequence[Cell]) -> str:
    """One line on wins, losses and the mean."""
    mean = geometric_mean(cell.ratio for cell in cells)
    if mean is None:
        return "Nothing to compare with: ours alone was timed."
    lost = [str(cell.shape) for cell in cells if cell.lost]
    losses = f"slower than the best peer at {len(lost)}: {', '.join(lost)}" if lost else "slower at none"
    compared = sum(cell.ratio is not None for cell in cells)
    return f"Geometric mean of peer/ours over {compared} shapes: {mean:.2f}; {losses}."


def slow_paths(cells: Sequence[Cell]) -> str:
    """PyTorch alone where it has no fused path; empty where it was not timed there."""
    found = [cell for cell in cells if cell.slow_in_torch and "torch" in cell.timings]
    mean = geometric_mean(cell.ratio_to("torch") for cell in found)
    if mean is None:
        return ""
    where = f"at the {len(found)} shapes where it has no fused path (GRU, RNN, ragged batches, projections)"
    return f"PyTorch alone {where}: {mean:.2f}."


def avx2_text(cells: Sequence[Cell]) -> str:
    """Ours without AVX-512 beside peers that may use it; empty where it was not timed."""
    found = [cell for cell in cells if OURS_AVX2 in cell.timings and cell.ratio is not None]
    ratios = [cell.ratio / cell.ratio_to(OURS_AVX2) for cell in found]
    if not ratios:
        return ""
    lost = [str(cell.shape) for cell, ratio in zip(found, ratios, strict=True) if ratio < 1]
    losses = f"slower at {len(lost)}: {', '.join(lost)}" if lost else "slower at none"
    return f"Best peer ÷ {OURS_AVX2}, geometric mean: {geometric_mean(ratios):.2f}; {losses}."


def threads_table(runs: Sequence[Run]) -> Table:
    """What more threads bring: ours with each number of them, and how many times faster it is than with the fewest."""
    rows = [
        [
            str(cells[0].shape),
            *(microseconds(cell.ours.median) for cell in cells),
            *(f"{cells[0].ours.median / cell.ours.median:.2f}" for cell in cells[1:]),
        ]
        for cells in zip(*(run.cells for run in runs), strict=True)
        if len(cells) > 1
    ]
    counts = [str(run.threads) for run in runs]
    headers = ["ours, µs by threads", *counts, *(f"speed-up at {count}" for count in counts[1:])]
    return Table(headers, rows, set(range(1, len(headers))))


def peaks_text(cells: Sequence[Cell]) -> str:
    """What the machine could do, from least to most: a wide span is the mark of a disturbed run."""
    speeds = [cell.speeds for cell in cells if cell.speeds]
    if not speeds:
        return ""
    gflops = [speed.gflops for speed in speeds]
    clocks = [speed.gigahertz for speed in speeds]
    return (
        f"Peaks measured beside the shapes: {min(gflops):.0f} to {max(gflops):.0f} GFLOP/s,"
        f" {min(clocks):.2f} to {max(clocks):.2f} GHz."
    )


def check_table(cells: Sequence[Cell]) -> tuple[Table, bool]:
    """Each shape against :data:`REQUIRED`, where the engine takes part, and whether every one reaches it."""
    rows, passed = [], True
    for cell in cells:
        ratios = {name: cell.ratio_to(name) for name in REQUIRED if name in cell.timings}
        good = all(ratio >= REQUIRED[name] for name, ratio in ratios.items())
        passed = passed and good
        times = [microseconds(cell.timings[name].median) if name in cell.timings else "-" for name in (OURS, *REQUIRED)]
        wanted = [f"{ratios[name]:.2f}" if name in ratios else "-" for name in REQUIRED]
        rows.append([str(cell.shape), *times, *wanted, "ok" if good else "FAIL"])
    headers = ["µs per call", OURS, *REQUIRED, *(f"{name}/ours >= {least:g}" for name, least in REQUIRED.items()), ""]
    return Table(headers, rows, {1, 2, 3, 4, 5}), passed


def microseconds(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _precision(cells: Sequence[Cell], engine: str) -> str:
    return next((cell.timings[engine].precision for cell in cells if engine in cell.timings), "")
