"""Timing in turn, and what single calls come to."""

from __future__ import annotations

import ctypes
import gc
import re
import threading
from contextlib import contextmanager
from time import sleep

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


def test_the_order_within_a_round_changes(monkeypatch):
    monkeypatch.setattr(timing, "LEAD_NS", 0)
    monkeypatch.setattr(timing, "TURN_NS", 0)
    turns = []
    time_in_turn({name: lambda name=name: turns.append(name) for name in "abcdefgh"}, seconds=0)
    order = "".join(turns)[::2]  # each turn is one call that leads in and one that is timed
    rounds = [order[start : start + 8] for start in range(0, len(order), 8)]
    assert len(set(rounds)) > 1
    assert {"".join(sorted(names)) for names in rounds} == {"abcdefgh"}


def test_a_turn_is_led_in_and_nothing_is_collected_meanwhile(monkeypatch):
    monkeypatch.setattr(timing, "LEAD_NS", 5_000_000)
    monkeypatch.setattr(timing, "TURN_NS", 0)
    collecting = []

    def call():
        collecting.append(gc.isenabled())
        sleep(0.001)

    times = time_in_turn({"a": call}, seconds=0)["a"]
    assert not any(collecting)
    assert gc.isenabled()
    timed = sum(map(len, times.rounds))
    assert len(collecting) - timed >= 2 * len(times.rounds)


def test_threads_that_cannot_be_seen(monkeypatch):
    monkeypatch.setattr(timing, "TASKS", timing.TASKS / "nowhere")
    monkeypatch.setattr(timing, "UNSEEN_SECONDS", 0)
    assert len(time_in_turn({"a": lambda: None}, seconds=0, threads=2)["a"].rounds) == timing.LEAST_ROUNDS


@contextmanager
def a_thread_that_spins():
    spinning = ctypes.CDLL(None).getppid  # lets go of the GIL
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            spinning()

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def test_a_turn_waits_for_threads_that_spin(monkeypatch):
    monkeypatch.setattr(timing, "SPINNING_SECONDS", 5)
    running = []
    with a_thread_that_spins() as stop:
        monkeypatch.setattr(timing, "sleep", lambda seconds: (stop.set(), sleep(seconds)))
        time_in_turn({"a": lambda: running.append(not stop.is_set())}, seconds=0)
        assert all(running)
        running.clear()
        time_in_turn({"a": lambda: running.append(not stop.is_set())}, seconds=0, threads=2)
    assert running
    assert not any(running)


def test_a_turn_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(timing, "SPINNING_SECONDS", 0.01)
    with a_thread_that_spins():
        assert time_in_turn({"a": lambda: None}, seconds=0, threads=2)["a"].calls
