"""The machine's own peaks, and the least time that a network's matrix products can take with them."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np

from lstm_fast.spec import GATES

from .shapes import Shape

SOURCE = Path(__file__).with_name("peaks.c")
COMPILER_OPTIONS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")
TRIES, TRY_SECONDS = 25, 0.004
MULTIPLY_ADDS, STREAM_BYTES = 192, 768  # what peaks.c takes multiples of
ALIGNMENT = 64

#: A measurement: a function of a count, and the work one count stands for.
Work = tuple[Callable[[int], object], float]


class Peaks:
    """Speeds of ``threads`` cores at once, each with its share of the weights; the best of a few tries.

    Raises:
        OSError, subprocess.CalledProcessError: no C compiler (``CC``, else cc), or none that takes GCC's options.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._probe = _compiled()
        self._bandwidths: dict[int, float] = {}
        self.flops = self._best(self._multiply_adds)  #: operations per second, 2 to a multiply-add

    def bandwidth(self, footprint: int) -> float:
        """Bytes per second where ``footprint`` bytes are read again and again through multiply-adds."""
        if footprint not in self._bandwidths:
            share = footprint // self.threads
            ways = [self._best(lambda: self._stream(share, prefetch)) for prefetch in (False, True)]  # noqa: B023
            self._bandwidths[footprint] = max(ways)
        return self._bandwidths[footprint]

    def floor(self, shape: Shape) -> float:
        """Seconds below which the matrix products of ``shape`` cannot come; activations and latencies are not counted.

        Products with the input are one for all steps, bound by arithmetic or by one reading of their weights;
        a step's product with the state is bound by arithmetic or by reading the recurrent weights once more.
        At T = 1 a call reads all weights, so it is the whole network that has to fit into a cache.
        """
        rows = len(GATES[shape.kind]) * shape.hidden_size
        widths = [shape.input_size] + [shape.directions * shape.hidden_size] * (shape.num_layers - 1)
        recurrent = 4 * rows * shape.hidden_size
        whole = shape.directions * sum(4 * rows * width + recurrent for width in widths)

        def product(width: int, columns: int) -> float:
            weights = 4 * rows * width
            footprint = whole if shape.time == 1 else weights
            return max(weights / self.bandwidth(footprint), 2 * rows * width * columns / self.flops)

        steps = shape.time * product(shape.hidden_size, shape.batch)
        return shape.directions * sum(product(width, shape.batch * shape.time) + steps for width in widths)

    def as_json(self) -> dict[str, object]:
        """What was measured, in GFLOP/s and GB/s by footprint in bytes."""
        bandwidths = {str(size): value / 1e9 for size, value in sorted(self._bandwidths.items())}
        return {"threads": self.threads, "gflops": self.flops / 1e9, "gigabytes_per_second": bandwidths}

    def _multiply_adds(self) -> Work:
        return lambda count: self._probe.multiply_add(count * MULTIPLY_ADDS, 0.5, 1.0), 2 * MULTIPLY_ADDS

    def _stream(self, footprint: int, prefetch: bool) -> Work:
        size = max(STREAM_BYTES, footprint // STREAM_BYTES * STREAM_BYTES)
        memory = np.ones((size + ALIGNMENT) // 4, np.float32)
        data = ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % ALIGNMENT)
        return lambda count: self._probe.stream(data, size, count, memory[0], prefetch), size

    def _best(self, make: Callable[[], Work]) -> float:
        """Work per second of all threads together; ctypes lets go of the GIL, so they do run at once."""
        with ThreadPoolExecutor(self.threads) as pool:
            speeds = [pool.submit(_speeds, *make()) for _ in range(self.threads)]
            return max(map(sum, zip(*(speed.result() for speed in speeds), strict=True)))


def _speeds(run: Callable[[int], object], work: float) -> list[float]:
    """Work per second in each try; the count is grown until a try lasts long enough to be timed."""
    count = 1
    while (seconds := _seconds(run, count)) < TRY_SECONDS:
        count *= 1 + min(100, int(TRY_SECONDS / seconds))
    return [work * count / _seconds(run, count) for _ in range(TRIES)]


def _seconds(run: Callable[[int], object], count: int) -> float:
    start = perf_counter()
    run(count)
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
    return probe
