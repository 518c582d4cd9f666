"""Keras files against the outputs that Keras recorded, without Keras."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from lstm_fast import Model, _engine, reference
from lstm_fast.errors import ModelFormatError, UnsupportedModelError
from lstm_fast.importers import load_spec
from lstm_fast.spec import Recurrent

pytest.importorskip("h5py")

FIRST_SEVEN = (
    "k2_lstm32_softmax k2_embedding_lstm k2_lstm64_series k2_lstm50x2 k2_sentiment k2_lstm128_softmax k2_digits_relu"
).split()
VARIANTS = (
    "k2_hard_sigmoid k2_gru_reset_before k2_gru_reset_after k2_masked_bidirectional k2_masked_repeat k2_backwards_stack"
    " k2_nested_frozen k2_nested_called k2_functional k2_cudnn k23_masked_bidirectional k23_functional k3_sequential"
    " k3_functional"
).split()
FILES = [f"{name}.h5" for name in FIRST_SEVEN + VARIANTS] + [
    f"{name}.keras" for name in ("k2_functional", "k3_sequential", "k3_functional")
]


def agree(spec, record):
    close(reference.forward(spec, record["x"])[0], record)


def close(y, record):
    assert y.shape == record["y"].shape
    assert np.abs(y - record["y"]).max() <= 1e-6 * np.abs(record["y"]).max()


@pytest.mark.parametrize("file", FILES)
def test_agrees_with_what_keras_recorded(golden, file):
    spec = load_spec(golden / "keras" / file)
    agree(spec, np.load(golden / "keras" / f"{file.split('.')[0]}.npz"))
    assert (spec.source_kind, spec.batch_first, spec.dtype) == ("keras", True, np.float32)
    assert [item.target for item in spec.provenance] == [name for name, _ in spec.tensors()]


@pytest.mark.parametrize("file", FILES)
def test_the_engine_agrees_with_what_keras_recorded(golden, file):
    spec = load_spec(golden / "keras" / file)
    record = np.load(golden / "keras" / f"{file.split('.')[0]}.npz")
    available = _engine.available()
    for isa, backend in product(available["isas"], available["backends"]):
        close(Model(spec, isa=isa, backend=backend).predict(record["x"]), record)


@pytest.mark.parametrize("file", ["k2_save_weights.h5", "k2_new.weights.h5"])
def test_weights_with_a_configuration_beside_them(golden, file):
    folder = golden / "keras"
    agree(load_spec(folder / file, config=folder / "k2_weights.json"), np.load(folder / "k2_weights.npz"))
    with pytest.raises(UnsupportedModelError, match=r"config='model\.json'"):
        load_spec(folder / file)


def test_configuration_beside_a_whole_model_is_refused(golden):
    with pytest.raises(UnsupportedModelError, match="configuration of its own"):
        load_spec(golden / "keras" / "k2_cudnn.h5", config=golden / "keras" / "k2_weights.json")


def test_weights_of_another_model_are_refused_by_layer(golden):
    config = json.loads((golden / "keras" / "k2_weights.json").read_text())
    config["config"]["layers"].append({"class_name": "Dense", "config": {"name": "more", "units": 4}})
    with pytest.raises(ModelFormatError, match=r"weights for 3 layers .*'more'.*found weights of 2"):
        load_spec(golden / "keras" / "k2_save_weights.h5", config=json.dumps(config).encode())


def test_provenance_names_the_path_in_the_file_and_the_gate_order(golden):
    spec = load_spec(golden / "keras" / "k3_sequential.keras")
    first = spec.provenance[0]
    assert first.target == "bidirectional.weight_ih_l0"
    assert first.source == "layers/bidirectional/forward_layer/cell/vars/0"
    assert first.note == "gates i,f,c,o; transposed"


def test_masks_repeat_or_zero_as_the_writing_keras_did(golden):
    def masked_outputs(file):
        return [
            layer.masked_output for layer in load_spec(golden / "keras" / file).layers if isinstance(layer, Recurrent)
        ]

    assert masked_outputs("k23_masked_bidirectional.h5") == ["repeat", "repeat"]
    assert masked_outputs("k2_masked_bidirectional.h5") == ["zero", "repeat"]
    assert masked_outputs("k3_functional.keras") == ["repeat", "zero", "repeat"]


def test_loading_imports_no_framework_and_h5py_not_here(golden):
    program = (
        "import sys; from lstm_fast.importers import load_spec; [load_spec(path) for path in sys.argv[1:]];"
        "print(sorted({'keras', 'tf_keras', 'tensorflow', 'torch', 'onnx', 'h5py'} & set(sys.modules)))"
    )
    files = [golden / "keras" / "k3_sequential.keras", golden / "keras" / "k2_cudnn.h5"]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
