"""``lstm-fast import``: a model of another system becomes a native file."""

from __future__ import annotations

import argparse
from typing import Any

from ._shared import (
    Result,
    add_output_options,
    add_source_options,
    layer_facts,
    new_parser,
    refuse_output,
    source_arguments,
    write_output,
)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser = new_parser(
        commands,
        "import",
        "convert a model file to .lstmf",
        "Read a Keras or PyTorch file, without Keras or PyTorch, and write it as a native .lstmf file.",
    )
    parser.add_argument("source", metavar="SRC", help="a .keras, .h5, .pt, .pth, .safetensors or .lstmf file")
    add_output_options(parser, "OUT.lstmf")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="store the weights so (default: as they are)")
    add_source_options(parser)
    return parser


def run(args: argparse.Namespace) -> Result:
    from ..fileformat import lstmf_bytes
    from ..importers import load_spec
    from ..summary import summary_text

    refuse_output(args)
    spec = load_spec(args.source, **source_arguments(args))
    if args.dtype:
        spec = spec.astype(args.dtype)
    data = lstmf_bytes(spec)
    write_output(args, data)
    facts = {
        "output": args.output,
        "bytes": len(data),
        "dtype": str(spec.dtype),
        "batch_first": spec.batch_first,
        "source": {"kind": spec.source_kind, "sha256": spec.source_sha256},
        "layers": layer_facts(spec),
    }
    lines = [summary_text(spec), f"Written:    {args.output} ({len(data):,} bytes)"]
    if spec.dtype == "float64":
        lines.append("The weights are float64; they run in float32 unless dtype='float64' is asked for.")
    return Result(0, facts, "\n".join(lines))
