"""The pictures, as figures; ``svg.py`` makes text of them. Need matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .cells import FLOAT32, PERCENTS, Cell, engines_of
from .engines import OURS
from .results import Result, Run, Start
from .svg import INK, LOSS, WIN, engine_style, new_figure

#: What grows along a curve, in words, and how a shape tells it.
SIZES: dict[str, tuple[str, Callable[[Cell], int]]] = {
    "time": ("time steps", lambda cell: cell.shape.time),
    "batch": ("batch", lambda cell: cell.shape.batch),
    "hidden_size": ("hidden units", lambda cell: cell.shape.hidden_size),
    "num_layers": ("layers", lambda cell: cell.shape.num_layers),
}


def ratios(runs: Sequence[Run]) -> Any | None:
    """For each run a bar to the best peer's ratio, red where it is below 1, and a mark for every float32 engine.

    None where ours alone was timed.
    """
    if not any(cell.ratio for run in runs for cell in run.cells):
        return None
    cells = runs[0].cells
    figure, panels = new_figure(3 + 4 * len(runs), 1.6 + 0.28 * len(cells), columns=len(runs), sharey=True)
    for run, axes in zip(runs, panels, strict=True):
        _ratio_bars(axes, run.cells)
        axes.set_title(f"threads: {run.threads}")
        axes.set_xlabel("time ÷ ours")
    panels[0].invert_yaxis()
    _legend(figure, panels)
    return figure


def _ratio_bars(axes: Any, cells: Sequence[Cell]) -> None:
    places = range(len(cells))
    for place, cell in zip(places, cells, strict=True):
        if cell.ratio is None:
            continue
        axes.barh(place, cell.ratio - 1, left=1, height=0.6, color=LOSS if cell.lost else WIN, alpha=0.35)
        axes.annotate(f"{cell.ratio:.2f}", (cell.ratio, place), (0, 6), textcoords="offset points", ha="center", size=7)
    for name in engines_of(cells):
        found = [
            (cell.ratio_to(name), place)
            for place, cell in zip(places, cells, strict=True)
            if name != OURS and name in cell.timings and cell.timings[name].precision == FLOAT32
        ]
        if found:
            axes.scatter(*zip(*found, strict=True), s=18, zorder=3, **engine_style(name))
    axes.axvline(1, color=INK, linewidth=1)
    _logarithmic(axes.xaxis)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(places, [str(cell.shape) for cell in cells])


def roofline(runs: Sequence[Run]) -> Any | None:
    """A bar a shape, percent; None where the machine's peaks could not be measured."""
    if not runs or any(cell.roofline is None for run in runs for cell in run.cells):
        return None
    cells = runs[0].cells
    figure, panels = new_figure(3 + 3 * len(runs), 1.2 + 0.22 * len(cells), columns=len(runs), sharey=True)
    for run, axes in zip(runs, panels, strict=True):
        values = [100 * cell.roofline for cell in run.cells]
        bars = axes.barh(range(len(values)), values, height=0.6, color=WIN, alpha=0.6)
        axes.bar_label(bars, fmt="%.0f", padding=2, size=7)
        axes.axvline(100, color=INK, linewidth=1)
        axes.grid(visible=False, axis="y")
        axes.set_title(f"threads: {run.threads}")
        axes.set_xlabel("percent of the roofline")
        axes.set_yticks(range(len(values)), [str(cell.shape) for cell in run.cells])
    panels[0].invert_yaxis()
    return figure


def scaling(run: Run) -> Any | None:
    """Microseconds per call along each size; None where the run has no such curves."""
    if not SIZES.keys() <= run.curves.keys():
        return None
    figure, panels = new_figure(10, 6, rows=2, columns=2)
    for (name, (words, size)), axes in zip(SIZES.items(), panels, strict=True):
        cells = run.curves[name]
        for engine in engines_of(cells):
            timed = [cell for cell in cells if engine in cell.timings]
            axes.plot(
                [size(cell) for cell in timed],
                [cell.timings[engine].median for cell in timed],
                markersize=4,
                linewidth=1.2,
                **engine_style(engine),
            )
        first, last = (str(cells[end].shape) for end in (0, -1))
        axes.set(xlabel=words, ylabel="µs per call", title=f"{first}  to  {last}")
        _logarithmic(axes.xaxis, [size(cell) for cell in cells])
        _logarithmic(axes.yaxis)
    _legend(figure, panels)
    return figure


def threads(result: Result) -> Any | None:
    """Microseconds per call along the number of threads; None where there was but one."""
    runs = [run for run in result.runs if "threads" in run.curves]
    if len(runs) < 2:
        return None
    counts = [run.threads for run in runs]
    shapes = len(runs[0].curves["threads"])
    figure, panels = new_figure(10, 3.6, columns=shapes)
    for index, axes in enumerate(panels):
        cells = [run.curves["threads"][index] for run in runs]
        for engine in cells[0].timings:
            times = [cell.timings[engine].median for cell in cells]
            axes.plot(counts, times, markersize=4, linewidth=1.2, **engine_style(engine))
        axes.set(xlabel="threads", ylabel="µs per call", title=str(cells[0].shape), ylim=(0, None))
        axes.set_xticks(counts)
    _legend(figure, panels)
    return figure


def latency(cells: Sequence[Cell]) -> Any | None:
    """How many calls take longer than so many microseconds, for shapes of one step; None where there are none."""
    single = [cell for cell in cells if cell.shape.time == 1]
    if not single:
        return None
    figure, panels = new_figure(10, 4, columns=len(single))
    for cell, axes in zip(single, panels, strict=True):
        for name, timing in cell.timings.items():
            if timing.precision == FLOAT32:
                slower = [100 - percent for percent in PERCENTS[:-1]]
                axes.plot(timing.distribution[:-1], slower, markersize=3, linewidth=1.2, **engine_style(name))
        _logarithmic(axes.xaxis)
        axes.set_yscale("log")
        axes.set_yticks([50, 10, 1, 0.1, 0.01], ["50 (p50)", "10", "1 (p99)", "0.1 (p99.9)", "0.01"])
        axes.set(xlabel="µs", ylabel="percent of calls that take longer", title=str(cell.shape))
    _legend(figure, panels)
    return figure


def starts(found: Mapping[str, Start]) -> Any:
    """Milliseconds to the first output, and mebibytes at the most."""
    figure, panels = new_figure(10, 1 + 0.35 * len(found), columns=2, sharey=True)
    values = [start.milliseconds for start in found.values()], [start.mebibytes for start in found.values()]
    for axes, numbers, words in zip(panels, values, ("ms to the first output", "MiB resident"), strict=True):
        bars = axes.barh(list(found), numbers, height=0.6, color=[engine_style(name)["color"] for name in found])
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(words)
    panels[0].invert_yaxis()
    return figure


def _logarithmic(axis: Any, ticks: Sequence[int] | None = None) -> None:
    """A logarithmic axis whose ticks are plain numbers: ``ticks``, or 1, 2 and 5 of every decade."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, panels: Sequence[Any]) -> None:
    """One for all panels, below them."""
    handles: dict[str, Any] = {}
    for axes in panels:
        found, labels = axes.get_legend_handles_labels()
        handles |= zip(labels, found, strict=True)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=max(1, len(handles)), fontsize=8)
