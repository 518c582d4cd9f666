"""The whole: one process for each number of threads, then text for the terminal, and files."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lstm_fast.config import MOST_THREADS, choose_threads

from . import page, report, scaling
from .engines import OURS, every_engine
from .machine import THREAD_VARIABLES
from .results import Result, Run
from .run import Job
from .shapes import SHAPES, Shape, read_shapes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results")
SECTIONS = ("shapes", "scaling", "start")
#: Idle threads of OpenBLAS otherwise run for a second: 2^22 is some 1 ms of clocks, and turns are 10 ms.
QUIET = {"OPENBLAS_THREAD_TIMEOUT": "22"}


class UsageError(Exception):
    """What was asked for is not there."""


def run(options: argparse.Namespace) -> int:
    """What ``python -m bench`` does; the exit code.

    Raises:
        UsageError: no such shapes, engines or sections, or a result that could not be written.
    """
    runs: list[Run] = []
    wanted, file = jobs(options), _file(options.json)
    for job in wanted:
        found = _carried_out(job)
        if found is None:
            return 1
        runs.append(found)
        print(report.run_text(found), end="\n\n", flush=True)
        Result(runs).write(file)  # what is measured by now, should the next process fail
    result = Result(runs)
    for table in (report.threads_table(result.full), report.starts_table(result.starts)):
        if table.rows:
            print(table, end="\n\n")
    _save_report(file, result)
    if not options.check:
        return 0
    text, passed = report.check_table(runs[0].cells)
    print(f"\n{text}\n\n{'PASS' if passed else 'FAIL'}")
    return 0 if passed else 1


def jobs(options: argparse.Namespace) -> list[Job]:
    """One for each number of threads, fewest first.

    Raises:
        UsageError: no such shapes, engines or sections.
    """
    sections = set(options.sections or SECTIONS)
    if not sections <= set(SECTIONS):
        raise UsageError(f"--sections: expected some of {', '.join(SECTIONS)}, got {','.join(options.sections)}")
    shapes = _shapes(options.shapes or SHAPES, options.match)
    engines = _engines(list(report.REQUIRED) if options.check else options.engines)
    wanted = options.threads or sorted({1, choose_threads("auto")})
    if wanted[-1] > MOST_THREADS:
        raise UsageError(f"--threads: expected at most {MOST_THREADS}, got {wanted[-1]}")
    counts = scaling.thread_counts(wanted) if "scaling" in sections else wanted
    found: list[Job] = []
    for threads in counts:
        curves = {"threads": scaling.THREADS} if len(counts) > 1 and "scaling" in sections else {}
        whole = threads in wanted
        if whole and "scaling" in sections:
            curves = scaling.CURVES | curves
        found.append(
            Job(
                threads,
                os.getloadavg()[0],
                options.seconds,
                engines,
                shapes if whole and "shapes" in sections else [],
                curves,
                start="start" in sections and not found,
            )
        )
    return found


def _shapes(file: Path, text: str) -> list[Shape]:
    try:
        shapes = [shape for shape in read_shapes(file) if text in str(shape)]
    except (OSError, ValueError) as error:
        raise UsageError(f"--shapes: {error}") from error
    if not shapes:
        raise UsageError(f"{file}: no shape" + (f" with {text!r} in its name" if text else ""))
    return shapes


def _engines(names: Sequence[str] | None) -> list[str]:
    """Ours, and those named; all that are installed where none are."""
    every = {engine.name: engine.available() for engine in every_engine()}
    if names is None:
        absent = [name for name, available in every.items() if not available]
        if absent:
            print(f"Not installed and left out: {', '.join(absent)}; pip install -e '.[bench]'\n", flush=True)
        return [name for name in every if name not in absent]
    for name in names:
        if name not in every:
            raise UsageError(f"engine {name!r}: expected some of {', '.join(every)}")
        if not every[name]:
            raise UsageError(f"engine {name} is not installed: pip install -e '.[bench]'")
    return [name for name in every if name == OURS or name in names]


def _carried_out(job: Job) -> Run | None:
    """The job's results from a process of its own, None where it failed and has said why."""
    threads = dict.fromkeys(THREAD_VARIABLES, str(job.threads)) | QUIET
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run.json")
        command = [sys.executable, "-m", "bench.run", str(out)]
        done = subprocess.run(command, input=job.to_json(), text=True, cwd=ROOT, env=os.environ | threads, check=False)
        return None if done.returncode else Run.from_json(json.loads(out.read_text()))


def _file(asked: Path | None) -> Path:
    """Where the result goes, found before anything is timed to be a place for one; the report goes beside it."""
    file = asked or RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    if file.suffix == ".html":
        raise UsageError(f"--json: {file} would be overwritten by the report, which has that name with .html")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UsageError(f"--json: nothing can be written beside {file}: {error}") from error
    if file.is_dir():
        raise UsageError(f"--json: {file} is a folder")
    return file


def _save_report(file: Path, result: Result) -> None:
    print(f"written: {file}")
    try:
        text = page.page(result)
    except ImportError:
        print("no report: matplotlib is not installed")
        return
    file.with_suffix(".html").write_text(text)
    print(f"written: {file.with_suffix('.html')}")
