"""Where a benchmark ran: the machine, the settings and the versions that its figures depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lstm_fast as lf

from .engines import Engine

#: What the libraries beneath the engines read once, when they are loaded.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")

#: Beginnings of environment variables that change how an engine computes.
VARIABLES = (
    *("ATEN_", "CC", "DNNL_", "GOMP_", "KERAS_", "KMP_", "LSTM_FAST_", "MKL_", "NPY_", "OMP_", "ONEDNN_", "OPENBLAS_"),
    *("OV_", "TORCH_"),
)


def facts(engines: Sequence[Engine], threads: int, load: float) -> dict[str, Any]:
    """Everything about this machine and this process that a reader of the figures must know, as plain data.

    ``load`` is the machine's load average before the benchmark began.
    """
    config = lf.config()
    return {
        "cpu": _cpu_name(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": config["threads"]["cpus"],
        "usable_cpus": config["threads"]["auto"],
        "caches": _caches(),
        "load_average": round(load, 2),
        "isa": config["isa"]["used"],
        "blas": config["blas"],
        "threads": threads,
        "python": platform.python_version(),
        "versions": {engine.name: f"{engine.package} {engine.version()}" for engine in engines},
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
    }


def facts_text(machine: dict[str, Any]) -> str:
    """:func:`facts` for people."""
    variables = machine["environment"]
    blas = {name: value for name, value in variables.items() if name.startswith("OPENBLAS_")}
    rest = {name: value for name, value in variables.items() if name not in blas}
    lines = {
        "CPU": f"{machine['cpu']}, {machine['cpus']} CPUs of which {machine['usable_cpus']} usable",
        "caches": ", ".join(f"{name} {size}" for name, size in machine["caches"].items()) or "unknown",
        "system": f"{machine['platform']}, Python {machine['python']}",
        "load before": f"{machine['load_average']:.2f}",
        "threads": f"{machine['threads']} for every engine",
        "ours": f"{machine['isa']} kernels; BLAS {machine['blas'] or 'not built in'}",
        "versions": ", ".join(dict.fromkeys(machine["versions"].values())),
        "OPENBLAS_*": _assignments(blas),
        "other variables": _assignments(rest),
    }
    return "\n".join(f"{name:<16} {value}" for name, value in lines.items())


def caution(machine: dict[str, Any]) -> str:
    """A sentence where other work had half a CPU or more before the run began; empty where it had not."""
    load = machine["load_average"]
    return f"The machine was busy before the run, load {load:.2f}: mistrust the figures." if load >= 0.5 else ""


def _assignments(variables: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in variables.items()) or "none"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _caches() -> dict[str, str]:
    """Sizes of the first CPU's data caches, as Linux tells them."""
    found = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found
