"""Calls timed in turn, round after round, so that whatever else the machine does strikes all of them alike."""

from __future__ import annotations

import gc
import math
import random
import statistics
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import get_native_id
from time import perf_counter_ns, sleep
from typing import Any

LEAD_NS = 2_000_000  #: untimed calls at the start of a turn: caches fill, and the clock rises
TURN_NS = 10_000_000  #: timed calls of a turn; one call at the least
LEAST_ROUNDS = 3
#: Threads of the turn before spin for work that may come: GNU OpenMP's some 15 ms, ONNX Runtime's some 45 ms. A turn
#: waits for them to fall asleep, not longer than this, and looks so often.
SPINNING_SECONDS, LOOK_SECONDS = 0.3, 0.002
TASKS = Path("/proc/self/task")
UNSEEN_SECONDS = 0.05  #: waited where threads cannot be looked at


@dataclass
class Times:
    """Single calls of one function, in microseconds; what the clock itself costs, some 0.05, is in every one."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the rounds' medians: a disturbed round has one vote, however many calls it holds."""
        return statistics.median(map(statistics.median, self.rounds))

    @cached_property
    def calls(self) -> list[float]:
        """Every call, fastest first."""
        return sorted(call for calls in self.rounds for call in calls)

    def percentile(self, percent: float) -> float:
        """The least call that at least ``percent`` of all calls do not exceed: the nearest rank."""
        rank = math.ceil(percent * len(self.calls) / 100 - 1e-9)
        return self.calls[max(rank, 1) - 1]


def time_in_turn(calls: Mapping[str, Callable[[], Any]], seconds: float, *, threads: int = 1) -> dict[str, Times]:
    """Time each call for about ``seconds`` in all; the order within a round is shuffled, the same in every run.

    With several ``threads``, a turn begins when those of the turn before have fallen asleep: one that still spins
    would take a CPU from whoever is timed.
    """
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
                if threads > 1:
                    _await_quiet()
                times[name].rounds.append(_turn(calls[name]))
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return times


def _await_quiet() -> None:
    if not TASKS.is_dir():
        sleep(UNSEEN_SECONDS)
        return
    end = perf_counter_ns() + int(SPINNING_SECONDS * 1e9)
    while perf_counter_ns() < end and _others_run():
        sleep(LOOK_SECONDS)


def _others_run() -> bool:
    """Whether any other thread of this process has a CPU, or waits for one."""
    own = str(get_native_id())
    for task in TASKS.iterdir():
        if task.name != own:
            with suppress(OSError):  # it has just ended
                name_and_state = (task / "stat").read_text().rpartition(")")
                if name_and_state[2].split(maxsplit=1)[0] == "R":
                    return True
    return False


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
