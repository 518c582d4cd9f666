"""``lstm-fast predict``: run a model file on an array file."""

from __future__ import annotations

import argparse
import io
import time
from typing import Any

from ._shared import (
    Result,
    add_engine_options,
    add_output_options,
    add_source_options,
    load_model,
    new_parser,
    positive_int,
    read_array,
    refuse_output,
    shows_progress,
    source_arguments,
    write_output,
)

#: Rows per call. Results do not depend on it; memory, the progress bar and the answer to Ctrl-C do.
_BATCH_SIZE = 256


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser = new_parser(
        commands,
        "predict",
        "run a model on a .npy array",
        "Run a model on an array saved by numpy.save and write the output likewise.",
    )
    parser.add_argument("file", metavar="FILE", help="any model file that can be loaded")
    parser.add_argument("x", metavar="X.npy", help="the input, or - for standard input")
    add_output_options(parser, "Y.npy")
    parser.add_argument("--lengths", metavar="L.npy", help="valid steps of each row: integers of shape (batch,)")
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=_BATCH_SIZE,
        metavar="N",
        help="rows per call; changes memory, never the result (default: %(default)s)",
    )
    add_source_options(parser)
    add_engine_options(parser)
    return parser


def run(args: argparse.Namespace) -> Result:
    from numpy.lib import format as npy

    refuse_output(args)
    model = load_model(args.file, args, source_arguments(args))
    x = read_array(args.x)
    lengths = read_array(args.lengths) if args.lengths else None
    started = time.perf_counter()
    y = model.predict(x, args.batch_size, shows_progress(), lengths=lengths)
    seconds = time.perf_counter() - started
    buffer = io.BytesIO()
    npy.write_array(buffer, y, allow_pickle=False)
    write_output(args, buffer.getvalue())
    facts = {
        "output": args.output,
        "input_shape": list(x.shape),
        "output_shape": list(y.shape),
        "dtype": str(y.dtype),
        "backend": model.backend,
        "isa": model.isa,
        "num_threads": model.num_threads,
        "seconds": seconds,
    }
    return Result(0, facts, f"{x.shape} -> {y.shape} {y.dtype} in {seconds:.3g} s, written to {args.output}")
