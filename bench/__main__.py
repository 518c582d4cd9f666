"""``python -m bench``: the options. Threads are pinned in the environment before NumPy or any engine is imported."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

#: What the libraries beneath the engines read once, when they are loaded.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
SECONDS, QUICK_SECONDS = 2.0, 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done, and --check passed where asked for. 1: an engine is wrong or --check failed. 2: wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.check and options.threads != 1:
        parser.error("--check is a promise about one thread; leave --threads out")
    if options.check and options.engines:
        parser.error("--check chooses its engines itself; leave --engines out")
    if options.threads < 1 or not options.seconds > 0:
        parser.error("--threads and --seconds: expected at least 1 thread and more than 0 seconds")
    for name in THREAD_VARIABLES:
        os.environ[name] = str(options.threads)
    os.environ["KERAS_BACKEND"] = "torch"

    from .run import UsageError, run

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
    parser.add_argument("--engines", metavar="A,B", help="engines beside ours (all that are installed)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of every engine (1)")
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="result; the picture goes beside it (bench/results/)")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless ours keeps what is promised at every shape"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
