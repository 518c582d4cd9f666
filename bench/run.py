"""One process that measures with one number of threads: ``python -m bench.run OUT.json < job.json``.

The suite starts it with the number of threads set in the environment, before NumPy or any engine is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from . import machine, scaling
from .engines import every_engine
from .measure import DisagreementError, measure
from .peaks import Peaks
from .progress import progress
from .results import Run
from .shapes import Shape
from .starts import measure_starts


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    threads: int
    load: float  #: average of the machine before the suite began
    seconds: float  #: of each engine at each shape
    engines: list[str]
    shapes: list[Shape]
    curves: dict[str, list[Shape]]
    start: bool  #: cold start and memory as well

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        data = json.loads(text)
        data["shapes"] = [Shape(**shape) for shape in data["shapes"]]
        data["curves"] = {name: [Shape(**shape) for shape in shapes] for name, shapes in data["curves"].items()}
        return cls(**data)


def carry_out(job: Job) -> Run:
    """Measure everything.

    Raises:
        DisagreementError: an engine is wrong.
    """
    engines = [engine for engine in every_engine() if engine.name in job.engines]
    facts = machine.facts(engines, job.threads, job.load)
    peaks = _peaks(job.threads) if job.shapes else None
    cells = [
        measure(shape, engines, job.threads, job.seconds, peaks)
        for shape in progress(job.shapes, f"threads {job.threads}")
    ]
    few = [engine for engine in engines if engine.name in scaling.ENGINES]
    curves = {
        name: [
            measure(shape, few, job.threads, scaling.SHARE * job.seconds)
            for shape in progress(shapes, f"threads {job.threads}, {name}")
        ]
        for name, shapes in job.curves.items()
    }
    starts = measure_starts([engine.name for engine in engines]) if job.start else {}
    return Run(job.threads, facts, job.seconds, cells, curves, starts)


def _peaks(threads: int) -> Peaks | None:
    """The machine's peaks, or None, said aloud, where there is no compiler to measure them with."""
    try:
        return Peaks(threads)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"bench: the machine's peaks cannot be measured, so there is no roofline: {error}", file=sys.stderr)
        return None


def main(out: str) -> int:
    try:
        run = carry_out(Job.from_json(sys.stdin.read()))
    except DisagreementError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    Path(out).write_text(json.dumps(run.as_json(), allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
