"""One run: which engines and shapes, machine facts first, then every shape, then table, JSON and picture."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import chart, machine, report
from .cells import TOLERANCE, Cell, DisagreementError, geometric_mean, measure
from .engines import OURS, OURS_BLAS, Engine, every_engine
from .peaks import Peaks
from .shapes import SHAPES, Shape, read_shapes

RESULTS = Path(__file__).with_name("results")


class UsageError(Exception):
    """What was asked for is not there."""


def run(options: argparse.Namespace) -> int:
    """What ``python -m bench`` does once threads are pinned; the exit code.

    Raises:
        UsageError: no such shapes or engines.
    """
    shapes = _shapes(options.shapes or SHAPES, options.match)
    engines = _engines(list(report.REQUIRED) if options.check else options.engines and options.engines.split(","))
    facts = machine.facts(engines, options.threads)
    print(machine.facts_text(facts), flush=True)
    peaks = _peaks(options.threads)
    floors = [None if peaks is None else peaks.floor(shape) for shape in shapes]
    cells = []
    for index, (shape, floor) in enumerate(zip(shapes, floors, strict=True), 1):
        print(f"[{index}/{len(shapes)}] {shape}", file=sys.stderr, flush=True)
        try:
            cells.append(replace(measure(shape, engines, options.threads, options.seconds), floor=floor))
        except DisagreementError as error:
            print(f"bench: error: {error}", file=sys.stderr)
            return 1
    print(f"every engine     within {TOLERANCE:.0e} of the float64 reference at every shape\n")
    parts = [report.times_table(cells), report.latency_table(cells), report.verdict(cells), machine.caution(facts)]
    print("\n\n".join(filter(None, parts)), end="\n\n")
    result = {
        "machine": facts,
        "seconds": options.seconds,
        "tolerance": TOLERANCE,
        "peaks": None if peaks is None else peaks.as_json(),
        "geometric_mean": geometric_mean(cells),
        "cells": [cell.as_json() for cell in cells],
    }
    _save(options.json or _default_file(options.threads), result, cells)
    return _check(cells) if options.check else 0


def _shapes(file: Path, text: str) -> list[Shape]:
    try:
        shapes = [shape for shape in read_shapes(file) if text in str(shape)]
    except (OSError, ValueError) as error:
        raise UsageError(f"--shapes: {error}") from error
    if not shapes:
        raise UsageError(f"{file}: no shape" + (f" with {text!r} in its name" if text else ""))
    return shapes


def _engines(names: Sequence[str] | None) -> list[Engine]:
    """Ours, and those named; all that are installed where none are."""
    every = {engine.name: engine for engine in every_engine()}
    if names is None:
        absent = [name for name, engine in every.items() if not engine.available()]
        if absent:
            print(f"Not installed and left out: {', '.join(absent)}; pip install -e '.[bench]'\n")
        return [engine for name, engine in every.items() if name not in absent]
    for name in names:
        if name not in every:
            raise UsageError(f"engine {name!r}: expected some of {', '.join(every)}")
        if not every[name].available():
            raise UsageError(f"engine {name} is not installed: pip install -e '.[bench]'")
    return [engine for name, engine in every.items() if name == OURS or name in names]


def _peaks(threads: int) -> Peaks | None:
    """The machine's peaks, or None, said aloud, where there is no compiler to measure them with."""
    try:
        peaks = Peaks(threads)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"peaks            not measured, so no roofline: {error}")
        return None
    speeds = ", ".join(f"{peaks.bandwidth(size) / 1e9:.0f} GB/s in {size >> 10} KiB" for size in (2**15, 2**20, 2**24))
    print(f"peaks            {peaks.flops / 1e9:.0f} GFLOP/s, {speeds}", flush=True)
    return peaks


def _default_file(threads: int) -> Path:
    return RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-threads-{threads}.json"


def _save(file: Path, result: dict[str, Any], cells: Sequence[Cell]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {file}")
    if all(name in (OURS, OURS_BLAS) for name in cells[0].times):
        return
    facts = result["machine"]
    title = f"{facts['cpu']}, {facts['isa']}, threads: {facts['threads']}"
    try:
        for suffix in (".png", ".svg"):
            chart.draw(cells, title, file.with_suffix(suffix))
            print(f"written: {file.with_suffix(suffix)}")
    except ImportError:
        print("no picture: matplotlib is not installed")


def _check(cells: Sequence[Cell]) -> int:
    text, passed = report.check_table(cells)
    print(f"\n{text}\n\n{'PASS' if passed else 'FAIL'}")
    return 0 if passed else 1
