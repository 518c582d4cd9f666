"""Random PyTorch modules, by every route, against the float64 reference."""

from __future__ import annotations

import argparse
import io
import itertools

import numpy as np
import pytest

from lstm_fast.errors import UnsupportedModelError
from lstm_fast.importers import load_spec
from lstm_fast.importers.raw import torch_arrays
from lstm_fast.importers.torch import from_torch_module
from lstm_fast.reference import forward
from lstm_fast.spec import Dense, Elementwise, Recurrent, Softmax

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = [  # TorchScript and quantised tensors are deprecated, and files of both are around
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]


def saved(value, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def random_stack(rng: np.random.Generator):
    name = rng.choice(["LSTM", "GRU", "RNN"])
    hidden = int(rng.integers(2, 10))
    options = {
        "num_layers": int(rng.integers(1, 4)),
        "bidirectional": bool(rng.integers(2)),
        "bias": bool(rng.integers(2)),
        "batch_first": bool(rng.integers(2)),
    }
    if name == "LSTM" and rng.integers(2):
        options["proj_size"] = int(rng.integers(1, hidden))
    if name == "RNN" and rng.integers(2):
        options["nonlinearity"] = "relu"
    torch.manual_seed(int(rng.integers(2**31)))
    return getattr(nn, name)(int(rng.integers(1, 10)), hidden, dtype=torch.float64, **options)


def assert_same(spec, module, rng: np.random.Generator) -> None:
    """The reference on ``spec`` gives y and the final state of ``module``, from random initial states."""
    assert spec.batch_first == module.batch_first
    batch, cells = 3, module.num_layers * (2 if module.bidirectional else 1)
    x = rng.standard_normal((batch, 4, module.input_size))
    h = rng.standard_normal((cells, batch, getattr(module, "proj_size", 0) or module.hidden_size))
    c = rng.standard_normal((cells, batch, module.hidden_size))
    is_lstm = isinstance(module, nn.LSTM)
    start = tuple(map(torch.from_numpy, (h, c))) if is_lstm else torch.from_numpy(h)
    with torch.no_grad():
        layout = torch.from_numpy(x if module.batch_first else x.swapaxes(0, 1).copy())
        expected, final = module(layout, start)
    expected = expected.numpy() if module.batch_first else expected.numpy().swapaxes(0, 1)
    y, states = forward(spec, x, [(h, c) if is_lstm else h])
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(states[0] if is_lstm else states, final if is_lstm else [final], strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_random_stack_by_every_route(seed):
    rng = np.random.default_rng(seed)
    module = random_stack(rng)
    layout = module.batch_first
    name = type(module).__name__.lower()
    relu = ":relu" if getattr(module, "nonlinearity", "") == "relu" else ""
    weights = module.state_dict()
    assert_same(from_torch_module(module), module, rng)
    for zipped, protocol in itertools.product((True, False), (2, 4)):
        options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}
        assert_same(load_spec(saved(weights, **options), module=name + relu, batch_first=layout), module, rng)
        assert_same(load_spec(saved(module, **options)), module, rng)
        checkpoint = {
            "args": argparse.Namespace(size=[1, (2, {3})], device=torch.device("cpu"), dtype=torch.float16),
            "net": {f"module.enc.{key}": value for key, value in weights.items()},
            "optimizer": torch.optim.Adam(module.parameters()),
            "rng": torch.get_rng_state(),
            "numpy": np.float64(3),
        }
        assert_same(load_spec(saved(checkpoint, **options), module="enc" + relu, batch_first=layout), module, rng)
    scripted = io.BytesIO()
    torch.jit.save(torch.jit.script(module), scripted)
    said = relu or (":tanh" if name == "rnn" else "")
    assert_same(load_spec(scripted.getvalue(), module=name + said, batch_first=layout), module, rng)
    with pytest.raises(UnsupportedModelError, match="TorchScript keeps batch_first as code"):
        load_spec(scripted.getvalue(), module=name + said)
    if name == "rnn":
        with pytest.raises(UnsupportedModelError, match="keeps its nonlinearity as code"):
            load_spec(scripted.getvalue(), batch_first=layout)
    arrays: dict[str, list] = {}
    for key, value in weights.items():
        arrays.setdefault(key.split("_l")[0], []).append(value)
    options = {"activation": "relu"} if relu else {}
    spec = torch_arrays(name, **arrays, bidirectional=module.bidirectional, batch_first=layout, **options)
    assert_same(spec, module, rng)


def test_safetensors_file():
    tensors = pytest.importorskip("safetensors.torch")
    rng = np.random.default_rng(5)
    module = random_stack(rng)
    weights = {key: value.contiguous() for key, value in module.state_dict().items()}
    relu = ":relu" if getattr(module, "nonlinearity", "") == "relu" else ""
    name = type(module).__name__.lower()
    data = tensors.save(weights, metadata={"format": "pt"})
    assert_same(load_spec(data, module=name + relu, batch_first=module.batch_first), module, rng)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cell_is_a_stack_of_one_layer(name):
    cell = getattr(nn, name)(3, 4, dtype=torch.float64)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    h = torch.zeros(2, 4, dtype=torch.float64)
    state = (h, h) if name == "LSTMCell" else h
    steps = []
    with torch.no_grad():
        for t in range(5):
            state = cell(x[:, t], state)
            steps.append(state[0] if name == "LSTMCell" else state)
    for spec in (from_torch_module(cell), load_spec(saved(cell)), load_spec(saved(cell.state_dict()))):
        y, _ = forward(spec, x.numpy())
        np.testing.assert_allclose(y, torch.stack(steps, 1).numpy(), rtol=0, atol=1e-12)


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.LeakyReLU(0.3), nn.ELU(), nn.ELU(0.7), nn.SELU(), nn.GELU(),
    nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Softsign(), nn.Sigmoid(), nn.Tanh(), nn.Hardsigmoid(),
    nn.Hardswish(), nn.Softmax(-1), nn.LogSoftmax(dim=2),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activation_module(activation):
    x = torch.linspace(-9, 9, 2 * 7 * 3, dtype=torch.float64).reshape(2, 7, 3)
    net = nn.Sequential(nn.Linear(3, 4), nn.Identity(), activation, nn.Dropout(0.5)).double().eval()
    with torch.no_grad():
        expected = net(x).numpy()
    for spec in (from_torch_module(net), load_spec(saved(net))):
        np.testing.assert_allclose(forward(spec, x.numpy())[0], expected, rtol=0, atol=1e-8)


def test_sequential_hands_on_the_output_sequence():
    net = nn.Sequential(
        nn.Embedding(9, 3), nn.GRU(3, 4, batch_first=True), nn.Sequential(nn.Linear(4, 5), nn.Tanh()), nn.Softmax(-1)
    )
    for spec in (from_torch_module(net), load_spec(saved(net))):
        assert [layer.name for layer in spec.layers] == ["0", "1", "2.0", "3"]
        _, gru, dense, softmax = spec.layers
        assert spec.takes_ids
        assert isinstance(gru, Recurrent)
        assert gru.return_sequences
        assert isinstance(dense, Dense)
        assert dense.activation.name == "tanh"
        assert isinstance(softmax, Softmax)
    alone = from_torch_module(nn.Sequential(nn.RNN(2, 3), nn.ReLU()))
    assert isinstance(alone.layers[1], Elementwise)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 3)
        self.rnn = nn.RNN(3, 4, nonlinearity="relu", batch_first=True)
        self.head = nn.Sequential(nn.Linear(4, 2), nn.Sigmoid())


