"""Many threads on one model, forks, exits, interruptions; and what a call leaves as it was."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from nets import bits, inputs, network, random_state
from specs import dense, embedding, stack

from lstm_fast import IndexRangeError, Model
from lstm_fast.activations import LINEAR
from lstm_fast.spec import Dense, Masking, Softmax

CHAIN = network(
    Masking("mask"),
    stack("lstm", 9, 20, layers=2, directions=2, name="a"),
    stack("gru", 40, 11, name="b"),
    dense(11, 5),
    Softmax("softmax"),
)

#: Beginning of every script: a model, an input, and an input that takes hours.
PROLOGUE = """
import os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
import numpy as np
from nets import bits, inputs, network
from specs import dense, embedding, stack
from lstm_fast import Model
from lstm_fast.spec import Softmax

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
spec = network(stack("lstm", 12, 16, directions=2, layers=2))
x = inputs(spec, 9, 30)
endless = network(stack("lstm", 12, 64, return_sequences=False))
hours = np.broadcast_to(np.full((1, 1, 12), 0.1, np.float32), (4, 10**8, 12))

def watched(pid, seconds=20):
    "Exit status of a child, which must end in time."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return "hung"
"""


def run(script: str, **environment: str) -> str:
    """Standard output of a script that must end well, and in time."""
    source = PROLOGUE.format(tests=str(Path(__file__).parent)) + script
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source]
    environment = os.environ | {"LSTM_FAST_BACKEND": "packed"} | environment  # bits are compared
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("num_threads", [1, 3])
def test_many_threads_on_one_model(num_threads, engine_options):
    model = Model(CHAIN, num_threads=num_threads, **engine_options)
    calls = [
        (inputs(CHAIN, batch, time, seed=batch), random_state(CHAIN, batch), np.arange(batch) % (time + 1))
        for batch in (1, 2, 7, 20)
        for time in (1, 13, 60)
    ]

    def work(index):
        x, state, lengths = calls[index % len(calls)]
        return bits(model.forward_sequence(x, state, lengths=lengths))

    serial = [work(index) for index in range(len(calls))]
    with ThreadPoolExecutor(16) as pool:
        for index, result in enumerate(pool.map(work, range(200))):
            assert result == serial[index % len(calls)]


def test_errors_in_some_threads_do_not_touch_the_others():
    spec = network(embedding(9, 4), stack("gru", 4, 8))
    model = Model(spec, num_threads=2)
    good = inputs(spec, 4, 20)
    bad = good.copy()
    bad[3, 19] = 9
    expected = bits(model.forward_sequence(good))

    def work(index):
        if index % 2:
            with pytest.raises(IndexRangeError):
                model.forward_sequence(bad)
            return expected
        return bits(model.forward_sequence(good))

    with ThreadPoolExecutor(8) as pool:
        assert all(result == expected for result in pool.map(work, range(200)))


@pytest.mark.parametrize("num_threads", [2, 5, 256])
def test_more_threads_than_rows(num_threads, engine_options):
    one, many = Model(CHAIN, **engine_options), Model(CHAIN, num_threads=num_threads, **engine_options)
    for batch in (0, 1, 2, 3, 4):
        x = inputs(CHAIN, batch, 10)
        got, wanted = many.forward_sequence(x), one.forward_sequence(x)
        if one.backend == "packed":
            assert bits(got) == bits(wanted)
        np.testing.assert_allclose(got[0], wanted[0], rtol=0, atol=1e-6)


def test_models_come_and_go_in_threads():
    """Plans are built, used and freed beside one another."""
    x = inputs(CHAIN, 3, 9)

    def work(_):
        return bits(Model(CHAIN, backend="packed", num_threads=2).forward_sequence(x))

    expected = work(0)
    with ThreadPoolExecutor(8) as pool:
        assert all(result == expected for result in pool.map(work, range(80)))


def test_a_child_of_fork_runs_the_model():
    """Before the parent's first call, after it, and with a team of threads that the child does not have."""
    run("""
for threads in (1, 2, 4):
    model = Model(spec, num_threads=threads)
    def child():
        pid = os.fork()
        if pid == 0:
            os._exit(0 if bits(model.forward_sequence(x)) == expected else 1)
        return watched(pid)
    expected = bits(Model(spec).forward_sequence(x))
    assert child() == 0
    assert bits(model.forward_sequence(x)) == expected
    assert child() == 0
    assert bits(model.forward_sequence(x)) == expected
""")


