"""How much memory a model takes: bounded, and independent of the length of sequences and of the shapes seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from nets import network
from specs import stack

from lstm_fast.fileformat import write_lstmf

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status")

MIB = 1 << 20

PROLOGUE = """
import sys

def now(name):
    "VmHWM, the peak of memory in use so far, or VmRSS, the present use; in bytes."
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))

import numpy as np
numpy_alone = now("VmHWM")
sys.path.insert(0, {tests!r})

def predict_side_by_side(model, x, count):
    "The peak of memory during so many calls at once, and what is in use after them, over what was before; in bytes."
    import ctypes
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier
    before, started = now("VmRSS"), Barrier(count)
    def call(_):
        started.wait()
        model.predict(x)
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(call, range(count)))
    during = now("VmHWM") - before
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    return during, now("VmRSS") - before
"""


def measure(script: str) -> list[int]:
    """The integers that a script in a fresh process prints."""
    source = PROLOGUE.format(tests=str(Path(__file__).parent)) + script
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


@pytest.mark.parametrize(
    "layers",
    [
        'stack("lstm", 8, 8, return_sequences=False)',
        'stack("gru", 8, 8, layers=2, return_sequences=False), dense(8, 3)',
        'stack("lstm", 8, 8, directions=2, return_sequences=False)',
    ],
)
def test_a_hundred_times_the_steps_take_no_more_memory(layers, backend):
    """Beside the caller's x, which is read where it is, even as a view that repeats one step."""
    grown = measure(f"""
from nets import network
from specs import dense, stack
from lstm_fast import Model
model = Model(network({layers}), backend={backend!r})
x = np.random.default_rng(0).random((1, 1_000_000, 8), np.float32)
repeated = np.broadcast_to(x[:, :1], x.shape)
model.predict(x[:, :10_000])
before = now("VmHWM")
model.predict(x)
model.predict(repeated)
print(now("VmHWM") - before)
""")
    assert grown[0] <= MIB


def test_many_shapes_take_no_more_than_the_largest():
    """Nor do calls that fail."""
    grown = measure("""
from nets import inputs, network
from specs import stack
from lstm_fast import Model
spec = network(stack("lstm", 8, 8, directions=2, layers=2))
model = Model(spec, num_threads=1)
x = inputs(spec, 64, 2000)
out = np.empty((64, 2000, 16), np.float32)
model.forward_sequence(x, out=out)
before = now("VmHWM")
for batch in range(1, 64, 3):
    for time in range(1, 2000, 197):
        model.forward_sequence(x[:batch, :time], out=out[:batch, :time])
        try:
            model.forward_sequence(x[:batch, :time], out=out[:batch, :time], lengths=[time + 1] * batch)
        except ValueError:
            pass
print(now("VmHWM") - before)
""")
    assert grown[0] <= MIB


def test_what_a_model_keeps_after_calls_side_by_side_is_bounded():
    """Six calls of 25 MiB of scratch each; at most 64 MiB wait for the next ones."""
    during, after = measure("""
from nets import network
from specs import stack
from lstm_fast import Model
model = Model(network(stack("rnn", 1, 8, directions=2, layers=3, return_sequences=False)), num_threads=1)
x = np.broadcast_to(np.float32(0.5), (1, 200_000, 1))
model.predict(x[:, :10])
print(*predict_side_by_side(model, x, 6))
""")
    assert during > 100 * MIB  # otherwise the calls were not side by side
    assert after <= 72 * MIB


def test_whole_pages_count_for_what_a_model_keeps():
    """Many workspaces a little above 1 MiB, each of a page of 2 MiB."""
    _, after = measure("""
import ctypes
from nets import inputs, network
from specs import stack
from lstm_fast import Model
M_ARENA_MAX = -8  # of malloc: one arena, for what it keeps in each thread's is not the model's
getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)(M_ARENA_MAX, 1)
spec = network(stack("lstm", 32, 64, return_sequences=False))
model = Model(spec, num_threads=1)
x = inputs(spec, 4, 10000)
model.predict(x)
print(*predict_side_by_side(model, x, 60))
""")
    assert 30 * MIB < after <= 72 * MIB  # less, and the calls were not side by side


def test_a_native_file_takes_twice_its_weights(tmp_path):
    """Once as the file has them, once as the kernels read them."""
    spec = network(stack("lstm", 1024, 1024))
    weights = sum(value.nbytes for _, value in spec.tensors())
    write_lstmf(spec, tmp_path / "model.lstmf")
    grown = measure(f"""
import lstm_fast
model = lstm_fast.load({str(tmp_path / "model.lstmf")!r})
model.predict(np.zeros((1, 50, 1024), np.float32))
print(now("VmHWM") - numpy_alone)
""")
    assert grown[0] <= 2 * weights + 15 * MIB
