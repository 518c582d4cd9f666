"""Running the command line in tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lstm_fast.cli import main

ROOT = Path(__file__).parent.parent


def run_json(capsys, *argv: str) -> tuple[int, dict]:
    code = main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def fails(capsys, *argv: str) -> str:
    """The one message of a command that must fail with exit code 1 and print nothing else."""
    assert main(list(argv)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("lstm-fast: error: ")
    assert printed.err.endswith("\n")
    return printed.err.removeprefix("lstm-fast: error: ").rstrip("\n")


def shell(*argv: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lstm_fast", *argv]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, check=False, **options)
