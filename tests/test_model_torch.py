"""Live PyTorch modules through ``from_torch`` with every option, and files of theirs through ``load``."""

from __future__ import annotations

import io

import numpy as np
import pytest
from nets import bits, every_engine

import lstm_fast as lf

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.LSTM(3, 4, num_layers=2, batch_first=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", every_engine(), ids=lambda engine: "-".join(engine.values()))
def test_from_torch_takes_the_options(module, engine, dtype):
    model = lf.from_torch(module, dtype=dtype, num_threads=2, **engine)
    assert (str(model.dtype), model.num_threads) == (dtype, 2)
    assert (model.isa, model.backend) == (engine["isa"], engine["backend"])
    x = torch.randn(2, 5, 3)
    expected = module(x)[0].detach().numpy()
    np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-6)


def test_weights_are_copied(module):
    model = lf.from_torch(module)
    x = torch.randn(2, 5, 3)
    before = bits(model.predict(x))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert bits(model.predict(x)) == before


def test_load_takes_the_options(module, tmp_path):
    torch.save(module.state_dict(), tmp_path / "model.pt")
    options = {"dtype": "float64", "backend": "packed", "isa": "generic", "num_threads": 2}
    model = lf.load(tmp_path / "model.pt", batch_first=True, **options)
    assert (str(model.dtype), model.backend, model.isa, model.num_threads) == tuple(options.values())
    x = torch.randn(2, 5, 3)
    assert bits(model.predict(x)) == bits(lf.from_torch(module, **options).predict(x))
    stored = io.BytesIO((tmp_path / "model.pt").read_bytes())
    assert bits(lf.load(stored, **options).predict(x)) == bits(model.predict(x))


def test_a_tensor_that_cannot_be_read_is_refused(module):
    model = lf.from_torch(module)
    for x in (
        torch.zeros(2, 5, 3, requires_grad=True),
        torch.zeros(2, 5, 3).to_sparse(),
        torch.zeros(2, 5, 3).bfloat16(),
    ):
        with pytest.raises(lf.DTypeError, match="x: cannot be read as an array"):
            model.predict(x)


def test_a_half_precision_tensor_is_read(module):
    model = lf.from_torch(module)
    x = torch.randn(2, 5, 3).half()
    assert bits(model.predict(x)) == bits(model.predict(x.float()))


def test_a_packed_sequence_is_to_be_padded(module):
    packed = nn.utils.rnn.pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)])
    with pytest.raises(lf.DTypeError, match=r"x: .* pad sequences to one length and pass lengths=") as caught:
        lf.from_torch(module).forward_sequence(packed)
    assert "inhomogeneous" not in str(caught.value)