def test_fork_while_other_threads_are_in_calls():
    run("""
model = Model(spec, num_threads=2)
expected = bits(model.forward_sequence(x))
stop, wrong = threading.Event(), []
def work():
    while not stop.is_set():
        if bits(model.forward_sequence(x)) != expected:
            wrong.append(1)
workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if all(bits(model.forward_sequence(x)) == expected for _ in range(3)) else 1)
    assert watched(pid) == 0
stop.set()
for worker in workers:
    worker.join()
assert not wrong
""")


def test_a_child_of_a_child():
    run("""
model = Model(spec, num_threads=3)
expected = bits(model.forward_sequence(x))
def generation(left):
    pid = os.fork()
    if pid == 0:
        same = bits(model.forward_sequence(x)) == expected
        os._exit(0 if same and (left == 0 or generation(left - 1) == 0) else 1)
    return watched(pid)
assert generation(3) == 0
""")


@pytest.mark.parametrize("ending", ["", "sys.exit()", "os._exit(0)", "import gc; del model; gc.collect()"])
def test_exit_with_a_team_at_rest(ending):
    run(f"model = Model(spec, num_threads=4); model.forward_sequence(x)\n{ending}")


def test_exit_in_the_middle_of_a_call():
    run("""
for threads in (1, 2):
    model = Model(endless, num_threads=threads)
    threading.Thread(target=model.forward_sequence, args=(hours,), daemon=True).start()
time.sleep(0.2)
""")


INTERRUPT = """
model = Model(endless, num_threads={threads}, backend={backend!r})
short = hours[:, :50]
state = model.forward_sequence(short)[1]
kept, expected = bits(state), bits(model.forward_sequence(short, state))
late = []
for _ in range(3):
    asked = []
    def interrupt():
        time.sleep(0.15)
        asked.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt).start()
    try:
        model.forward_sequence(hours, state)
    except KeyboardInterrupt:
        late.append(time.perf_counter() - asked[0])
    assert bits(state) == kept
    assert bits(model.forward_sequence(short, state)) == expected
print(min(late))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_in_a_long_call(threads, backend):
    """Within 100 ms, and everything is as it was before the call."""
    assert float(run(INTERRUPT.format(threads=threads, backend=backend))) < 0.1


def test_ctrl_c_while_only_other_threads_work():
    """The caller's own rows are done, or the team is another call's and the caller works through all rows."""
    out = run("""
model = Model(network(stack("lstm", 1, 256, return_sequences=False)), num_threads=2)
long = np.broadcast_to(np.float32(0.1), (2, 10**6, 1))
def interrupted_after(seconds):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.perf_counter()
    try:
        model.forward_sequence(long, lengths=[0, 10**6])
    except KeyboardInterrupt:
        return time.perf_counter() - start - seconds
late = [interrupted_after(0.6)]
threading.Thread(target=model.forward_sequence, args=(long,), daemon=True).start()
time.sleep(0.05)
late.append(interrupted_after(0.6))
print(*late)
""")
    assert max(map(float, out.split())) < 0.2


def test_ctrl_c_while_ids_are_checked():
    """The last row holds an id beyond the vocabulary: whoever gets there is told so."""
    run("""
model = Model(network(embedding(9, 2), stack("rnn", 2, 1, return_sequences=False)))
ids = np.lib.stride_tricks.as_strided(np.array([1, 9]), (2, 3 * 10**9), (8, 0))
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    model.forward_sequence(ids)
except KeyboardInterrupt:
    pass
""")


def test_what_a_signal_handler_raises_comes_out():
    run("""
class Late(Exception):
    pass
def handler(number, frame):
    raise Late
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    Model(endless).forward_sequence(hours)
except Late:
    pass
""")


def test_a_signal_handler_that_returns_changes_nothing():
    run("""
