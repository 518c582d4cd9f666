"""The roofline: the least time that a network can reasonably take, from what the machine's cores can do."""

from __future__ import annotations

from dataclasses import dataclass

from .shapes import Shape

#: Of the peak of multiply-adds, what a kernel with loads, stores and edges can reach.
ATTAINABLE = 0.9
#: Clocks for a vector's worth of exponential, division and polynomial, and how many of them a unit of the state wants.
ACTIVATION_CLOCKS, ACTIVATIONS = 8, {"lstm": 5, "gru": 3, "rnn": 1}
#: Clocks of a step's dependent chain: last multiply-add, gates, state, and back into the next step's first.
CHAIN_CLOCKS = 160


@dataclass(frozen=True)
class Speeds:
    """What all threads together did, while engines were timed."""

    threads: int
    lanes: int  #: float32 numbers in a vector
    gflops: float  #: multiply-adds in registers, 2 operations each
    gigabytes: float  #: read per second from ``footprint`` bytes through multiply-adds
    footprint: int
    gigahertz: float


def footprint(shape: Shape) -> int:
    """Bytes of weights that are read again and again: a cell's at each step, or at T = 1 all it needs at each call."""
    return 4 * (shape.weights - shape.spared if shape.time == 1 else shape.recurrent_weights)


def least_seconds(shape: Shape, speeds: Speeds) -> float:
    """Seconds below which ``shape`` is not expected to come; layers and directions follow one another.

    Input products are one for all steps, bound by arithmetic or by one reading of their weights. A step is bound by
    arithmetic or by reading the recurrent weights, then come the activations, then the chain that no width shortens.
    """

    def product(weights: int, rows: int) -> float:
        arithmetic = 2 * weights * rows / (ATTAINABLE * speeds.gflops * 1e9)
        return max(arithmetic, 4 * weights / (speeds.gigabytes * 1e9))

    clock = speeds.gigahertz * 1e9
    clocks_of_a_row = ACTIVATION_CLOCKS * ACTIVATIONS[shape.kind] * shape.hidden_size / speeds.lanes / speeds.threads
    active = [int(rows) for rows in shape.rows_at]
    inputs = sum(product(shape.rows * size, sum(active)) for size in shape.input_sizes)
    weights = [shape.first_weights] + [shape.recurrent_weights] * (shape.time - 1)
    steps = sum(
        product(each, rows) + (clocks_of_a_row * rows + CHAIN_CLOCKS) / clock
        for each, rows in zip(weights, active, strict=True)
    )
    return shape.directions * (inputs + shape.num_layers * steps)
