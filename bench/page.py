"""The report as one HTML file that needs nothing else: pictures inline, light or dark as the reader has it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from . import charts, machine, report
from .results import Result, Run
from .svg import inline

TEMPLATE = Path(__file__).with_name("page.html")


def page(result: Result) -> str:
    """The whole page, also well-formed XML.

    Raises:
        ImportError: no matplotlib.
    """
    sections = [
        _ratios(result.full),
        *map(_times, result.full),
        *map(_latency, result.full),
        *map(_low_precision, result.full),
        _roofline(result.full),
        *map(_scaling, result.runs),
        _section("Threads", _picture(charts.threads(result), "threads"), _table(report.threads_table(result.full))),
        _starts(result),
    ]
    return Template(TEMPLATE.read_text()).substitute(
        verdict="".join(_paragraph(f"{threads(run)}. {report.verdict(run.cells)}") for run in result.full),
        machine="".join(f"<pre>{html.escape(machine.facts_text(run.machine))}</pre>" for run in result.runs),
        sections="\n".join(sections),
    )


def threads(run: Run) -> str:
    """In words."""
    return "1 thread" if run.threads == 1 else f"{run.threads} threads"


def _ratios(runs: Sequence[Run]) -> str:
    return _section(
        "Best peer and ours",
        _picture(charts.ratios(runs), "ratios"),
        *map(_asides, runs),
        note="A bar leads to the best peer, red where it is faster than ours; a mark is an engine.",
    )


def _asides(run: Run) -> str:
    texts = list(filter(None, (report.slow_paths(run.cells), report.avx2_text(run.cells))))
    return _paragraph(" ".join([f"{threads(run)}.", *texts])) if texts else ""


def _times(run: Run) -> str:
    unable = report.unable_text(run.cells)
    return _section(
        f"Every shape, {threads(run)}",
        _table(report.times_table(run.cells)),
        f"<pre>{html.escape(unable)}</pre>" if unable else "",
        _paragraph(f"{report.peaks_text(run.cells)} {machine.caution(run.machine)}"),
    )


def _latency(run: Run) -> str:
    return _section(
        f"Latency of one step, {threads(run)}",
        _picture(charts.latency(run.cells), f"latency{run.threads}"),
        _table(report.latency_table(run.cells)),
    )


def _low_precision(run: Run) -> str:
    return _section(
        f"Lower precisions, {threads(run)}",
        _table(report.low_precision_table(run.cells)),
        note="For information: these compute something else than float32, so they are no peers."
        " Errors are to the float64 reference, |y - expected| / max(1, |expected|).",
    )


def _roofline(runs: Sequence[Run]) -> str:
    return _section(
        "Percent of the roofline",
        _picture(charts.roofline(runs), "roofline"),
        note="The least time by docs/benchmarks.md, from the machine's peaks in the same rounds ÷ the time of ours.",
    )


def _scaling(run: Run) -> str:
    return _section(f"Scaling, {threads(run)}", _picture(charts.scaling(run), f"scaling{run.threads}"))


def _starts(result: Result) -> str:
    if not result.starts:
        return ""
    return _section(
        "Cold start and memory",
        _picture(charts.starts(result.starts), "starts"),
        _table(report.starts_table(result.starts)),
        note="From the start of a process to the first output of a network loaded from the engine's own file, and the"
        " most that was resident until then. NumPy alone loads no network: it is the base.",
    )


def _section(title: str, *parts: str, note: str = "") -> str:
    """Empty where there is nothing to show."""
    content = "\n".join(filter(None, parts))
    return f"<h2>{title}</h2>\n{_paragraph(note)}{content}" if content else ""


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text.strip() else ""


def _picture(figure: Any | None, name: str) -> str:
    return "" if figure is None else inline(figure, name)


def _table(table: report.Table) -> str:
    if not table.rows:
        return ""
    head = "".join(f"<th>{html.escape(header)}</th>" for header in table.headers)
    body = "\n".join(f"<tr>{''.join(map(_data, row))}</tr>" for row in table.rows)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _data(text: str) -> str:
    mark = ' class="loss"' if text == "LOSS" else ""
    return f"<td{mark}>{html.escape(text)}</td>"
