"""Engines timed in turn, round after round, so that whatever else the machine does strikes all of them alike."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

LEAD_NS = 2_000_000  #: untimed at the start of a turn: caches fill, threads of the engine before stop spinning
TURN_NS = 10_000_000  #: timed calls of a turn; one call at the least
LEAST_ROUNDS = 3


@dataclass
class Times:
    """Single calls of one engine, in microseconds; what the clock itself costs, some 0.05, is in every one."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def medians(self) -> list[float]:
        """The median call of each round."""
        return [statistics.median(calls) for calls in self.rounds]

    @property
    def median(self) -> float:
        """The median of the rounds' medians: a disturbed round has one vote, however many calls it holds."""
        return statistics.median(self.medians)

    @property
    def fastest(self) -> float:
        return min(min(calls) for calls in self.rounds)

    @property
    def p99(self) -> float:
        """The 99th percentile of all calls, by nearest rank."""
        calls = sorted(call for calls in self.rounds for call in calls)
        return calls[-(len(calls) // 100) - 1]


def time_in_turn(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Times]:
    """Time each call for about ``seconds`` in all; the order within a round is shuffled, the same in every run."""
    times = {name: Times() for name in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = perf_counter_ns() + int(seconds * 1e9) * len(calls)
        rounds = 0
        while rounds < LEAST_ROUNDS or perf_counter_ns() < end:
            shuffle(order)
            for name in order:
                times[name].rounds.append(_turn(calls[name]))
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return times


def _turn(call: Callable[[], Any]) -> list[float]:
    lead = perf_counter_ns() + LEAD_NS
    while True:
        call()
        if perf_counter_ns() >= lead:
            break
    taken = []
    start = now = perf_counter_ns()
    while not taken or now - start < TURN_NS:
        before = perf_counter_ns()
        call()
        now = perf_counter_ns()
        taken.append((now - before) / 1000)
    return taken
