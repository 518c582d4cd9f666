"""README's table and chart, made from a recorded result: ``python -m bench.readme RESULT.json``.

The result, but for its curves, is kept as docs/benchmarks.json, and the chart as docs/benchmarks.svg.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import charts, machine, report, svg
from .cells import Cell
from .engines import OURS
from .page import threads
from .results import Result, Run

ROOT = Path(__file__).resolve().parent.parent
README, RESULT, PICTURE = ROOT / "README.md", ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "benchmarks.svg"
BEGIN, END = "<!-- benchmark: made by python -m bench.readme -->", "<!-- end of benchmark -->"
#: The engines that have a column.
PEERS = ("torch", "onnxruntime", "openvino")
LEGEND = """\
B sequences of T steps, I features (H of them, where it is not said) and H units, projected to P outputs; x2 layers; bi:
both ways. They start at zero, or from a given `state`, as a stream goes on. The best peer may have no column: ncnn,
Keras, a NumPy loop."""


def section(result: Result) -> str:
    """Verdict, picture and table in Markdown."""
    runs = result.full
    facts = runs[0].machine
    versions = ", ".join(facts["versions"][name] for name in PEERS if name in facts["versions"])
    sentences = [f"{facts['cpu']}, {facts['isa']} kernels, beside {versions}.", *map(_verdict, runs)]
    text = " ".join(filter(None, [*sentences, machine.caution(facts)]))
    picture = f"![Time of every engine, divided by ours, shape by shape]({PICTURE.relative_to(ROOT)})"
    return "\n\n".join([text, picture, _table(runs), LEGEND])


def _verdict(run: Run) -> str:
    if run.geometric_mean is None:
        return ""
    lost = sum(cell.lost for cell in run.cells)
    where = f"slower than the best peer at {lost} of {len(run.cells)} shapes" if lost else "slower at none"
    return f"On {threads(run)}: geometric mean of best peer ÷ ours {run.geometric_mean:.2f}, {where}."


def _table(runs: Sequence[Run]) -> str:
    """A row a shape; for every run the times, and how the best peer stands to ours."""
    headers = ["µs per call"]
    for run in runs:
        headers += [f"ours, {threads(run)}", *PEERS, "best peer ÷ ours"]
    rows = [
        [f"`{cells[0].shape}`", *(word for cell in cells for word in _columns(cell))]
        for cells in zip(*(run.cells for run in runs), strict=True)
    ]
    rule = ["---", *["---:"] * (len(headers) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headers, rule, *rows))


def _columns(cell: Cell) -> list[str]:
    names = (OURS, *PEERS)
    times = [report.microseconds(cell.timings[name].median) if name in cell.timings else "-" for name in names]
    ratio = "-" if cell.ratio is None else f"{cell.ratio:.2f}"
    return [*times, f"**{ratio}**" if not cell.lost else f"{ratio}, slower"]


def with_section(text: str, body: str) -> str:
    """``text`` with ``body`` between the two markers.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"expected one part between {BEGIN} and {END}")
    return pattern.sub(lambda _: f"{BEGIN}\n\n{body}\n\n{END}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__.partition("\n")[0])
    parser.add_argument("result", type=Path, metavar="RESULT.json", help="what python -m bench has written")
    file = parser.parse_args(arguments).result
    try:
        result = Result.read(file)
    except (OSError, ValueError, LookupError, TypeError) as error:
        parser.error(f"{file} is no result of python -m bench: {error!r}")
    picture = svg.standalone(charts.ratios(result.full))
    text = with_section(README.read_text(), section(result))
    Result([replace(run, curves={}) for run in result.full]).write(RESULT)
    PICTURE.write_text(picture)
    README.write_text(text)
    print(f"written: {RESULT}, {PICTURE}, {README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