called = []
signal.signal(signal.SIGALRM, lambda *_: called.append(1))
model = Model(endless, num_threads=2)
long = hours[:, :60000]
expected = bits(model.forward_sequence(long))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
got = bits(model.forward_sequence(long))
signal.setitimer(signal.ITIMER_REAL, 0)
assert got == expected
assert called
""")


def subnormals_live() -> bool:
    return bool(np.all(np.full(8, 1e-39, np.float32) * np.float32(1) != 0))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_subnormal_numbers_live_outside_calls(num_threads, engine_options):
    """Inside a call they are flushed to zero; the caller's floating-point environment is not touched."""
    spec = network(embedding(9, 4), stack("gru", 4, 8))
    model = Model(spec, num_threads=num_threads, **engine_options)
    assert subnormals_live()
    model.forward_sequence(inputs(spec, 4, 20))
    assert subnormals_live()
    with pytest.raises(IndexRangeError):
        model.forward_sequence(np.full((2, 2), 9))
    assert subnormals_live()
    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(model.forward_sequence, inputs(spec, 8, 20000)) for _ in range(2)]
        while not all(call.done() for call in busy):
            assert subnormals_live()
            assert pool.submit(subnormals_live).result()
        assert all(pool.map(lambda _: subnormals_live(), range(9)))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the floating-point mode of x86-64")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_subnormal_numbers_are_zeros_inside_calls(num_threads):
    """As numbers that come in, and as products that would go out."""
    tiny = np.float32(1e-40)
    layer = Dense("dense", np.array([[1.0], [1e-20]], np.float32), None, LINEAR)
    model = Model(network(layer), num_threads=num_threads)
    x = np.array([tiny, 1e-20, 1.0], np.float32).reshape(1, 3, 1)
    for batch in (1, 64):
        y = model.predict(np.repeat(x, batch, axis=0))
        np.testing.assert_array_equal(
            y, np.repeat([[[0, 0], [1e-20, 0], [1, 1e-20]]], batch, axis=0).astype(np.float32)
        )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="FE_UPWARD of x86-64")
def test_the_callers_rounding_mode_is_not_the_calls():
    """Nor does it differ from thread to thread, where only the caller's own is set."""
    run("""
import ctypes
libm, upward = ctypes.CDLL("libm.so.6"), 0x800
for spec in network(stack("lstm", 9, 64)), network(stack("gru", 9, 64), dense(64, 3), Softmax("s")):
    x = inputs(spec, 16, 60)
    models = [Model(spec, num_threads=threads) for threads in (1, 2, 3)]
    expected = bits(models[0].forward_sequence(x))
    libm.fesetround(upward)
    got = [bits(model.forward_sequence(x)) for model in models * 3]
    mode = libm.fegetround()
    libm.fesetround(0)
    assert mode == upward
    assert got == [expected] * 9
""")


def test_subnormal_numbers_live_in_signal_handlers_and_after_an_interrupted_call():
    run("""
def handler(number, frame):
    assert (np.full(8, 1e-39, np.float32) * np.float32(1) != 0).all()
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    Model(endless, num_threads=2).forward_sequence(hours)
except KeyboardInterrupt:
    pass
assert (np.full(8, 1e-39, np.float32) * np.float32(1) != 0).all()
""")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_no_thread_is_started_unasked(backend):
    """Nor is the environment, a signal handler or the locale changed."""
    out = run(
        """
import locale
from pathlib import Path
def now():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return len(list(Path("/proc/self/task").iterdir())), dict(os.environ), handlers, locale.setlocale(locale.LC_ALL)
before = now()
"""
        f"model = Model(spec, backend={backend!r})\n"
        """
model.forward_sequence(x)
model.predict(x, batch_size=2)
assert now() == before
Model(spec, num_threads=3)
assert now() == before
Model(spec, num_threads=3).forward_sequence(x)
print(now()[0] - before[0], now()[1:] == before[1:])
""",
        LSTM_FAST_NUM_THREADS="",
    )
    assert out.split() == ["2", "True"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_importing_starts_no_thread():
    source = (
        "import numpy, os; before = len(os.listdir('/proc/self/task')), dict(os.environ); import lstm_fast;"
        "lstm_fast._engine.available();"
        "assert (len(os.listdir('/proc/self/task')), dict(os.environ)) == before"
    )
    subprocess.run([sys.executable, "-c", source], timeout=60, check=True)
