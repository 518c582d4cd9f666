"""A call's memory is enough however the call is divided, which what was measured meanwhile may change."""

from __future__ import annotations

import shlex
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_workspace_is_enough_for_every_division(tmp_path):
    """Asked of the core itself, for no caller can make a thread answer slower or faster."""
    units = [path for path in sorted((ROOT / "csrc").glob("*.c")) if not path.name.startswith("kernels_")]
    program = tmp_path / "workspace_bound"
    compiler = shlex.split(sysconfig.get_config_var("CC"))
    options = ["-std=c11", "-Wl,--wrap=lf_team_answer", f"-I{ROOT / 'csrc'}", "-o", program]
    sources = [ROOT / "tests" / "c" / "workspace_bound.c", *units]
    subprocess.run([*compiler, *options, *sources, "-lm", "-lpthread"], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    faults, by_units, pipelined = map(int, done.stdout.split())
    assert faults == 0
    assert by_units > 100
    assert pipelined > 100
