"""``python -m bench``: the options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

SECONDS, QUICK_SECONDS = 1.0, 0.05
LONGEST = 3600


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done, and --check passed where asked for. 1: an engine is wrong or --check failed. 2: wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.check:
        if options.engines or options.threads or options.sections:
            parser.error("--check chooses engines, threads and sections itself; leave --engines and the like out")
        options.threads, options.sections = [1], ["shapes"]
    if not 0 < options.seconds <= LONGEST:
        parser.error(f"--seconds: expected more than 0 and at most {LONGEST}")
    os.environ["KERAS_BACKEND"] = "torch"

    from .suite import UsageError, run

    try:
        return run(options)
    except UsageError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Time lstm_fast beside other engines, in turn in one process; see docs/benchmarks.md.",
    )
    parser.add_argument("--shapes", type=Path, metavar="FILE", help="shapes to time (bench/shapes.txt)")
    parser.add_argument("--match", default="", metavar="TEXT", help="only shapes with TEXT in their names")
    parser.add_argument("--engines", type=_words, metavar="A,B", help="engines beside ours (all that are installed)")
    parser.add_argument("--sections", type=_words, metavar="A,B", help="some of shapes, scaling, start (all of them)")
    parser.add_argument(
        "--threads", type=_threads, metavar="N,M", help="threads of every engine: one run for each (1, and all CPUs)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help=f"timing of each engine at each shape ({SECONDS:g})"
    )
    length.add_argument(
        "--quick",
        action="store_const",
        const=QUICK_SECONDS,
        dest="seconds",
        help=f"--seconds {QUICK_SECONDS:g}: shows that it works, and little more",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="result; report and picture beside (bench/results/)")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless ours keeps what is promised at every shape"
    )
    return parser


def _words(text: str) -> list[str]:
    return text.split(",")


def _threads(text: str) -> list[int]:
    counts = sorted({int(word) for word in _words(text)})
    if counts[0] < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 thread, got {counts[0]}")
    return counts


_threads.__name__ = "numbers of threads"

if __name__ == "__main__":
    sys.exit(main())
