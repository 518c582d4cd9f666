"""One hash per sequence: docs/same-bits.md as a test.

Every way to run the same sequence must give the same SHA-256, and the recorded one: so machines agree with one another,
and versions with those before. The two recorded hashes are of kernels with fused multiply-adds and of those without.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from nets import network
from specs import dense, embedding, stack

from lstm_fast import Model
from lstm_fast.spec import Softmax

STEPS = 61

STREAM = network(
    stack("lstm", 33, 72, layers=2, name="a"),
    stack("gru", 72, 50, name="b"),
    stack("gru", 50, 41, reset_after=False, name="c"),
    stack("rnn", 41, 90, name="d"),
    stack("lstm", 90, 70, proj=24, name="e"),
    dense(24, 19),
    Softmax("softmax"),
)
BOTH_WAYS = network(
    embedding(40, 60), stack("lstm", 60, 80, directions=2, name="a"), stack("gru", 160, 75, directions=2, name="b")
)

#: With fused multiply-adds, and without.
RECORDED = {
    "stream": (
        "1ae9772e0c93a1f3682dd8630c0510ae9baa41442a1cb4ae647e41ba33f1bb30",
        "cadcda157e9f468dc2e02c5f695db7689fbe3a3507eee0efa1ca3344fedd3167",
    ),
    "both ways": (
        "b9cca00cad880b66922af20173b2b6207eb57a4083c7974e9a92bd1ff8d0ddb2",
        "07d4d89691b747b599e5cac844bacbe86e4812fa98281f76c54c1d8fd9f1c71c",
    ),
}


def sequence(spec, seed: int) -> np.ndarray:
    """(time, features), or ids (time,)."""
    random = np.random.RandomState(seed)
    if spec.takes_ids:
        return random.randint(0, 40, STEPS)
    return random.uniform(-2, 2, (STEPS, spec.input_size)).astype(np.float32)


def digest(y, states) -> str:
    """Of one sequence: y (time, features), states (cells, features)."""
    found = hashlib.sha256(np.ascontiguousarray(y))
    for state in states:
        for part in state if isinstance(state, tuple) else (state,):
            found.update(np.ascontiguousarray(part))
    return found.hexdigest()


def row_of(states, row: int) -> list:
    return [tuple(p[:, row] for p in s) if isinstance(s, tuple) else s[:, row] for s in states]


def alone(model, x):
    y, states = model.forward_sequence(x)
    yield digest(y, states)


def batches(model, x):
    """In every place of batches of every size, beside other sequences."""
    for batch in (1, 2, 3, 5, 6, 7, 12, 13, 17, 31, 64):
        others = np.stack([sequence(model.spec, 10 + row) for row in range(batch)])
        for row in {0, batch // 2, batch - 1}:
            filled = others.copy()
            filled[row] = x
            y, states = model.forward_sequence(filled)
            yield digest(y[row], row_of(states, row))


def padding(model, x):
    """Ahead of steps that do not count."""
    for batch, more in ((1, 1), (3, 40), (16, 7)):
        padded = np.stack([np.concatenate([x, x[:more]])] * batch)
        y, states = model.forward_sequence(padded, lengths=[STEPS] * batch)
        yield digest(y[-1, :STEPS], row_of(states, batch - 1))


def chunks(model, x):
    if any(stack.num_directions == 2 for stack in model.spec.recurrent):
        return
    for size in (1, 2, 7, 30, 60):
        state, pieces = None, []
        for begin in range(0, STEPS, size):
            y, state = model.forward_sequence(x[begin : begin + size], state)
            pieces.append(y)
        yield digest(np.concatenate(pieces), state)


def layouts(model, x):
    """At odd addresses, with gaps, backwards in memory, column by column, read-only, and as float64."""
    raw = np.zeros(x.nbytes + 64, np.uint8)
    for offset in (1, 4, 36):
        moved = raw[offset : offset + x.nbytes].view(x.dtype).reshape(x.shape)
        moved[:] = x
        yield from alone(model, moved)
    gaps = np.zeros((2 * STEPS, *x.shape[1:]), x.dtype)
    gaps[::2] = x
    yield from alone(model, gaps[::2])
    yield from alone(model, x[::-1].copy()[::-1])
    yield from alone(model, np.asfortranarray(x))
    frozen = x.copy()
    frozen.flags.writeable = False
    yield from alone(model, frozen)
    yield from alone(model, x.astype(np.int32 if model.spec.takes_ids else np.float64))


def threads(model, x):
    for num_threads in (2, 3, 4, 7):
        many = Model(model.spec, isa=model.isa, backend="packed", num_threads=num_threads)
        for ways in (alone, batches, chunks):
            yield from ways(many, x)


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("ways", [alone, batches, padding, chunks, layouts, threads], ids=lambda ways: ways.__name__)
def test_one_hash(name, ways, isa):
    spec = {"stream": STREAM, "both ways": BOTH_WAYS}[name]
    model = Model(spec, isa=isa, backend="packed")
    assert set(ways(model, sequence(spec, 0))) <= {RECORDED[name][isa == "generic"]}
