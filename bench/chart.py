"""The picture: how many times longer the best of the others takes, shape by shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .cells import Cell
from .engines import OURS, OURS_BLAS

WIN, LOSS = "tab:blue", "tab:red"
MARKERS = "osD^vPX*"


def draw(cells: Sequence[Cell], title: str, file: Path) -> None:
    """A bar to the best peer's ratio, red where it is below 1, and a mark for every engine; needs matplotlib.

    Raises:
        ImportError: no matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(10, 1.6 + 0.3 * len(cells)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(cells))
    ratios = [cell.ratio or 1 for cell in cells]
    colours = [WIN if ratio >= 1 else LOSS for ratio in ratios]
    axes.barh(places, [ratio - 1 for ratio in ratios], left=1, height=0.6, color=colours, alpha=0.35)
    for place, ratio in zip(places, ratios, strict=True):
        axes.annotate(f"{ratio:.2f}", (ratio, place), (0, 7), textcoords="offset points", ha="center", fontsize=7)
    others = [name for name in cells[0].times if name != OURS]
    for name, marker in zip(others, MARKERS, strict=False):
        hollow = {"facecolors": "none", "edgecolors": "0.4"} if name == OURS_BLAS else {}
        axes.scatter(
            [cell.ratio_to(name) for cell in cells], places, s=22, marker=marker, label=name, zorder=3, **hollow
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(places, [str(cell.shape) for cell in cells])
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel("time ÷ ours, median; bar: the best peer, red where it beats ours")
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=len(others))
    figure.savefig(file, dpi=150)
