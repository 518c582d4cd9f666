"""PyTorch files against what PyTorch computed when they were written; no torch needed here."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from lstm_fast.activations import Activation
from lstm_fast.errors import (
    DTypeError,
    ModelFormatError,
    ModelLimitError,
    ShapeError,
    UnsupportedModelError,
)
from lstm_fast.importers import load_spec
from lstm_fast.importers.raw import torch_arrays
from lstm_fast.limits import Limits
from lstm_fast.reference import forward
from lstm_fast.spec import Dense, Embedding, Recurrent, Softmax

FILES = {
    "lstm_projected.pt": {},
    "gru_legacy.pth": {},
    "rnn_relu_module.pt": {},
    "sequential_module_legacy.pth": {},
    "text_bfloat16.safetensors": {"module": "embed, lstm, head:softmax"},
    "checkpoint_float64.pt": {"module": ["gru:last", "hidden:relu", "out:log_softmax"]},
    "lstm_script.pt": {"batch_first": True},
    "gru_cell.pt": {},
    "lstm_half_views.pt": {},
}


@pytest.mark.parametrize("name", FILES)
def test_golden_file(golden, name):
    path = golden / "torch" / name
    spec = load_spec(path, **FILES[name])
    recorded = np.load(path.with_suffix(".npz"))
    y, states = forward(spec, recorded["x"])
    atol = 1e-13 if spec.dtype == np.float64 else 2e-8  # two float32 biases are summed in float32
    np.testing.assert_allclose(y, recorded["y"], rtol=0, atol=atol)
    if "h" in recorded:
        h, c = states[0] if isinstance(states[0], tuple) else (states[0], None)
        np.testing.assert_allclose(h, recorded["h"], rtol=0, atol=atol)
        if "c" in recorded:
            np.testing.assert_allclose(c, recorded["c"], rtol=0, atol=atol)


def test_path_bytes_and_file_object_are_one(golden):
    path = golden / "torch" / "gru_legacy.pth"
    data = path.read_bytes()
    digests = {load_spec(source).source_sha256 for source in (path, str(path), data, bytearray(data), io.BytesIO(data))}
    with path.open("rb") as file:
        digests.add(load_spec(file).source_sha256)
    assert len(digests) == 1


def test_float64_stays_float64_and_halves_are_widened(golden):
    assert load_spec(golden / "torch/checkpoint_float64.pt", module="gru").dtype == np.float64
    assert load_spec(golden / "torch/lstm_half_views.pt").dtype == np.float32
    assert load_spec(golden / "torch/text_bfloat16.safetensors", module="lstm").dtype == np.float32


def test_every_tensor_has_a_provenance(golden):
    for name, arguments in FILES.items():
        spec = load_spec(golden / "torch" / name, **arguments)
        assert {origin.target for origin in spec.provenance} == {target for target, _ in spec.tensors()}, name
    spec = load_spec(golden / "torch/checkpoint_float64.pt", module="gru")
    origin = {p.target: p for p in spec.provenance}["gru.bias_l0"]
    assert origin.source == "module.gru.bias_ih_l0 + module.gru.bias_hh_l0"
    assert "r,z,n" in origin.note


def test_batch_first_is_true_unless_the_module_or_the_caller_says_otherwise(golden):
    assert load_spec(golden / "torch/gru_legacy.pth").batch_first
    assert not load_spec(golden / "torch/gru_legacy.pth", batch_first=False).batch_first
    assert load_spec(golden / "torch/rnn_relu_module.pt").batch_first
    with pytest.raises(UnsupportedModelError, match="batch_first=True, but batch_first=False was given"):
        load_spec(golden / "torch/rnn_relu_module.pt", batch_first=False)


# Choosing modules.


def safetensors_file(arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    names = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64", np.dtype(np.int64): "I64"}
    header, body = ({"__metadata__": metadata} if metadata else {}), b""
    for name, array in arrays.items():
        raw = array.tobytes()
        offsets = [len(body), len(body) + len(raw)]
        header[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": offsets}
        body += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def zeros(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}


def lstm(prefix: str = "", inputs: int = 3, hidden: int = 4) -> dict[str, np.ndarray]:
    shapes = {"weight_ih_l0": (4 * hidden, inputs), "weight_hh_l0": (4 * hidden, hidden)}
    shapes |= {"bias_ih_l0": (4 * hidden,), "bias_hh_l0": (4 * hidden,)}
    return {prefix + name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


NET = lstm("lstm.") | zeros(embed__weight=(9, 3), head__weight=(2, 4), head__bias=(2,), norm__weight=(4,))


def test_several_modules_are_listed_with_an_example():
    with pytest.raises(UnsupportedModelError) as caught:
        load_spec(safetensors_file(NET))
    message = str(caught.value)
    assert 'module="embed, lstm, head"' in message
    for part in ("lstm   LSTM 3 -> 4", "embed  matrix 9 x 3", "head   Linear 4 -> 2", "norm   not supported"):
        assert part in message


def test_chain_options():
    spec = load_spec(safetensors_file(NET), module="embed, lstm:last, :relu, head:gelu:softmax")
    embed, stack, relu, head, softmax = spec.layers
    assert isinstance(embed, Embedding)
    assert isinstance(stack, Recurrent)
    assert not stack.return_sequences
    assert relu.activation == Activation("relu")
    assert isinstance(head, Dense)
    assert head.activation == Activation("gelu")
    assert isinstance(softmax, Softmax)
    assert not softmax.log
    assert load_spec(safetensors_file(NET), module=["embed:linear"]).layers[0].weight.shape == (9, 3)


def test_a_matrix_without_bias_is_linear_behind_the_first_place():
    arrays = lstm("rnn.") | zeros(out__weight=(4, 4))
    assert isinstance(load_spec(safetensors_file(arrays), module="rnn, out").layers[1], Dense)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("option", ["", ":relu", ":tanh"])
def test_nonlinearity_is_an_option_of_rnn_alone(name, option):
    rows = {"lstm": 16, "gru": 12, "rnn": 4}[name]
    data = safetensors_file(zeros(weight_ih_l0=(rows, 3), weight_hh_l0=(rows, 4)))
    if name == "rnn" or not option:
        activation = load_spec(data, module=name + option).layers[0].layers[0][0].activation
        assert activation == Activation("relu" if option == ":relu" else "tanh")
    else:
        with pytest.raises(UnsupportedModelError, match="nonlinearity of an RNN"):
            load_spec(data, module=name + option)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("nope", "nothing is called 'nope'"),
        ("", "one of them is empty"),
        ("lstm, ", "one of them is empty"),
        ("lstm:", "an option is empty"),
        ("lstm:bogus", "'bogus' is no option of 'lstm'"),
        ("head:last", "'last' is no option of 'head'"),
        ("head:embedding", "'embedding' is no option of 'head'"),
        ("lstm:softmax", "add the entry ':softmax' behind it"),
        ("head:affine", "takes alpha, beta"),
        ("norm", "norm is not supported"),
        ([], "expected names"),
    ],
)
def test_faults_in_module(module, message):
    with pytest.raises(UnsupportedModelError, match=message):
        load_spec(safetensors_file(NET), module=module)


@pytest.mark.parametrize("options", [{"module": 3}, {"module": [3]}, {"batch_first": "no"}, {"limits": {"entries": 3}}])
def test_arguments_of_the_wrong_type(options):
    [name] = options
    with pytest.raises(TypeError, match=f"^{name}: expected "):
        load_spec(safetensors_file(NET), **{"module": "lstm"} | options)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("head, lstm", "lstm: expected 3 input features, got 2"),
        ("lstm, embed:embedding", "must come first"),
        ("embed, lstm:last, lstm", "needs a sequence"),
    ],
)
def test_chains_that_do_not_fit(module, message):
    with pytest.raises(ModelFormatError, match=message):
        load_spec(safetensors_file(NET), module=module)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_are_dropped_from_names(prefix):
    spec = load_spec(safetensors_file({prefix + name: value for name, value in lstm("enc.").items()}))
    assert spec.layers[0].name == "enc"


# Faults in the tensors.


def test_every_wrong_shape_is_named_at_once():
    arrays = lstm("net.") | zeros(
        net__weight_ih_l1=(16, 4), net__weight_hh_l1=(4, 16), net__bias_ih_l1=(3,), net__bias_hh_l1=(16,)
    )
    with pytest.raises(ModelFormatError) as caught:
        load_spec(safetensors_file(arrays))
    assert "net.weight_hh_l1: expected shape (16, 4), got (4, 16)" in str(caught.value)
    assert "net.bias_ih_l1: expected shape (16,), got (3,)" in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("bias_hh_l0", "bias_hh_l0: missing; expected shape"),
        ("weight_ih_l0", "weight_ih_l0: missing"),
        ("weight_hh_l0", "weight_hh_l0: missing"),
    ],
)
def test_missing_tensors(missing, message):
    arrays = lstm()
    del arrays[missing]
    with pytest.raises(ModelFormatError, match=message):
        load_spec(safetensors_file(arrays))


def test_gaps_between_layers_and_directions():
    gap = lstm() | {name.replace("_l0", "_l2"): value for name, value in lstm().items()}
    with pytest.raises(ModelFormatError, match=r"numbered from 0 without a gap, got \[0, 2\]"):
        load_spec(safetensors_file(gap))
    half = lstm() | zeros(weight_ih_l0_reverse=(16, 3))
    with pytest.raises(ModelFormatError, match="weight_hh_l0_reverse: missing"):
        load_spec(safetensors_file(half))
    mixed = lstm() | zeros(weight_ih=(16, 3))
    with pytest.raises(ModelFormatError, match="with and without a layer number"):
        load_spec(safetensors_file(mixed))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"weight_hh_l0_g": np.zeros(1, np.float32)}, "weight_hh_l0_g: not a plain module's"),
        ({"weight_hr_l0": np.zeros((2, 9), np.float32)}, r"weight_hr_l0: expected shape \(2, 4\), got \(2, 9\)"),
        ({"weight_hh_l0": np.zeros((16, 4), np.int64)}, "weight_hh_l0: expected float32, .* got I64"),
        ({"weight_hh_l0": np.zeros((16, 16, 1), np.float32)}, "weight_hh_l0: expected 2 dimensions"),
        ({"weight_hh_l0": np.zeros((10, 4), np.float32)}, "4 .LSTM., 3 .GRU. or 1 .RNN."),
    ],
)
def test_tensors_that_are_not_honoured(extra, message):
    with pytest.raises(ModelFormatError, match=message):
        load_spec(safetensors_file(lstm() | extra), module="lstm" if "weight_hh_l0_g" in extra else None)


def test_a_recurrent_module_with_parts_of_its_own_is_refused():
    arrays = lstm("lstm.") | zeros(lstm__norm__weight=(4, 4))
    with pytest.raises(UnsupportedModelError, match=r"has a module of its own, lstm\.norm"):
        load_spec(safetensors_file(arrays), module="lstm")


# What a file is, and which arguments go with it.


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", ModelFormatError, "empty"),
        (b"hello world", ModelFormatError, "understood are Keras"),
        (b"\x08\x0a\x12\x07pytorch", UnsupportedModelError, "ONNX import is not available"),
        (b"\0" * 257 + b"ustar\0", UnsupportedModelError, "tar archive"),
        (b"\x80\x02}q\x00.", UnsupportedModelError, "a plain pickle"),
    ],
)
def test_other_files_say_what_they_are(data, error, message):
    with pytest.raises(error, match=message):
        load_spec(data)


def test_a_zip_of_something_else():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelFormatError, match="neither a Keras nor a PyTorch file"):
        load_spec(buffer.getvalue())


def test_arguments_that_mean_nothing_are_refused(golden):
    with pytest.raises(UnsupportedModelError, match="config= means nothing for a PyTorch checkpoint"):
        load_spec(golden / "torch/gru_legacy.pth", config=b"{}")


def test_only_regular_files_are_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero"):
        with pytest.raises(ModelFormatError, match="expected a regular file"):
            load_spec(path)
    with pytest.raises(FileNotFoundError):
        load_spec(tmp_path / "nothing.pt")
    with pytest.raises(TypeError, match="binary mode"):
        load_spec(io.StringIO("text"))
    with pytest.raises(TypeError, match="expected a path"):
        load_spec(3)


def test_limits_name_their_parameter(golden):
    path = golden / "torch/checkpoint_float64.pt"
    for name, value in {"file_bytes": 100, "entries": 3, "header_bytes": 50, "nesting": 1, "memo": 5}.items():
        with pytest.raises(ModelLimitError, match=rf"limits=lf.Limits\({name}="):
            load_spec(path, module="gru", limits=Limits(**{name: value}))
    with pytest.raises(ModelLimitError, match="file_bytes"):
        load_spec(io.BytesIO(path.read_bytes()), limits=Limits(file_bytes=100))
    for value in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="expected a positive int"):
            Limits(entries=value)


def test_no_framework_is_imported(golden):
    code = (
        "import sys; from lstm_fast.importers import load_spec;"
        f"load_spec({str(golden / 'torch/rnn_relu_module.pt')!r});"
        "print([m for m in ('torch', 'keras', 'tensorflow', 'onnx', 'pickle', 'zipfile') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(json.loads(found.replace("'", '"'))) <= {"pickle", "zipfile"}  # NumPy may import these two


# Raw arrays.


def test_raw_arrays_in_several_layers_and_directions():
    rng = np.random.default_rng(0)
    shapes = [(12, 3), (12, 3), (12, 8), (12, 8)]
    weight_ih = [rng.standard_normal(shape) for shape in shapes]
    weight_hh = [rng.standard_normal((12, 4)) for _ in shapes]
    bias = [rng.standard_normal(12) for _ in shapes]
    spec = torch_arrays("gru", weight_ih, weight_hh, bias, bias, bidirectional=True)
    assert spec.recurrent[0].num_directions == 2
    assert len(spec.recurrent[0].layers) == 2
    assert spec.dtype == np.float64
    cell = spec.recurrent[0].layers[1][1]
    z = cell.weight_ih[:4]  # PyTorch stacks r, z, n
    np.testing.assert_array_equal(z, weight_ih[3][4:8])
    np.testing.assert_array_equal(cell.bias_hn, bias[3][8:])


def test_one_bias_alone_is_added_to_zeros():
    rng = np.random.default_rng(1)
    w, u, b = rng.standard_normal((12, 3)), rng.standard_normal((12, 4)), rng.standard_normal(12)
    x = rng.standard_normal((2, 5, 3))
    zero = np.zeros(12)
    for alone, both in (((b, None), (b, zero)), ((None, b), (zero, b))):
        y, _ = forward(torch_arrays("gru", w, u, *alone), x)
        expected, _ = forward(torch_arrays("gru", w, u, *both), x)
        np.testing.assert_array_equal(y, expected)
    before = torch_arrays("gru", w, u, b, b, reset_after=False).recurrent[0].layers[0][0]
    assert before.bias_hn is None
    np.testing.assert_array_equal(before.bias[:4], 2 * b[4:8])


def test_raw_arrays_are_copied():
    w, u = np.ones((4, 3), np.float32), np.ones((4, 4), np.float32)
    spec = torch_arrays("rnn", w, u, activation="relu")
    w[:] = 0
    assert spec.recurrent[0].layers[0][0].weight_ih.all()
    assert spec.recurrent[0].layers[0][0].activation == Activation("relu")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight_hh": np.zeros((4, 16))}, ShapeError, r"weight_hh_l0: expected shape \(16, 4\), got \(4, 16\)"),
        ({"weight_ih": np.zeros((16, 3), int)}, DTypeError, "weight_ih_l0: expected dtype float16"),
        ({"weight_hh": [np.zeros((16, 4))] * 2}, ShapeError, "weight_hh: expected 1 arrays as in weight_ih, got 2"),
        ({"weight_ih": []}, ShapeError, "weight_ih: expected 1 arrays per layer"),
        ({"bidirectional": True}, ShapeError, "weight_ih: expected 2 arrays per layer"),
        ({"weight_ih": np.zeros(())}, ShapeError, "weight_ih_l0: expected 2 dimensions"),
        ({"weight_ih": np.zeros((0, 3))}, ShapeError, "weight_ih_l0: expected 2 dimensions of 1 or more"),
        ({"activation": "swoosh"}, ValueError, "unknown activation 'swoosh'"),
        ({"activation": "affine"}, ValueError, r"takes alpha, beta: give lstm_fast\.Activation\('affine'"),
        ({"weight_ih": None, "weight_hh": None}, ShapeError, "weight_ih: expected an array, got None"),
        ({"bias_ih": np.zeros(3)}, ShapeError, r"^bias_ih_l0: expected shape \(\d+,\), got \(3,\)$"),
        ({"kind": "lru"}, ValueError, "kind: expected one of"),
    ],
)
def test_faults_in_raw_arrays(arguments, error, message):
    given = {"kind": "lstm", "weight_ih": np.zeros((16, 3)), "weight_hh": np.zeros((16, 4))} | arguments
    with pytest.raises(error, match=message):
        torch_arrays(**given)
