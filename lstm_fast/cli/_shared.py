"""What several commands need: their common options, arrays in and out, and the form of a result."""

from __future__ import annotations

import argparse
import importlib.util
import io
import math
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
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
    group.add_argument(
        "--limit",
        dest="limits",
        action="append",
        default=[],
        type=_limit,
        metavar="NAME=N",
        help="raise a safety limit for a file you trust, such as entries=20000; may be repeated",
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what runs the model."""
    group = parser.add_argument_group("running it")
    group.add_argument("--dtype", choices=("float32", "float64"), help="precision of the arithmetic (default: float32)")
    group.add_argument("--backend", type=backend_name, help="packed or blas (default: packed; or LSTM_FAST_BACKEND)")
    group.add_argument(
        "--isa", type=isa_name, help="force an instruction set, such as avx2 (default: the best; or LSTM_FAST_ISA)"
    )
    group.add_argument(
        "--num-threads", type=threads, metavar="N", help="threads, or auto (default: LSTM_FAST_NUM_THREADS, or 1)"
    )


def add_output_options(parser: argparse.ArgumentParser, metavar: str) -> None:
    parser.add_argument(
        "-o", "--output", required=True, metavar=metavar, help="file to write, or - for standard output"
    )
    parser.add_argument("--force", action="store_true", help="replace the output file if it exists")


def source_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The options of :func:`add_source_options` as load's arguments."""
    from ..limits import Limits

    return {
        "module": args.module,
        "batch_first": args.batch_first,
        "config": args.config,
        "limits": Limits(**dict(args.limits)),
    }


def load_model(path: str, args: argparse.Namespace, source: dict[str, Any]) -> Model:
    """A model ready to run, by the options of :func:`add_engine_options`."""
    from .. import load

    with option_errors():
        return load(path, dtype=args.dtype, backend=args.backend, isa=args.isa, num_threads=args.num_threads, **source)


@contextmanager
def option_errors() -> Iterator[None]:
    """The package's own errors pass; another ValueError is of an environment variable that stands for an option."""
    from ..errors import LstmFastError

    try:
        yield
    except LstmFastError:
        raise
    except ValueError as error:
        raise CommandError(str(error)) from None


def shows_progress() -> bool:
    """Whether someone watches, and tqdm is there to draw the bar."""
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


def read_array(path: str) -> np.ndarray:
    """The array in a .npy file, or on standard input for ``-``; pickled objects are refused."""
    from ..errors import ModelFormatError
    from ..importers._source import read_source
    from ..limits import Limits

    name = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise CommandError(f"{name} is closed")
    try:
        data = sys.stdin.buffer.read() if path == "-" else read_source(path, Limits(file_bytes=sys.maxsize))
    except ModelFormatError as error:
        raise CommandError(f"{name}: {error}") from None
    try:
        return _parse_array(data)
    except Exception as error:  # NumPy evaluates the header as a literal, which can fail in many ways
        reason = str(error) or type(error).__name__
        raise CommandError(f"{name}: expected an array saved by numpy.save ({reason})") from None


def _parse_array(data: bytes) -> np.ndarray:
    """The array in a .npy file, as a view of its bytes, once its declared size is the one that is there."""
    import numpy as np
    from numpy.lib import format as npy

    file = io.BytesIO(data)
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 differs in the names of fields alone
        raise ValueError(f"its version is {version}, not (1, 0) or (2, 0)")
    shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    start = file.tell()
    if dtype.hasobject:
        raise ValueError("its elements are pickled objects")
    size = math.prod(shape) * dtype.itemsize
    if size != len(data) - start:
        raise ValueError(f"it declares {size} bytes of elements and holds {len(data) - start}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")


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

    if args.output != "-":
        write_atomically(args.output, data, overwrite=args.force)
        return
    try:
        with open(sys.stdout.fileno(), "wb", closefd=False) as file:  # no bytes that fail again in a later flush
            file.write(data)
    except OSError as error:
        error.filename = "standard output"
        raise


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


def threads(text: str) -> int | str:
    """argparse type: a number of threads, or "auto"."""
    from ..config import MOST_THREADS

    if text == "auto":
        return text
    count = positive_int(text)
    if count > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"expected 1 .. {MOST_THREADS} or auto, got {text}")
    return count


def backend_name(text: str) -> str:
    """argparse type: a backend, whether or not this build has it."""
    from ..config import BACKENDS

    return _one_of(BACKENDS, text)


def isa_name(text: str) -> str:
    """argparse type: an instruction set of the engine, whether or not this build and this processor have it."""
    from .._engine import isa_status

    return _one_of(isa_status(), text)


def list_of(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """argparse type: several of another type with commas between."""

    def parse(text: str) -> list[Any]:
        return [kind(word) for word in text.split(",")]

    parse.__name__ = f"list of {kind.__name__}"
    return parse


def _one_of(names: Collection[str], text: str) -> str:
    if text not in names:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, got {text!r}")
    return text


def _limit(text: str) -> tuple[str, int]:
    from ..limits import Limits

    name, _, value = text.partition("=")
    try:
        Limits(**{name: int(value)})
    except (TypeError, ValueError) as error:
        known = ", ".join(f"{limit}={value}" for limit, value in asdict(Limits()).items())
        raise argparse.ArgumentTypeError(f"expected one of {known}, got {text!r} ({error})") from None
    return name, int(value)


positive_float.__name__ = "number"
positive_int.__name__ = "whole number"
threads.__name__ = "number of threads"
