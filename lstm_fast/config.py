"""What this build and this machine offer, and which of it a model uses: argument, then environment, then default."""

from __future__ import annotations

import os
import platform
import reprlib
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
    """The instruction set asked for, or None for the best one; an argument that cannot run, the engine refuses.

    Raises:
        BackendError: an empty name, or a variable that asks for what cannot run here.
    """
    if isa == "":
        raise BackendError("isa: expected a name or None, got an empty text")
    if isa is not None:
        return isa
    name = os.environ.get(ISA_VARIABLE)
    if not name:
        return None
    status = _engine.isa_status()
    if status.get(name) != "usable":
        known = ", ".join(f"{one} ({words})" for one, words in status.items())
        raise BackendError(f"{ISA_VARIABLE}: expected an instruction set that is usable here, of {known}; got {name!r}")
    return name


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


def choose_dtype(dtype: Any) -> np.dtype:
    """The precision asked for, else float32.

    Raises:
        ValueError: neither float32 nor float64.
    """
    try:
        real = np.dtype(np.float32 if dtype is None else dtype)
    except (TypeError, ValueError):  # no dtype at all, or another framework's
        real = None
    if real not in (np.float32, np.float64):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}")
    return real


def choose_threads(num_threads: int | str | None) -> int:
    """Threads a call may use, the caller's among them: a count, or "auto" for what this process may occupy.

    Raises:
        ValueError: neither; the message names the argument or the variable.
    """
    where = "num_threads" if num_threads is not None else THREADS_VARIABLE
    asked: Any = num_threads if num_threads is not None else os.environ.get(THREADS_VARIABLE) or 1
    if isinstance(asked, str) and asked == "auto":
        from ._cpus import usable_cpus  # nobody else waits for what it imports

        return min(usable_cpus(), MOST_THREADS)
    count = _count(asked)
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(f"{where}: expected 1 .. {MOST_THREADS} or 'auto', got {reprlib.repr(asked)}")
    return count


def _count(asked: Any) -> int:
    """A number, or the digits of one; 0 for anything else."""
    if isinstance(asked, str):
        digits = asked.lstrip("0")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST_THREADS)) else 0
    return int(asked) if isinstance(asked, int | np.integer) and not isinstance(asked, bool) else 0


def config() -> dict[str, Any]:
    """Everything that decides how models run here, as plain data."""
    from ._cpus import affinity, cgroup_quota

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
            "auto": choose_threads("auto"),
            "cpus": os.cpu_count(),
            "affinity": affinity(),
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
    blas = facts["blas"] or "none in this build"
    if facts["blas"] and "blas" not in facts["backends"]:
        blas += ", but its library cannot be loaded"
    lines = [
        ("lstm_fast", f"{facts['lstm_fast']} (Python {facts['python']}, NumPy {facts['numpy']}, {facts['platform']})"),
        ("instruction set", isa["used"]),
        ("  known", ", ".join(f"{name}: {status}" for name, status in isa["known"].items())),
        ("backend", f"{facts['backend']} (of {', '.join(facts['backends'])})"),
        ("BLAS", blas),
        ("threads", f"{threads['default']} by default, {threads['auto']} for 'auto'"),
        ("  machine", f"{threads['cpus']} CPUs, quota {'none' if quota is None else f'{quota:g}'}"),
        *((name, value) for name, value in facts["environment"].items()),
    ]
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name.ljust(width)}  {value}" for name, value in lines))
