"""Gangs of threads on one call: the same bits with any number of them, whatever they divide; nobody hangs.

The networks are wide enough for a step to be worth meeting after, so that small batches are divided by units, networks
of two directions by directions, deep ones by layers, and larger batches by rows.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from commands import ROOT
from nets import bits, inputs, network, random_state
from specs import dense, embedding, stack

from lstm_fast import Model
from lstm_fast.spec import Masking, Softmax

NETWORKS = {
    "lstm": network(stack("lstm", 70, 90, layers=2), dense(90, 40), Softmax("softmax")),
    "projected": network(stack("lstm", 64, 130, proj=50)),
    "copied weights": network(stack("lstm", 64, 128), stack("lstm", 128, 192, name="b")),
    "gru": network(stack("gru", 100, 83)),
    "gru, reset before": network(stack("gru", 90, 100, reset_after=False)),
    "rnn": network(stack("rnn", 200, 150)),
    "both ways": network(stack("lstm", 64, 80, layers=2, directions=2), dense(160, 9)),
    "backwards": network(stack("gru", 90, 90, reverse=True), stack("lstm", 90, 64, return_sequences=False, name="b")),
    "text": network(embedding(30, 80, mask_zero=True), stack("lstm", 80, 80, directions=2), Softmax("log", log=True)),
    "masked": network(Masking("mask"), stack("lstm", 80, 90, masked_output="repeat"), dense(90, 3)),
    "deep": network(stack("lstm", 50, 64, layers=4), dense(64, 30), stack("gru", 30, 50, reset_after=False, name="b")),
    "deep, masked": network(
        embedding(30, 40, mask_zero=True),
        stack("rnn", 40, 90, name="a"),
        stack("lstm", 90, 50, layers=2, masked_output="repeat", return_sequences=False, name="b"),
        dense(50, 9),
        Softmax("softmax"),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_any_number_of_threads(spec, isa, dtype):
    options = {"backend": "packed", "isa": isa, "dtype": dtype}
    one = Model(spec, **options)
    for batch in (1, 2, 5, 17, 60):
        x, state = inputs(spec, batch, 39, dtype=np.dtype(dtype)), random_state(spec, batch, dtype=dtype)
        if isinstance(spec.layers[0], Masking):
            x[:, 4::9] = 0
        lengths = np.arange(batch) * 7 % 40
        expected = bits(one.forward_sequence(x, state)), bits(one.forward_sequence(x, lengths=lengths))
        for num_threads in (2, 3, 4):
            many = Model(spec, num_threads=num_threads, **options)
            got = bits(many.forward_sequence(x, state)), bits(many.forward_sequence(x, lengths=lengths))
            assert got == expected, (batch, num_threads)


def test_a_single_step():
    spec = NETWORKS["lstm"]
    x = inputs(spec, 1, 40)
    one, many = Model(spec, backend="packed"), Model(spec, backend="packed", num_threads=3)
    expected, state, pieces = one.forward_sequence(x), None, []
    for t in range(40):
        y, state = many.forward_sequence(x[:, t : t + 1], state)
        pieces.append(y)
    assert bits((np.concatenate(pieces, axis=1), state)) == bits(expected)


@pytest.mark.parametrize("name", ["gru", "deep", "both ways"])
def test_blocks_of_a_long_sequence(name):
    spec = NETWORKS[name]
    x = inputs(spec, 2, 500)
    one, many = Model(spec, backend="packed"), Model(spec, backend="packed", num_threads=2)
    assert bits(many.forward_sequence(x)) == bits(one.forward_sequence(x))


def test_callers_at_once():
    """One has the team, the others run alone."""
    spec = NETWORKS["gru"]
    model = Model(spec, backend="packed", num_threads=3)
    xs = [inputs(spec, batch, 30) for batch in (1, 2, 3, 40)]
    expected = [bits(Model(spec, backend="packed").forward_sequence(x)) for x in xs]
    wrong = []

    def call(index):
        wrong.extend(index for _ in range(60) if bits(model.forward_sequence(xs[index])) != expected[index])

    callers = [threading.Thread(target=call, args=(index,)) for index in range(len(xs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def run(program: str) -> str:
    """Output of a program that must end well, and in time."""
    prologue = "import os, signal, sys, time; sys.path.insert(0, 'tests')\nfrom test_engine_team import *\n"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", prologue + program]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["gru", "deep", "both ways"])
def test_a_fork_inside_a_call(name):
    """A signal handler forks while the gang is at work: the child has one thread, and both have the right answer."""
    output = run(f"""
