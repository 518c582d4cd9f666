"""Random PyTorch modules of every shape run as PyTorch runs them, on every instruction set and backend."""

from __future__ import annotations

import numpy as np
import pytest
from nets import EDGES, arrays, every_engine

import lstm_fast as lf

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")

TOLERANCE = 1e-5


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def size(rng: np.random.Generator) -> int:
    """1 .. 130, every other one at an edge of the kernels."""
    return int(rng.choice(EDGES)) if rng.integers(2) else int(rng.integers(1, 131))


def random_module(rng: np.random.Generator):
    kind = rng.choice(["LSTM", "GRU", "RNN"])
    hidden = size(rng)
    options = {
        "num_layers": int(rng.integers(1, 4)),
        "bidirectional": bool(rng.integers(2)),
        "bias": bool(rng.integers(4)),
        "batch_first": bool(rng.integers(2)),
    }
    if kind == "LSTM" and hidden > 1 and rng.integers(3) == 0:
        options["proj_size"] = int(rng.integers(1, hidden))
    if kind == "RNN":
        options["nonlinearity"] = str(rng.choice(["tanh", "relu"]))
    torch.manual_seed(int(rng.integers(2**31)))
    return getattr(nn, kind)(size(rng), hidden, **options).eval()


def random_call(module, rng: np.random.Generator):
    """x, an initial state or None, and lengths or None: all that a caller of PyTorch may choose."""
    batch, time = int(rng.choice([1, 2, 3, 5, 4, 6, 7, 13, 19])), int(rng.integers(1, 25))
    unbatched = rng.integers(5) == 0
    cells = module.num_layers * (2 if module.bidirectional else 1)

    def array(*shape):
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    lead = (time,) if unbatched else (batch, time) if module.batch_first else (time, batch)
    middle = () if unbatched else (batch,)
    x = array(*lead, module.input_size)
    state = None
    if rng.integers(2):
        h = array(cells, *middle, getattr(module, "proj_size", 0) or module.hidden_size)
        state = (h, array(cells, *middle, module.hidden_size)) if isinstance(module, nn.LSTM) else h
    lengths = None if unbatched or rng.integers(2) else rng.integers(1, time + 1, batch)
    return x, state, lengths


def torch_forward(module, x, state, lengths):
    with torch.no_grad():
        if lengths is None:
            return module(x, state)
        first = module.batch_first
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(lengths), first, enforce_sorted=False)
        y, final = module(packed, state)
        return nn.utils.rnn.pad_packed_sequence(y, first, total_length=x.shape[1 if first else 0])[0], final


@pytest.mark.parametrize("seed", range(300))
def test_a_random_module_agrees_with_torch(seed):
    rng = np.random.default_rng(seed)
    module = random_module(rng)
    x, state, lengths = random_call(module, rng)
    expected = arrays(torch_forward(module, x, state, lengths))
    for options in every_engine():
        result = arrays(lf.from_torch(module, **options).forward_sequence(x, state, lengths=lengths))
        for got, wanted in zip(result, expected, strict=True):
            assert got.shape == tuple(wanted.shape)
            np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=TOLERANCE, err_msg=f"{module}, {options}")