class OwnLSTM(nn.LSTM):
    pass


class OwnLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_parts_of_an_unknown_class_keep_their_attributes():
    net = Net()
    for source in (net, nn.DataParallel(net)):
        with pytest.raises(UnsupportedModelError, match=r'module="embed, rnn, head\.0"'):
            from_torch_module(source)
        data = saved({"model": source})
        for spec in (
            from_torch_module(source, module="embed, rnn:last, head"),
            load_spec(data, module="embed,rnn,head"),
        ):
            assert spec.layers[1].layers[0][0].activation.name == "relu"
            assert spec.layers[2].activation.name == "sigmoid"
            assert spec.batch_first
    with pytest.raises(UnsupportedModelError, match="says nonlinearity 'relu', not 'tanh'"):
        from_torch_module(net, module="rnn:tanh")
    with pytest.raises(UnsupportedModelError, match="rnn has batch_first=True"):
        from_torch_module(net, module="rnn", batch_first=False)


def test_a_subclass_is_not_taken_for_its_base():
    with pytest.raises(UnsupportedModelError, match='module="lstm"'):
        from_torch_module(OwnLSTM(2, 3))
    assert from_torch_module(OwnLSTM(2, 3), module="lstm").layers


def test_own_classes_in_a_sequential_are_refused_until_they_are_named():
    net = nn.Sequential(nn.GRU(2, 3, batch_first=True), OwnLinear(3, 2))
    for load in (
        lambda **options: from_torch_module(net, **options),
        lambda **options: load_spec(saved(net), **options),
    ):
        with pytest.raises(UnsupportedModelError, match=r"1 \(.*OwnLinear\) is no class of PyTorch; .*module='1'"):
            load()
        assert [layer.name for layer in load(module="0, 1").layers] == ["0", "1"]


