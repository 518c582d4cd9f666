"""``lstm-fast inspect``: what is in a model file, without running it."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from ._shared import Result, add_source_options, layer_facts, new_parser, source_arguments

if TYPE_CHECKING:
    from ..errors import ModuleChoiceError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser = new_parser(
        commands,
        "inspect",
        "show layers, shapes and where each weight came from",
        "Show a model file's layers and weights: shapes, gate order, and the source tensor behind each of ours. Of a"
        " checkpoint that does not say which of its modules make the model, list the modules.",
    )
    parser.add_argument("file", metavar="FILE", help="any model file that can be loaded")
    add_source_options(parser)
    return parser


def run(args: argparse.Namespace) -> Result:
    from ..errors import ModuleChoiceError
    from ..importers import load_spec
    from ..summary import summary_text, tensor_facts, tensor_text

    try:
        spec = load_spec(args.file, **source_arguments(args))
    except ModuleChoiceError as choice:
        return _choice(args.file, choice)
    facts = {
        "file": args.file,
        "source": {"kind": spec.source_kind, "sha256": spec.source_sha256},
        "dtype": str(spec.dtype),
        "batch_first": spec.batch_first,
        "takes_ids": spec.takes_ids,
        "input_size": spec.input_size,
        "output_size": spec.output_size,
        "returns_sequences": spec.returns_sequences,
        "parameters": sum(value.size for _, value in spec.tensors()),
        "layers": layer_facts(spec),
        "tensors": tensor_facts(spec),
    }
    return Result(0, facts, f"{summary_text(spec)}\n\n{tensor_text(spec)}")


def _choice(path: str, choice: ModuleChoiceError) -> Result:
    """What there is to choose from, where the file does not say what its model is."""
    from ..summary import table

    lines = [table(["Module", "What it is"], list(choice.modules.items())), ""]
    if choice.example:
        command = shlex.join(["lstm-fast", "inspect", path, "--module", choice.example])
        lines += [
            "The file does not say how these follow one another. Name what to run, in order, for example:",
            command,
        ]
    else:
        lines.append("None of these can be run.")
    modules = [{"name": name, "description": description} for name, description in choice.modules.items()]
    return Result(0, {"file": path, "modules": modules, "example": choice.example}, "\n".join(lines))
