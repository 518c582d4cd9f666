"""The ``lstm-fast`` command: one file per subcommand, each with ``add_parser`` and ``run``.

Importing this package loads argparse and little else; a subcommand imports what it needs when it runs.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from . import bench, doctor, import_model, inspect_model, predict, verify
from ._shared import CommandError, Result, escape

_COMMANDS = (import_model, inspect_model, predict, verify, bench, doctor)
_FAILED, _INTERRUPTED = 1, 130
#: How the arguments that messages advise are given here.
_OPTIONS = {
    "module=": "--module CHAIN",
    "config=": "--config JSON",
    "limits=": "--limit NAME=N",
    "batch_first=": "--batch-first or --time-first",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage leaves by SystemExit(2), as argparse does."""
    if sys.stderr is None:  # closed, as by 2>&-: print would take standard output instead
        sys.stderr = io.StringIO()
    try:
        return _run(argv)
    except KeyboardInterrupt:
        _complain("interrupted")
        return _INTERRUPTED
    except OSError as error:  # of printing: what a command meets is a result
        _abandon(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _complain(f"error: standard output: {error.strerror or error}")
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lstm-fast", description="Import trained recurrent networks and run them on the CPU."
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    for command in _COMMANDS:
        command.add_parser(commands).set_defaults(run=command.run)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and leave")

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        from .. import __version__

        print(f"lstm-fast {__version__}")
        parser.exit()


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        result = _result(args)
        _report(args, result)
    finally:  # --help leaves by SystemExit
        if sys.stdout is not None:
            sys.stdout.flush()
    return result.code


def _result(args: argparse.Namespace) -> Result:
    """What the command found, or else the error that stopped it, which standard error has then."""
    from ..errors import LstmFastError

    try:
        if sys.stdout is None:
            raise CommandError("standard output is closed")
        return args.run(args)
    except BrokenPipeError:
        raise
    except (CommandError, LstmFastError, OSError, MemoryError) as error:
        message = _message(error)
        _complain(f"error: {escape(message)}")
        return Result(_FAILED, {"error": {"type": type(error).__name__, "message": message}})


def _complain(message: str) -> None:
    try:
        print(f"lstm-fast: {message}", file=sys.stderr)
    except OSError:  # there is nowhere left to say so; the exit code does
        _abandon(sys.stderr)


def _abandon(stream: TextIO) -> None:
    """Send what the stream still holds nowhere, or the interpreter fails at it in its last flush and exits with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report(args: argparse.Namespace, result: Result) -> None:
    """Print a result for people or programs, on stderr where stdout is the data itself."""
    stream = sys.stderr if getattr(args, "output", None) == "-" else sys.stdout
    if args.json:
        facts = {"command": args.command, "ok": result.code == 0, **result.facts}
        print(json.dumps(facts, indent=2, allow_nan=False), file=stream)
    elif result.text:
        print(_showable(result.text, stream), file=stream)


def _showable(text: str, stream: TextIO) -> str:
    """Text with escapes for what a terminal would obey, and for what the stream's encoding lacks."""
    encoding = stream.encoding or "utf-8"
    return escape(text).encode(encoding, "backslashreplace").decode(encoding)


def _message(error: Exception) -> str:
    if isinstance(error, FileExistsError):
        return f"{error.filename}: exists already; give another name, or --force to replace it"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({error})' if str(error) else ''}; try a smaller --batch-size or a smaller file"
    message = str(error) or type(error).__name__
    spelled = [option for argument, option in _OPTIONS.items() if argument in message]
    return f"{message}\n(on the command line: {', '.join(spelled)})" if spelled else message
