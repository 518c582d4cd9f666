"""``lstm-fast verify``: does the engine, here, compute what the file means?"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._shared import (
    CommandError,
    Result,
    add_engine_options,
    add_source_options,
    load_model,
    new_parser,
    positive_float,
    run_batch_first,
    source_arguments,
)

if TYPE_CHECKING:
    import numpy as np

    from ..limits import Limits
    from ..model import Model
    from ..spec import ModelSpec

_BATCH, _TIME = 3, 17
#: Recorded outputs are rounded to float32.
_RECORDED_PRECISION = 2.0**-23


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser = new_parser(
        commands,
        "verify",
        "check the engine against the float64 reference",
        "Run a model file on deterministic inputs and compare with the float64 reference, and with the output recorded"
        " in a native file. With --against, compare with the weights of the file it was imported from.",
    )
    parser.add_argument("file", metavar="FILE", help="any model file that can be loaded")
    parser.add_argument("--against", metavar="SRC", help="the source file; options on reading then apply to SRC")
    parser.add_argument(
        "--tol",
        type=positive_float,
        default=1e-5,
        metavar="X",
        help="largest |y - expected| / max(1, |expected|) that passes (default: %(default)s)",
    )
    add_source_options(parser)
    add_engine_options(parser)
    return parser


@dataclass(frozen=True)
class _Check:
    name: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


def run(args: argparse.Namespace) -> Result:
    from ..importers import load_spec

    source = source_arguments(args)
    limits = source["limits"]
    model = load_model(args.file, args, {"limits": limits} if args.against else source)
    checks = _check_recorded(model, args.file, limits, args.tol)
    checks.append(_check_reference("reference", model, model.spec, args.tol))
    if args.against:
        checks.append(_check_reference("against", model, load_spec(args.against, **source), args.tol))
    failed = [check.name for check in checks if not check.passed]
    facts = {
        "file": args.file,
        "against": args.against,
        "dtype": str(model.dtype),
        "backend": model.backend,
        "isa": model.isa,
        "num_threads": model.num_threads,
        "checks": [_facts(check) for check in checks],
    }
    return Result(1 if failed else 0, facts, _text(model, checks, failed))


def _check_recorded(model: Model, path: str, limits: Limits, tolerance: float) -> list[_Check]:
    """The check in a native file; none for other files."""
    import numpy as np

    from ..check import difference
    from ..fileformat import is_lstmf, read_check

    data = Path(path).read_bytes()
    if not is_lstmf(data, limits):
        return []
    recorded = read_check(data, limits)
    y = run_batch_first(model, recorded.x, recorded.lengths)
    with np.errstate(over="ignore"):
        found = difference(y.astype(np.float32), recorded.y)
    return [_Check("recorded", found, max(tolerance, _RECORDED_PRECISION))]


def _check_reference(name: str, model: Model, spec: ModelSpec, tolerance: float) -> _Check:
    """The engine's output against the float64 reference's for ``spec``, on an input made for both."""
    from ..check import difference, expected_output, probe

    x, lengths = probe(model.spec, _BATCH, _TIME, "verify")
    _require_same_input(model.spec, spec)
    expected = _in_dtype(expected_output(spec, x, lengths), model)
    return _Check(name, difference(run_batch_first(model, x, lengths), expected), tolerance)


def _require_same_input(ours: ModelSpec, theirs: ModelSpec) -> None:
    def taken(spec: ModelSpec) -> str:
        return f"{spec.input_size} features" if spec.vocabulary is None else f"ids below {spec.vocabulary}"

    if taken(ours) != taken(theirs):
        raise CommandError(
            f"--against: the two models take different inputs: {taken(ours)} and {taken(theirs)}; is it the right"
            " source, and the right --module?"
        )


def _in_dtype(expected: np.ndarray, model: Model) -> np.ndarray:
    """What overflows in the model's precision is infinite there, and rightly so."""
    import numpy as np

    with np.errstate(over="ignore"):
        rounded = expected.astype(model.dtype)
    return np.where(np.isinf(rounded), rounded, expected)


def _facts(check: _Check) -> dict[str, Any]:
    """JSON has no infinity: a difference that is no number is null."""
    facts = asdict(check) | {"passed": check.passed}
    return facts if math.isfinite(check.difference) else facts | {"difference": None}


_MEANING = {
    "recorded": "output recorded in the file",
    "reference": "float64 reference, same weights",
    "against": "float64 reference, the source's weights",
}


def _text(model: Model, checks: list[_Check], failed: list[str]) -> str:
    from ..summary import table

    rows = [
        [_MEANING[c.name], f"{c.difference:.2e}", f"{c.tolerance:.2e}", "ok" if c.passed else "FAILED"] for c in checks
    ]
    lines = [
        table(["Engine against", "Difference", "Tolerance", "Result"], rows, right={1, 2}),
        "",
        f"{model.dtype}, {model.backend}, {model.isa}, {model.num_threads} thread(s)",
    ]
    if failed == ["against"]:
        lines.append("The file does not hold the source's model: import it again, or see whether SRC is the right one.")
    elif failed:
        lines.append(
            "The engine does not compute what the file means"
            + (", or float32 is too coarse for its weights: try --dtype float64" if model.dtype == "float32" else "")
            + "; try --backend and --isa, and report what fails."
        )
    return "\n".join(lines)