def test_torchscript_drops_no_module():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.LeakyReLU(0.5)).eval()
    scripted = io.BytesIO()
    torch.jit.save(torch.jit.script(net), scripted)
    with pytest.raises(
        UnsupportedModelError, match=r"(?s)0 +Linear 3 -> 4.*2 +LeakyReLU: TorchScript keeps its settings"
    ):
        load_spec(scripted.getvalue())
    assert load_spec(scripted.getvalue(), module="0:relu").layers[0].activation.name == "relu"
    torch.jit.save(torch.jit.script(nn.Sequential(*net[:2])), scripted := io.BytesIO())
    assert [layer.name for layer in load_spec(scripted.getvalue()).layers] == ["0"]
    with pytest.raises(UnsupportedModelError, match=r"load the file that torch\.jit\.save writes"):
        from_torch_module(torch.jit.script(net))
    with pytest.raises(UnsupportedModelError, match="RecursiveScriptModule"):
        from_torch_module(nn.Sequential(torch.jit.script(net)))


def test_the_mode_of_an_rnn_is_what_it_runs():
    module = nn.RNN(2, 3)
    module.nonlinearity = "relu"  # PyTorch asks ``mode``, which is still RNN_TANH
    for spec in (from_torch_module(module), load_spec(saved(module))):
        assert spec.layers[0].layers[0][0].activation.name == "tanh"


def hooked():
    module = nn.LSTM(2, 3)
    module.register_forward_hook(lambda *_: None)
    return module


def wrapped(wrap):
    """A wrapper with a hook of its own."""
    wrapper = wrap(nn.LSTM(2, 3))
    wrapper.register_forward_hook(lambda *_: None)
    return wrapper


def replaced():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    module[0].forward = torch.square
    return module


def endless():
    module = nn.Sequential()
    module.append(module)
    return module


