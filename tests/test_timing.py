"""Timing in turn, and what single calls come to."""

from __future__ import annotations

import re

import pytest

from lstm_fast import timing
from lstm_fast.timing import Times, time_in_turn


def test_a_disturbed_round_has_one_vote():
    times = Times([[1.0, 2.0, 3.0], [9.0] * 99, [4.0]])
    assert (times.median, times.calls[0], times.calls[-1]) == (4.0, 1.0, 9.0)


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(1, 99, 1), (50, 99, 50), (100, 99, 99), (150, 99, 149), (1000, 99.9, 999), (7, 0, 1), (7, 50, 4), (7, 100, 7)],
)
def test_the_percentile_is_the_nearest_rank(count, percent, rank):
    assert Times([[float(value) for value in range(count, 0, -1)]]).percentile(percent) == rank


def test_calls_take_turns():
    turns = []
    times = time_in_turn({name: lambda name=name: turns.append(name) for name in "abc"}, seconds=0)
    order = re.sub(r"(.)\1+", r"\1", "".join(turns))
    assert {len(value.rounds) for value in times.values()} == {3}
    assert len(order) <= 9
    assert {order.count(name) for name in "abc"} <= {2, 3}  # one round may end with what the next begins with


def test_a_turn_waits_for_threads_that_spin(monkeypatch):
    slept = []
    monkeypatch.setattr(timing, "sleep", slept.append)
    time_in_turn({"a": lambda: None}, seconds=0)
    assert slept == []
    time_in_turn({"a": lambda: None, "b": lambda: None}, seconds=0, threads=2)
    assert slept == [timing.SPINNING_SECONDS] * 6
