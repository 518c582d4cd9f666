"""How many CPUs this process may occupy: its affinity, cut down to the quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

#: Where Linux says which groups this process is in, and where it shows them.
_MEMBERSHIP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Threads that can run at the same time here, at least 1; of a fraction of a CPU the next lower whole number."""
    allowed = affinity() or os.cpu_count() or 1
    quota = cgroup_quota()
    return allowed if quota is None else max(1, min(allowed, math.floor(quota)))


def affinity() -> int | None:
    """CPUs that the scheduler may put this process on, or None where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def cgroup_quota() -> float | None:
    """CPUs that the control groups of this process grant, or None where they set no limit.

    A group has no more than those it is in, so the least of all up to the root counts, in cgroup v2 (``cpu.max``) and
    v1 (``cpu.cfs_quota_us``, ``cpu.cfs_period_us``). See the kernel's cgroup-v2.rst and sched-bwc.rst.
    """
    paths = {"": "/", "cpu": "/"}  # by controller; v2 is one hierarchy for all of them and names none
    for line in (_text(_MEMBERSHIP) or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        paths |= {controller: path for controller in controllers.split(",") if controller in paths}
    unified = (_unified_quota(folder) for folder in _upwards(_GROUPS, paths[""]))
    divided = (_divided_quota(folder) for folder in _upwards(_GROUPS / "cpu", paths["cpu"]))
    return min((quota for quota in (*unified, *divided) if quota is not None), default=None)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The folder of the group ``path`` and of every group it is in, as far as ``root``.

    In a container the path may be the host's, of which only the root is there: it is the container's own group. A
    group beside the root of a namespace is shown with ``..``; nothing of it is there but the root either.
    """
    names = [name for name in path.split("/") if name]
    for depth in range(0 if ".." in names else len(names), -1, -1):
        yield root.joinpath(*names[:depth])


def _unified_quota(folder: Path) -> float | None:
    used, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
    return _cpus(used, period)


def _divided_quota(folder: Path) -> float | None:
    return _cpus(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _cpus(used: str | None, period: str | None) -> float | None:
    """Processor time over wall time; None for "max", -1 and whatever else is no limit."""
    try:
        quota = int(used or "") / int(period or "")
    except (ValueError, ZeroDivisionError):
        return None
    return quota if quota > 0 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None
