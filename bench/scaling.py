"""How times grow: shapes along one size at a time, and two shapes along the number of threads."""

from __future__ import annotations

from .shapes import Shape

#: The engines worth a curve.
ENGINES = ("ours", "torch", "onnxruntime", "openvino")
#: Of the time that a shape of the table gets.
SHARE = 0.25

#: What grows, and along it an LSTM.
CURVES: dict[str, list[Shape]] = {
    "time": [Shape("lstm", 1, time, 128, 128) for time in (1, 2, 5, 10, 30, 100, 300, 1000)],
    "batch": [Shape("lstm", batch, 50, 128, 128) for batch in (1, 2, 4, 8, 16, 32, 64, 128)],
    "hidden_size": [Shape("lstm", 1, 50, size, size) for size in (16, 32, 64, 128, 256, 512, 1024)],
    "num_layers": [Shape("lstm", 1, 50, 128, 128, layers) for layers in (1, 2, 3, 4, 6)],
}
#: One sequence, whose weights are shared out, and a batch, whose rows are.
THREADS = [Shape("lstm", 1, 100, 512, 512), Shape("lstm", 16, 100, 256, 256)]


def thread_counts(wanted: list[int]) -> list[int]:
    """Those for which threads are measured: ``wanted``, and the powers of two between them."""
    between = [2**power for power in range(max(wanted).bit_length()) if min(wanted) < 2**power < max(wanted)]
    return sorted({*wanted, *between})
