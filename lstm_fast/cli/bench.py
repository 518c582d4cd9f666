"""``lstm-fast bench``: how fast a model runs here, and with which options it runs fastest."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from ._shared import (
    CommandError,
    Result,
    add_source_options,
    backend_name,
    isa_name,
    list_of,
    new_parser,
    option_errors,
    positive_float,
    positive_int,
    shows_progress,
    source_arguments,
    threads,
)

if TYPE_CHECKING:
    from ..model import Model
    from ..spec import ModelSpec
    from ..timing import Times

#: In an input or an output: half a GiB or more, which no timing needs.
_MOST_NUMBERS = 2**27


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser = new_parser(
        commands,
        "bench",
        "time a model, and find the options it runs fastest with",
        "Time calls of a model file on input made for the purpose, for every batch and number of steps, on every"
        " combination of the options below: in turn, so that whatever else the machine does strikes all alike.",
    )
    parser.add_argument("file", metavar="FILE", help="any model file that can be loaded")
    sizes, seconds = list_of(positive_int), 0.5
    parser.add_argument("--batch", type=sizes, default=[1], metavar="N,M", help="sequences in a call (default: 1)")
    parser.add_argument("--time", type=sizes, default=[1, 100], metavar="N,M", help="steps in a call (default: 1,100)")
    parser.add_argument(
        "--seconds", type=positive_float, default=seconds, metavar="S", help=f"timing of each row (default: {seconds})"
    )
    add_source_options(parser)
    group = parser.add_argument_group("running it")
    group.add_argument("--dtype", choices=("float32", "float64"), help="precision of the arithmetic (default: float32)")
    group.add_argument(
        "--backend", type=list_of(backend_name), metavar="A,B", help="packed, blas (default: all of this build)"
    )
    group.add_argument("--isa", type=list_of(isa_name), metavar="A,B", help="instruction sets (default: the best)")
    group.add_argument(
        "--num-threads", type=list_of(threads), default=[1, "auto"], metavar="N,M", help="threads (default: 1,auto)"
    )
    return parser


@dataclass(frozen=True)
class _Row:
    """One model at one size of input. Times are microseconds."""

    batch: int
    time: int
    backend: str
    isa: str
    num_threads: int
    median: float
    fastest: float
    p99: float
    per_step: float
    sequences_per_second: float
    calls: int

    @classmethod
    def of(cls, batch: int, time: int, model: Model, times: Times) -> _Row:
        median = times.median
        ways = model.backend, model.isa, model.num_threads
        found = times.calls[0], times.percentile(99), median / time, 1e6 * batch / median
        return cls(batch, time, *ways, median, *found, len(times.calls))


def run(args: argparse.Namespace) -> Result:
    from ..importers import load_spec

    spec = load_spec(args.file, **source_arguments(args))
    models = _models(spec, args)
    sizes: Any = list(product(args.batch, args.time))
    if shows_progress():
        from tqdm import tqdm

        sizes = tqdm(sizes, unit="size", leave=False)
    rows = [row for batch, time in sizes for row in _measure(models, batch, time, args.seconds)]
    facts = {"file": args.file, "dtype": str(models[0].dtype), "seconds": args.seconds, "rows": list(map(asdict, rows))}
    return Result(0, facts, _text(rows))


def _models(spec: ModelSpec, args: argparse.Namespace) -> list[Model]:
    """One for every combination of options, those left out that come to the same."""
    from ..config import config
    from ..model import Model

    found: dict[tuple, Model] = {}
    with option_errors():
        for backend, isa, num_threads in product(
            args.backend or config()["backends"], args.isa or [None], args.num_threads
        ):
            model = Model(spec, dtype=args.dtype, backend=backend, isa=isa, num_threads=num_threads)
            found.setdefault((model.backend, model.isa, model.num_threads), model)
    return list(found.values())


def _measure(models: list[Model], batch: int, time: int, seconds: float) -> list[_Row]:
    import numpy as np

    from ..check import probe
    from ..timing import time_in_turn

    spec = models[0].spec
    if batch * time * max(spec.input_size or 1, spec.output_size) > _MOST_NUMBERS:
        raise CommandError(f"{batch} sequences of {time} steps: expected at most {_MOST_NUMBERS:,} numbers in or out")
    x, _ = probe(spec, batch, time, "bench")
    x = x if spec.batch_first else np.ascontiguousarray(x.swapaxes(0, 1))
    if not spec.takes_ids:
        x = x.astype(models[0].dtype)
    calls = {str(i): lambda model=model: model.forward_sequence(x) for i, model in enumerate(models)}
    times = time_in_turn(calls, seconds, threads=max(model.num_threads for model in models))
    return [_Row.of(batch, time, model, times[str(i)]) for i, model in enumerate(models)]


def _text(rows: Iterable[_Row]) -> str:
    from ..summary import table

    fastest: dict[tuple[int, int], float] = {}
    for row in rows:
        size = row.batch, row.time
        fastest[size] = min(row.median, fastest.get(size, row.median))
    headers = ["Batch", "Steps", "Backend", "ISA", "Threads"]
    headers += ["Median µs", "Fastest", "p99", "Per step", "Sequences/s", "÷ best"]
    lines = [
        [
            *(str(value) for value in (row.batch, row.time, row.backend, row.isa, row.num_threads)),
            *(f"{value:,.2f}" for value in (row.median, row.fastest, row.p99, row.per_step)),
            f"{row.sequences_per_second:,.0f}",
            f"{row.median / fastest[row.batch, row.time]:.2f}",
        ]
        for row in rows
    ]
    return table(headers, lines, right={0, 1, 4, 5, 6, 7, 8, 9, 10})
