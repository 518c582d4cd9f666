"""What several commands need: their common options, arrays in and out, and the form of a result."""

from __future__ import annotations

import argparse
import io
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ..model import Model
    from ..spec import ModelSpec


class CommandError(Exception):
    """A command cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class Result:
    """What a command found: an exit code, facts for ``--json``, and text for people."""

    code: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    text: str = ""


def new_parser(commands: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    """A subcommand's parser, with ``--json``."""
    parser = commands.add_parser(name, help=summary, description=description)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how to read a model file of another system."""
    group = parser.add_argument_group("reading the source")
    group.add_argument(
        "--module",
        metavar="CHAIN",
        help="what to take out of a PyTorch checkpoint, such as encoder.lstm or 'embed, lstm:last, head:softmax'",
    )
    layout = group.add_mutually_exclusive_group()
    layout.add_argument(
        "--batch-first",
        dest="batch_first",
        action="store_const",
        const=True,
        help="arrays are (batch, time, features): the default",
    )
    layout.add_argument(
        "--time-first",
        dest="batch_first",
        action="store_const",
        const=False,
        help="arrays are (time, batch, features), as PyTorch's batch_first=False",
    )
    group.add_argument("--config", metavar="JSON", help="the configuration that belongs to a weights-only .h5 file")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what runs the model."""
    group = parser.add_argument_group("running it")
    group.add_argument("--dtype", choices=("float32", "float64"), help="precision of the arithmetic (default: float32)")
    group.add_argument("--backend", help="packed or blas (default: the faster one here; or LSTM_FAST_BACKEND)")
    group.add_argument("--isa", help="force an instruction set, such as avx2 (default: the best; or LSTM_FAST_ISA)")
    group.add_argument(
        "--num-threads", type=_threads, metavar="N", help="threads, or auto (default: LSTM_FAST_NUM_THREADS, or 1)"
    )


def add_output_options(parser: argparse.ArgumentParser, metavar: str) -> None:
    parser.add_argument(
        "-o", "--output", required=True, metavar=metavar, help="file to write, or - for standard output"
    )
    parser.add_argument("--force", action="store_true", help="replace the output file if it exists")


def source_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The options of :func:`add_source_options` as load's arguments."""
    return {"module": args.module, "batch_first": args.batch_first, "config": args.config}


def load_model(path: str, args: argparse.Namespace, source: dict[str, Any]) -> Model:
    """A model ready to run, by the options of :func:`add_engine_options`."""
    from .. import load
    from ..errors import LstmFastError

    try:
        return load(path, dtype=args.dtype, backend=args.backend, isa=args.isa, num_threads=args.num_threads, **source)
    except LstmFastError:
        raise
    except ValueError as error:  # an option, or an environment variable that stands for one
        raise CommandError(str(error)) from None


def read_array(path: str) -> np.ndarray:
    """The array in a .npy file, or on standard input for ``-``; pickled objects are refused."""
    from tokenize import TokenError

    from numpy.lib import format as npy

    try:
        if path == "-":
            return npy.read_array(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
        with Path(path).open("rb") as file:
            return npy.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OverflowError, TypeError, TokenError) as error:
        name = "standard input" if path == "-" else path
        raise CommandError(f"{name}: expected an array saved by numpy.save ({error})") from None


def refuse_output(args: argparse.Namespace) -> None:
    """Raise now what writing to ``--output`` would raise later."""
    from .._atomic import check_target

    if args.output != "-":
        check_target(args.output, overwrite=args.force)
    elif sys.stdout.isatty():
        raise CommandError("standard output is a terminal, and the output is binary; redirect it or name a file")


def write_output(args: argparse.Namespace, data: bytes) -> None:
    """Write ``data`` where ``--output`` says: whole, or not at all."""
    from .._atomic import write_atomically

    if args.output == "-":
        sys.stdout.buffer.write(data)
    else:
        write_atomically(args.output, data, overwrite=args.force)


def run_batch_first(model: Model, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``y`` for ``x``, both with the batch first whatever layout the model has."""
    if model.spec.batch_first:
        return model.forward_sequence(x, lengths=lengths)[0]
    y = model.forward_sequence(x.swapaxes(0, 1), lengths=lengths)[0]
    return y.swapaxes(0, 1) if model.spec.returns_sequences else y


def layer_facts(spec: ModelSpec) -> list[dict[str, Any]]:
    """Each layer's name, type, sizes and options, for ``--json``."""
    from ..summary import has_masks, layer_type, options, parameters

    return [
        {
            "name": layer.name,
            "type": layer_type(layer),
            "output_size": getattr(layer, "output_size", None),
            "parameters": parameters(layer),
            "options": options(layer, masks=has_masks(spec)),
        }
        for layer in spec.layers
    ]


def escape(text: str) -> str:
    """Text that may come from a file, safe on a terminal; line breaks stay."""
    from ..summary import printable

    return "\n".join(printable(line) for line in text.split("\n"))


def positive_float(text: str) -> float:
    """argparse type: a finite number above 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def positive_int(text: str) -> int:
    """argparse type: a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return value


def _threads(text: str) -> int | str:
    return text if text == "auto" else positive_int(text)


positive_float.__name__ = "number"
positive_int.__name__ = "whole number"
_threads.__name__ = "number of threads"
