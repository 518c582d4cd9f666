"""What a benchmark found, as it lies in its JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .cells import Cell, geometric_mean


@dataclass(frozen=True)
class Start:
    """Processes that load a model file and run it once: the median of each number."""

    milliseconds: float  #: from the start of the process to the first output
    mebibytes: float  #: the most that was resident until then
    more_milliseconds: float  #: than the base took in the same round
    more_mebibytes: float


@dataclass(frozen=True)
class Run:
    """Everything that was measured with one number of threads."""

    threads: int
    machine: dict[str, Any]
    seconds: float  #: timing of each engine at each shape
    cells: list[Cell] = field(default_factory=list)
    curves: dict[str, list[Cell]] = field(default_factory=dict)  #: what grows, and the shapes along it
    starts: dict[str, Start] = field(default_factory=dict)  #: by engine; NumPy alone is the base

    @property
    def geometric_mean(self) -> float | None:
        """Of best peer ÷ ours."""
        return geometric_mean(cell.ratio for cell in self.cells)

    def as_json(self) -> dict[str, Any]:
        return {
            "threads": self.threads,
            "seconds": self.seconds,
            "machine": self.machine,
            "geometric_mean": self.geometric_mean,
            "cells": [cell.as_json() for cell in self.cells],
            "curves": {name: [cell.as_json() for cell in cells] for name, cells in self.curves.items()},
            "starts": {name: asdict(start) for name, start in self.starts.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        return cls(
            data["threads"],
            data["machine"],
            data["seconds"],
            list(map(Cell.from_json, data["cells"])),
            {name: list(map(Cell.from_json, cells)) for name, cells in data["curves"].items()},
            {name: Start(**start) for name, start in data["starts"].items()},
        )


@dataclass(frozen=True)
class Result:
    """The runs, fewest threads first."""

    runs: list[Run]

    @property
    def full(self) -> list[Run]:
        """Runs over all shapes; others have but a point of a curve."""
        return [run for run in self.runs if run.cells]

    @property
    def starts(self) -> dict[str, Start]:
        return next((run.starts for run in self.runs if run.starts), {})

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"runs": [run.as_json() for run in self.runs]}, separators=(",", ":"), allow_nan=False)
        file.write_text(text.replace('{"name"', '\n{"name"') + "\n")

    @classmethod
    def read(cls, file: Path) -> Result:
        return cls([Run.from_json(run) for run in json.loads(file.read_text())["runs"]])