spec = NETWORKS[{name!r}]
model = Model(spec, backend="packed", num_threads=3)
x = np.broadcast_to(inputs(spec, 1, 1), (3, 40000, spec.input_size))
expected = bits(Model(spec, backend="packed").forward_sequence(x))
children = []
signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
signal.setitimer(signal.ITIMER_REAL, 0.05)
got = bits(model.forward_sequence(x))
assert len(children) == 1 and got == expected, children
assert bits(model.forward_sequence(x[:, :50])) == bits(Model(spec, backend="packed").forward_sequence(x[:, :50]))
if children[0] == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
print("done")
""")
    assert output == "done\n"


@pytest.mark.parametrize("how", ["", "directions=2", "layers=3"])
def test_ctrl_c_stops_the_whole_gang(how):
    output = run(f"""
spec = network(stack("lstm", 70, 90, return_sequences=False, {how}))
model = Model(spec, backend="packed", num_threads=4)
hours = np.broadcast_to(inputs(spec, 1, 1), (2, 10**8, 70))
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
begin = time.monotonic()
try:
    model.forward_sequence(hours)
except KeyboardInterrupt:
    print("stopped" if time.monotonic() - begin < 30 else "late")
short = hours[:, :50]
assert bits(model.forward_sequence(short)) == bits(Model(spec, backend="packed").forward_sequence(short))
""")
    assert output == "stopped\n"


def test_threads_that_cannot_be_had():
    """No memory for their stacks: the caller does all of it."""
    output = run("""
import resource
spec = NETWORKS["lstm"]
x = inputs(spec, 2, 30)
expected = bits(Model(spec, backend="packed").forward_sequence(x))
model = Model(spec, backend="packed", num_threads=8)
before = os.listdir("/proc/self/task")
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), -1))
assert bits(model.forward_sequence(x)) == expected
print("started:", len(os.listdir("/proc/self/task")) - len(before))
""")
    assert output == "started: 0\n"


@pytest.mark.parametrize("name", ["gru, reset before", "projected"])
def test_lengths_that_change_under_a_call(name):
    """Nobody can say what the answer is then, but there is one: the gang agrees on when to meet, whatever it reads."""
    output = run(f"""
spec = NETWORKS[{name!r}]
model = Model(spec, backend="packed", num_threads=2)
x = inputs(spec, 1, 3000)
lengths = np.array([3000])
threading.Thread(target=lambda: [lengths.fill(i * 37 % 3001) for i in range(10**9)], daemon=True).start()
for _ in range(3):
    model.forward_sequence(x, lengths=lengths)
print("done", flush=True)
os._exit(0)
""")
    assert output == "done\n"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "on_exit"), reason="needs on_exit of glibc")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_interpreter_that_ends_during_a_call(num_threads):
    """It leaves behind a thread that would ask for signals, and a gang at work for it, until the process is gone."""
    output = run(f"""
spec = network(stack("lstm", 70, 90, return_sequences=False))
model = Model(spec, backend="packed", num_threads={num_threads})
hours = np.broadcast_to(inputs(spec, 1, 1), (1, 10**8, 70))
threading.Thread(target=model.forward_sequence, args=(hours,), daemon=True).start()
time.sleep(0.1)
system = ctypes.CDLL(None)
system.on_exit(system.usleep, None)  # it will be handed the status
print("ends", flush=True)
sys.exit(200 * 1024)  # microseconds between the interpreter's end and that of the process; the status is its low byte
""")
    assert output == "ends\n"


def test_members_keep_apart():
    """A thread of the team that finds itself on the caller's CPU leaves it, and may run wherever it might before."""
    output = run("""
allowed = os.sched_getaffinity(0)
here = min(allowed)
model = Model(NETWORKS["lstm"], backend="packed", num_threads=2)
x = inputs(NETWORKS["lstm"], 1, 400)
before = set(os.listdir("/proc/self/task"))
os.sched_setaffinity(0, {here})  # of this thread; the team's takes after it
model.forward_sequence(x)
worker, = (int(task) for task in set(os.listdir("/proc/self/task")) - before)
os.sched_setaffinity(worker, allowed)
cpu, free = here, False
end = time.monotonic() + 10  # on a busy machine it may come too late for a call, or be on its way
while not (free and (cpu != here or len(allowed) == 1)) and time.monotonic() < end:
    model.forward_sequence(x)
    cpu = int(open(f"/proc/self/task/{worker}/stat").read().rpartition(")")[2].split()[36])
    free = os.sched_getaffinity(worker) == allowed
assert free
assert (cpu == here) == (len(allowed) == 1), cpu
print("done")
""")
    assert output == "done\n"
