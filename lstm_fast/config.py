"""What this build and this machine offer, and which of it a model uses: argument, then environment, then default."""

from __future__ import annotations

import math
import os
import platform
import sys
from typing import Any

import numpy as np

from . import _engine
from ._version import __version__
from .errors import BackendError

BACKENDS = ("packed", "blas")
MOST_THREADS = 256

#: Environment variables that override the defaults, and are themselves overridden by arguments.
ISA_VARIABLE, BACKEND_VARIABLE, THREADS_VARIABLE = "LSTM_FAST_ISA", "LSTM_FAST_BACKEND", "LSTM_FAST_NUM_THREADS"


def choose_isa(isa: str | None) -> str | None:
    """The instruction set asked for, or None for the best one; the engine refuses what it cannot run."""
    if isa == "":
        raise BackendError("isa: expected a name or None, got an empty text")
    return isa if isa is not None else os.environ.get(ISA_VARIABLE) or None


def choose_backend(backend: str | None) -> str:
    """The backend asked for, else "packed".

    Raises:
        BackendError: an unknown name, or BLAS in a build without it.
    """
    where = "backend" if backend is not None else BACKEND_VARIABLE
    name = backend if backend is not None else os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
    if name not in BACKENDS:
        raise BackendError(f"{where}: expected one of {', '.join(BACKENDS)}, got {name!r}")
    return name


def choose_threads(num_threads: int | str | None) -> int:
    """Threads a call may use, the caller's among them: a count, or "auto" for what this process may occupy."""
    where = "num_threads" if num_threads is not None else THREADS_VARIABLE
    value: Any = num_threads if num_threads is not None else os.environ.get(THREADS_VARIABLE) or 1
    if value == "auto":
        return usable_cpus()
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= MOST_THREADS:
        raise ValueError(f"{where}: expected 1 .. {MOST_THREADS} or 'auto', got {value!r}")
    return int(value)


def usable_cpus() -> int:
    """CPUs this process may run on: its affinity, cut down to the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(allowed, MOST_THREADS, math.floor(quota) if quota else MOST_THREADS))


def cgroup_quota() -> float | None:
    """CPUs the control group grants (cgroup v2, then v1), or None where it sets no limit."""
    from pathlib import Path  # costs milliseconds of every import of this package otherwise

    try:
        used, _, period = Path("/sys/fs/cgroup/cpu.max").read_text().partition(" ")
        return None if used == "max" else float(used) / float(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        used, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(used) / float(period) if float(used) > 0 else None
    except (OSError, ValueError):
        return None


def config() -> dict[str, Any]:
    """Everything that decides how models run here, as plain data."""
    isas = _engine.isa_status()
    best = [name for name, status in isas.items() if status == "usable"][-1]
    return {
        "lstm_fast": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
        "isa": {"known": isas, "used": choose_isa(None) or best},
        "backends": _engine.available()["backends"],
        "backend": choose_backend(None),
        "blas": _engine.blas_name(),
        "threads": {
            "default": choose_threads(None),
            "auto": usable_cpus(),
            "cpus": os.cpu_count(),
            "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "cgroup_quota": cgroup_quota(),
        },
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(("LSTM_FAST_", "OPENBLAS_"))
        },
    }


def show_config() -> None:
    """Print :func:`config` for people."""
    facts = config()
    isa = facts["isa"]
    threads = facts["threads"]
    quota = threads["cgroup_quota"]
    lines = [
        ("lstm_fast", f"{facts['lstm_fast']} (Python {facts['python']}, NumPy {facts['numpy']}, {facts['platform']})"),
        ("instruction set", isa["used"]),
        ("  known", ", ".join(f"{name}: {status}" for name, status in isa["known"].items())),
        ("backend", f"{facts['backend']} (of {', '.join(facts['backends'])})"),
        ("BLAS", facts["blas"] or "none in this build"),
        ("threads", f"{threads['default']} by default, {threads['auto']} for 'auto'"),
        ("  machine", f"{threads['cpus']} CPUs, quota {'none' if quota is None else f'{quota:g}'}"),
        *((name, value) for name, value in facts["environment"].items()),
    ]
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name.ljust(width)}  {value}" for name, value in lines))