REFUSED = {
    "LayerNorm": lambda: nn.Sequential(nn.LSTM(2, 3), nn.LayerNorm(3)),
    "forward hooks": hooked,
    r"DataParallel\) has forward hooks": lambda: wrapped(nn.DataParallel),
    r"OptimizedModule\) has forward hooks": lambda: wrapped(torch.compile),
    "a forward of its own": replaced,
    "does one contain itself": endless,
    "max_norm": lambda: nn.Sequential(nn.Embedding(3, 2, max_norm=1.0), nn.LSTM(2, 3)),
    "dim=-1": lambda: nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=None)),
    "beta=1": lambda: nn.Sequential(nn.Linear(2, 3), nn.Softplus(beta=2)),
    "threshold=20": lambda: nn.Sequential(nn.Linear(2, 3), nn.Softplus(threshold=5)),
    "Hardtanh is not supported": lambda: nn.Sequential(nn.Linear(2, 3), nn.Hardtanh()),
    "parametrized": lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
    "got int32": lambda: nn.Sequential(nn.Embedding.from_pretrained(torch.ones(3, 2, dtype=torch.int32))),
    "batch_first=True and .* batch_first=False": lambda: nn.Sequential(nn.GRU(2, 3), nn.GRU(3, 3, batch_first=True)),
    "modules in it follow": lambda: nn.ModuleList([nn.GRU(2, 3), nn.GRU(3, 3)]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_honoured_is_refused(message):
    with pytest.raises(UnsupportedModelError, match=message):
        from_torch_module(REFUSED[message]())


def test_a_forward_of_its_own_is_refused_in_files_too():
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        with pytest.raises(UnsupportedModelError, match="a forward of its own"):
            load_spec(saved(replaced(), **options))


def test_tensors_that_are_not_what_their_storage_holds():
    module = nn.Linear(2, 3)
    module.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64).conj().imag)
    assert module.weight.is_neg()
    spec = from_torch_module(module)
    np.testing.assert_array_equal(spec.layers[0].weight, module.weight.detach().resolve_neg().numpy())
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        with pytest.raises(UnsupportedModelError, match=r"weight: .* got torch\.Tensor marked as negated"):
            load_spec(saved(module, **options))


def test_modules_without_weights_yet():
    for module in (nn.LazyLinear(3), nn.Linear(2, 3, device="meta")):
        with pytest.raises(UnsupportedModelError):
            from_torch_module(module)
    spec = from_torch_module(nn.Sequential(nn.GRU(2, 3), nn.LazyLinear(3)), module="0")
    assert spec.layers[0].name == "0"


def test_quantized_modules_and_tensors_are_refused():
    quantized = torch.quantize_per_tensor(torch.ones(12, 3), 1.0, 0, torch.qint8)
    data = saved({"weight_ih_l0": quantized, "weight_hh_l0": torch.ones(12, 3).to(torch.float8_e4m3fn)})
    with pytest.raises(UnsupportedModelError, match=r"weight_ih_l0: .* got torch\._utils\._rebuild_qtensor"):
        load_spec(data, module="recurrent")


def test_no_module():
    for value, words in (
        (3, "int"),
        (nn.LSTM, "the class LSTM"),
        (nn.LSTM(2, 3).state_dict(), r"OrderedDict; .* load\(\)"),
    ):
        with pytest.raises(TypeError, match=rf"expected a torch\.nn\.Module, got {words}"):
            from_torch_module(value)


def test_ambiguous_checkpoint_is_named_by_path():
    weights, average = nn.GRU(2, 3).state_dict(), nn.GRU(2, 3).state_dict()
    data = saved({"model": weights, "ema": average})
    with pytest.raises(UnsupportedModelError, match=r"(?s)model +GRU 2 -> 3.*ema +GRU 2 -> 3"):
        load_spec(data)
    cell = load_spec(data, module="ema").layers[0].layers[0][0]
    np.testing.assert_array_equal(cell.weight_hh[3:6], average["weight_hh_l0"].numpy()[:3])


def test_averaged_and_compiled_prefixes():
    module = nn.GRU(2, 3)
    averaged = torch.optim.swa_utils.AveragedModel(module)
    assert load_spec(saved(averaged.state_dict())).layers[0].name == "gru"


def test_live_weights_are_copied():
    module = nn.LSTM(2, 3)
    spec = from_torch_module(module)
    before = spec.layers[0].layers[0][0].weight_ih.copy()
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    np.testing.assert_array_equal(spec.layers[0].layers[0][0].weight_ih, before)
