"""Figures as SVG text: letters stay letters, and colours can follow the page they lie in. Needs matplotlib."""

from __future__ import annotations

import io
import re
from typing import Any

INK, FAINT = "#1c1c1c", "#d9d9d9"
WIN, LOSS = "#2f7ed8", "#d64545"
#: Colour and mark of each engine, the same in every picture, to be told apart on light and on dark.
ENGINES = {
    "ours": ("#2f7ed8", "o"),
    "ours-blas": ("#74aee8", "o"),
    "ours-avx2": ("#1f4e8c", "o"),
    "torch": ("#e8743b", "s"),
    "onnxruntime": ("#2a9d63", "D"),
    "openvino": ("#9a6bd1", "^"),
    "ncnn": ("#b8860b", "v"),
    "keras": ("#d64545", "P"),
    "numpy": ("#8c8c8c", "X"),
}
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": FAINT,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "lstm_fast",  # the same picture has the same text
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, list[Any]]:
    """A figure of so many inches and its axes, row by row; ``options`` go to ``Figure.subplots``."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(_SETTINGS)  # read by every later step up to saving
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def standalone(figure: Any) -> str:
    """A file of its own, dark on white."""
    return _saved(figure, facecolor="white")


def inline(figure: Any, name: str) -> str:
    """An element for an HTML page, whose text colour and ``--faint`` it takes; ``name`` keeps its ids apart."""
    text = _saved(figure, transparent=True)
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    head, end, body = text.partition(">")
    return re.sub(r' (width|height)="[^"]*"', "", head) + end + body  # the page's width decides


def engine_style(name: str) -> dict[str, str]:
    """Colour, mark and label of an engine's points."""
    colour, marker = ENGINES.get(name, (INK, "*"))
    return {"color": colour, "marker": marker, "label": name}


def _saved(figure: Any, **options: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=_NO_METADATA, **options)
    return re.sub(r"[ \t]+$", "", file.getvalue(), flags=re.MULTILINE)
