"""The machine's own peaks, measured by a small C program as engines are: one call at a time, in turn with them."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from lstm_fast.timing import Times

from .roofline import Speeds

SOURCE = Path(__file__).with_name("peaks.c")
COMPILER_OPTIONS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")
CALL_SECONDS = 0.003  #: of one call: long beside the start of threads, short beside a turn
TRIES = 5
MULTIPLY_ADDS, ADDITIONS, STREAM_BYTES = 192, 16, 768  # what peaks.c takes multiples of
ALIGNMENT = 64


@dataclass(frozen=True)
class Probe:
    """A call to be timed in turn with the engines, and the work it does, all threads together."""

    call: Callable[[], object]
    work: float


class Peaks:
    """Probes of ``threads`` cores at once.

    Raises:
        OSError, subprocess.CalledProcessError: no C compiler (``CC``, else cc), or none that takes GCC's options.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._c = _compiled()
        self._pool = ThreadPoolExecutor(max(1, threads - 1))

    def probes(self, footprint: int) -> dict[str, Probe]:
        """Multiply-adds, dependent additions, and reading ``footprint`` bytes, of which each core has its share."""
        share = max(STREAM_BYTES, footprint // self.threads // STREAM_BYTES * STREAM_BYTES)
        streams = [self._stream(share, prefetch) for prefetch in (False, True)]
        return {
            "peak gflops": self._probe(
                lambda thread, count: self._c.multiply_add(count * MULTIPLY_ADDS, 0.5, 1.0), 2 * MULTIPLY_ADDS
            ),
            "peak gigahertz": self._probe(lambda thread, count: self._c.chain(count * ADDITIONS, 1), ADDITIONS),
            "peak gigabytes": max(streams, key=_speed),
        }

    def speeds(self, probes: Mapping[str, Probe], times: Mapping[str, Times], footprint: int) -> Speeds:
        """What the ``probes`` of ``footprint`` did in ``times``."""
        found = {name.split()[1]: probe.work / times[name].median / 1e3 for name, probe in probes.items()}
        found["gigahertz"] /= self.threads
        rounded = {name: float(f"{value:.4g}") for name, value in found.items()}
        return Speeds(threads=self.threads, lanes=self._c.lanes(), footprint=footprint, **rounded)

    def _stream(self, size: int, prefetch: bool) -> Probe:
        """Each thread has memory of its own, as each core has its share of the weights."""
        memory = [np.ones((size + ALIGNMENT) // 4, np.float32) for _ in range(self.threads)]

        def run(thread: int, count: int) -> None:
            address = memory[thread].ctypes.data
            self._c.stream(ctypes.c_void_p(address + -address % ALIGNMENT), size, count, 0.5, prefetch)

        return self._probe(run, size)

    def _probe(self, run: Callable[[int, int], object], work: float) -> Probe:
        """``run(thread, count)`` on all threads at once, for ctypes lets go of the GIL; ``work`` is one count's."""
        count = 1
        while (seconds := _fastest(lambda: run(0, count))) < CALL_SECONDS / 2:  # noqa: B023 - called at once
            count *= 1 + min(100, int(CALL_SECONDS / seconds))
        count = max(1, round(count * CALL_SECONDS / seconds))

        def call() -> None:
            others = [self._pool.submit(run, thread, count) for thread in range(1, self.threads)]
            run(0, count)
            for other in others:
                other.result()

        return Probe(call, work * count * self.threads)


def _speed(probe: Probe) -> float:
    return probe.work / _fastest(probe.call)


def _fastest(call: Callable[[], object]) -> float:
    """Of a few tries: a single one may have been disturbed."""
    return min(_seconds(call) for _ in range(TRIES))


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "peaks.so")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, *COMPILER_OPTIONS, SOURCE, "-o", library], check=True, capture_output=True)
        probe = ctypes.CDLL(str(library))
    probe.multiply_add.argtypes = [ctypes.c_size_t, ctypes.c_float, ctypes.c_float]
    probe.stream.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_float, ctypes.c_int]
    probe.multiply_add.restype = probe.stream.restype = ctypes.c_float
    probe.chain.argtypes, probe.chain.restype = [ctypes.c_size_t, ctypes.c_size_t], ctypes.c_size_t
    return probe
