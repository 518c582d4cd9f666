"""Keras configurations: what is refused, by which words, and that no configuration whatever breaks the reader."""

from __future__ import annotations

import io
import json
import zipfile
from copy import deepcopy

import numpy as np
import pytest
from configurations import layer, sequential, spec_of

from lstm_fast.activations import Activation
from lstm_fast.errors import LstmFastError, ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.importers import load_spec
from lstm_fast.importers._hdf5 import Hdf5File
from lstm_fast.importers._keras_config import Version, parse_json
from lstm_fast.importers._keras_model import draft_model, flat
from lstm_fast.importers._keras_weights import from_paths
from lstm_fast.limits import Limits
from lstm_fast.spec import Recurrent

LSTM = {"units": 4}
REFUSED = {
    "unlisted class": (layer("Conv1D", filters=3), r"Conv1D layer 'conv1d': layers of class 'Conv1D'"),
    "lambda": (layer("Lambda", function=["4wEAAA==", None, None]), "'Lambda' are not supported"),
    "vocabulary": (layer("StringLookup", vocabulary="/etc/passwd"), "'StringLookup'"),
    "text": (layer("TextVectorization"), "'TextVectorization'"),
    "own class": (layer("LSTM", **LSTM) | {"registered_name": "mine>LSTM"}, "'mine>LSTM'.*no code is ever loaded"),
    "own class of a script": (
        layer("Dense", units=4) | {"module": None, "registered_name": "Dense"},
        "class 'Dense' of module None is not Keras' own",
    ),
    "own module": (layer("LSTM", **LSTM) | {"module": "os"}, "module 'os' is not Keras' own"),
    "class with a path": (layer("os.system"), "layers of class 'os.system'"),
    "own function": (
        layer("LSTM", **LSTM, activation={"module": "__main__", "class_name": "function", "config": "tanh"}),
        "function of somebody's own",
    ),
    "unknown activation": (layer("LSTM", **LSTM, activation="sparsemax"), "unknown activation 'sparsemax'"),
    "softmax inside": (layer("LSTM", **LSTM, activation="softmax"), "only elementwise activations"),
    "unknown key": (layer("LSTM", **LSTM, peephole=True), "'lstm': peephole=True is not supported"),
    "quantized": (layer("Dense", units=2, quantization_config={"mode": "int8"}), "quantization_config="),
    "quantized policy": (
        layer("Dense", units=2, dtype={"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}),
        "dtype policy {'class_name': 'QuantizedDTypePolicy'",
    ),
    "lora": (layer("Dense", units=2, lora_rank=4), "lora_rank=4 .* built without enable_lora"),
    "mixed precision": (layer("LSTM", **LSTM, dtype="mixed_float16"), "dtype policy 'mixed_float16'"),
    "mixed precision object": (
        layer("LSTM", **LSTM, dtype={"class_name": "DTypePolicy", "config": {"name": "bfloat16"}}),
        "dtype policy 'bfloat16'",
    ),
    "time major": (layer("LSTM", **LSTM, time_major=True), "time_major=True"),
    "return state": (layer("LSTM", **LSTM, return_state=True), "return_state=True"),
    "backwards sequences": (layer("LSTM", **LSTM, go_backwards=True, return_sequences=True), "go_backwards=True with"),
    "merge mode": (layer("Bidirectional", layer=layer("LSTM", **LSTM), merge_mode="sum"), "merge_mode='sum'"),
    "two kinds": (
        layer("Bidirectional", layer=layer("LSTM", **LSTM), backward_layer=layer("GRU", units=4, go_backwards=True)),
        "both of the same kind",
    ),
    "both forwards": (
        layer("Bidirectional", layer=layer("LSTM", **LSTM), backward_layer=layer("LSTM", **LSTM)),
        "backward_layer with True",
    ),
    "time distributed lstm": (
        layer("TimeDistributed", layer=layer("LSTM", **LSTM)),
        "TimeDistributed is supported around",
    ),
    "own cell": (layer("RNN", cell=layer("MinimalRNNCell", units=3)), "'MinimalRNNCell'"),
    "softmax axis": (layer("Softmax", axis=1), "axis=1"),
    "mask in float64": (
        layer("Masking", mask_value=0.1, dtype="float64"),
        "mask_value=0.1 is not supported; in float64",
    ),
    "relu cut": (layer("ReLU", max_value=3.0), "max_value=3.0"),
    "relu slope and threshold": (
        layer("ReLU", negative_slope=0.1, threshold=1),
        "max_value=None, negative_slope=0.1, threshold=1 is not supported",
    ),
    "flatten a sequence": (layer("Flatten"), "reshaping a sequence"),
    "sparse input": (layer("InputLayer", batch_shape=[None, None, 3], sparse=True), "sparse input"),
    "text input": (layer("InputLayer", batch_shape=[None, 1], dtype="string"), "input of dtype 'string'"),
    "half input": (layer("InputLayer", batch_shape=[None, None, 3], dtype="float16"), "input of dtype 'float16'"),
    "integer input": (layer("InputLayer", batch_shape=[None, None, 3], dtype="int32"), "input of dtype 'int32'"),
    "images": (layer("InputLayer", batch_shape=[None, 9, 9, 3]), "expected input"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    item, words = REFUSED[case]
    with pytest.raises(UnsupportedModelError, match=words):
        spec_of(sequential(item, layer("LSTM", "last", units=4)))


@pytest.mark.parametrize("wrapper", [layer("Bidirectional"), layer("RNN")])
def test_before_keras_3_partly_frozen_wrappers_are_refused(wrapper):
    inner = ("LSTM", "layer") if wrapper["class_name"] == "Bidirectional" else ("LSTMCell", "cell")
    wrapper["config"][inner[1]] = layer(inner[0], **LSTM, trainable=False)
    draft_model(sequential(wrapper), Version("3.0"), Limits())
    with pytest.raises(UnsupportedModelError, match="only a part of the layer is trainable"):
        draft_model(sequential(wrapper), Version("2.15"), Limits())


CONTRADICTORY = {
    "units": (layer("LSTM", units=0), "'lstm': units: expected a positive integer, got 0"),
    "no units": (layer("LSTM"), "got None"),
    "flag": (layer("LSTM", units=2, use_bias="yes"), "use_bias: expected true or false"),
    "no config": ({"class_name": "LSTM", "config": 3}, "expected its config to be a JSON object"),
    "no class": ({"config": {}}, "expected an object with a class_name"),
    "mask value": (layer("Masking", mask_value=float("nan")), "mask_value: expected a finite number"),
    "sequences": (
        layer(
            "Bidirectional",
            layer=layer("LSTM", units=2),
            backward_layer=layer("LSTM", units=2, go_backwards=True, return_sequences=True),
        ),
        "same return_sequences",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTORY)
def test_contradictions_are_format_errors(case):
    item, words = CONTRADICTORY[case]
    with pytest.raises(ModelFormatError, match=words) as caught:
        spec_of(sequential(item))
    assert type(caught.value) is ModelFormatError


def test_a_second_mask_and_a_masked_softmax_layer_are_refused():
    with pytest.raises(UnsupportedModelError, match="a second mask"):
        spec_of(sequential(layer("Masking"), layer("Masking", "again"), layer("LSTM", units=2)))
    with pytest.raises(UnsupportedModelError, match="Softmax layer after a mask"):
        spec_of(sequential(layer("Masking"), layer("LSTM", units=2, return_sequences=True), layer("Softmax")))
    spec_of(sequential(layer("Masking"), layer("LSTM", units=2), layer("Softmax")))


@pytest.mark.parametrize(
    ("dtype", "rows", "fits"),
    [("int32", 10**6, True), ("uint8", 256, True), ("uint8", 257, False), ("float32", 9, True), ("bool", 2, False)],
)
def test_integer_inputs_must_hold_every_id(dtype, rows, fits):
    network = sequential(
        layer("InputLayer", batch_shape=[None, None], dtype=dtype),
        layer("Embedding", input_dim=rows, output_dim=2),
        layer("LSTM", units=2),
    )
    if fits:
        draft_model(network, Version("3.0"), Limits())
    else:
        with pytest.raises(UnsupportedModelError, match=f"input of dtype '{dtype}'"):
            draft_model(network, Version("3.0"), Limits())


def test_precisions_do_not_change_behind_a_mask():
    wide = layer("LSTM", units=2, dtype="float64")
    with pytest.raises(UnsupportedModelError, match="'float64' after 'float32' is not supported behind a mask"):
        spec_of(sequential(layer("Masking", dtype="float32"), layer("Dropout", rate=0.1), wide))
    assert spec_of(sequential(layer("Masking", dtype="float64"), wide)).layers
    assert spec_of(sequential(layer("Dropout", rate=0.1, dtype="float32"), wide)).layers


def test_zeros_for_masked_steps_reach_the_last_output():
    last = layer("GRU", units=2, zero_output_for_mask=True)
    with pytest.raises(UnsupportedModelError, match="ends in a masked step"):
        spec_of(sequential(layer("Masking"), last))
    assert spec_of(sequential(last)).layers
    spec = spec_of(
        sequential(layer("Masking"), layer("GRU", units=2, zero_output_for_mask=True, return_sequences=True))
    )
    assert spec.layers[1].masked_output == "zero"


def test_bidirectional_masks_of_early_tensorflow_are_refused():
    item = layer("Bidirectional", layer=layer("LSTM", units=2, return_sequences=True))
    with pytest.raises(UnsupportedModelError, match=r"2\.1\.6-tf"):
        spec_of(sequential(layer("Masking"), item), "2.1.6-tf")


@pytest.mark.parametrize(
    ("version", "slope"), [("2.2.4", 0.2), ("2.2.4-tf", 0.2), ("2.15.0", 0.2), ("3.0.5", 1 / 6), ("3.15.1", 1 / 6)]
)
def test_hard_sigmoid_is_that_of_the_version(version, slope):
    spec = spec_of(sequential(layer("LSTM", units=2, recurrent_activation="hard_sigmoid")), version)
    assert spec.layers[0].layers[0][0].gate_activation == Activation("hard_sigmoid", slope, 0.5)


@pytest.mark.parametrize("text", ["9" * 5000 + ".0", "\u0663.\u0661", "three"])
def test_what_is_no_version_is_unknown(text):
    assert Version(text).number is None


def test_hard_sigmoid_of_an_unknown_version_is_refused():
    with pytest.raises(UnsupportedModelError, match="add a key keras_version"):
        spec_of(sequential(layer("LSTM", units=2, recurrent_activation="hard_sigmoid")), "")


ACTIVATIONS = [
    (layer("LeakyReLU", alpha=0.1), Activation("leaky_relu", 0.1)),
    (layer("LeakyReLU", negative_slope=0.2), Activation("leaky_relu", 0.2)),
    (layer("LeakyReLU"), Activation("leaky_relu", 0.3)),
    (layer("Activation", activation="leaky_relu"), Activation("leaky_relu", 0.2)),
    (layer("ReLU"), Activation("relu")),
    (layer("ReLU", max_value=6.0), Activation("relu6")),
    (layer("ReLU", threshold=0.5), Activation("thresholded_relu", 0.5)),
    (layer("ReLU", negative_slope=0.5), Activation("leaky_relu", 0.5)),
    (layer("ThresholdedReLU", theta=0.7), Activation("thresholded_relu", float(np.float32(0.7)))),
    (layer("ELU", alpha=2.0), Activation("elu", 2.0)),
    (layer("Activation", activation="swish"), Activation("silu")),
    (layer("Activation", activation={"class_name": "ELU", "config": {"alpha": 3}}), Activation("elu", 3.0)),
    (
        layer("Activation", activation={"module": "builtins", "class_name": "function", "config": "selu"}),
        Activation("selu"),
    ),
]


@pytest.mark.parametrize(("item", "expected"), ACTIVATIONS)
def test_activation_layers(item, expected):
    assert spec_of(sequential(layer("LSTM", units=2), item)).layers[1].activation == expected


def test_a_mask_value_is_what_its_layer_compares_with():
    for version, dtype, value in (
        ("3.8", None, np.float32(0.1)),
        ("2.15", None, np.float32(0.1)),
        ("2.15", "float64", 0.1),
    ):
        masking = layer("Masking", mask_value=0.1, dtype=dtype)
        spec = spec_of(sequential(masking, layer("LSTM", units=2, dtype=dtype)), version)
        assert spec.layers[0].mask_value == float(value)


def test_what_has_no_effect_at_inference_is_dropped():
    spec = spec_of(
        sequential(
            layer("InputLayer", batch_input_shape=[None, 5, 3]),
            layer("GaussianNoise", stddev=0.1),
            layer("SpatialDropout1D", rate=0.2),
            layer("LSTM", units=2, dropout=0.3, recurrent_dropout=0.1, stateful=True, unroll=True, implementation=1),
            layer("Dropout", rate=0.5, noise_shape=None, seed=3),
            layer("Flatten"),
            layer("Reshape", target_shape=[2]),
            layer("Activation", activation="linear"),
            layer("Dense", units=3, activation="log_softmax", kernel_regularizer={"class_name": "L2", "config": {}}),
        )
    )
    assert [item.name for item in spec.layers] == ["lstm", "dense", "dense.softmax"]
    assert spec.layers[2].log


def test_stacked_cells_become_layers_of_their_own():
    cells = layer("StackedRNNCells", cells=[layer("GRUCell", units=2), layer("GRUCell", units=5)])
    first, second = spec_of(sequential(layer("RNN", cell=cells, go_backwards=True))).layers
    assert (first.name, second.name, first.return_sequences, second.return_sequences) == ("rnn.0", "rnn.1", True, False)
    assert first.reverse
    assert second.reverse


# ------------------------------------------------------------------------------------------------ weights and bytes


def test_all_faults_of_the_weights_come_in_one_error():
    drafts = flat(draft_model(sequential(layer("LSTM", units=2), layer("Dense", units=3)), Version("3.0"), Limits()))
    ones = {
        "layers/lstm/cell/vars/0": np.ones((4, 8), np.float32),
        "layers/lstm/cell/vars/1": np.ones((3, 8), np.float32),
        "layers/dense/vars/0": np.ones((2, 3), np.float32),
        "layers/gru/cell/vars/0": np.ones(1, np.float32),
        "layers/lstm/cell/seed_generator/vars/0": np.ones(2, np.float32),
    }
    with pytest.raises(ModelFormatError) as caught:
        from_paths(drafts, Hdf5File({}, None, ones, {"layers/dense/vars/1": "float16"}))
    assert str(caught.value).splitlines() == [
        "4 faults in the weights:",
        "  LSTM layer 'lstm', cell: recurrent_kernel: layers/lstm/cell/vars/1: expected shape (2, 8), got (3, 8)",
        "  LSTM layer 'lstm', cell: bias: expected layers/lstm/cell/vars/2, which is not in the file",
        "  Dense layer 'dense': bias: layers/dense/vars/1: expected float32 or float64, got float16",
        "  layers/gru/cell/vars/0: in the file, but no layer of the configuration takes it",
    ]


def test_huge_units_allocate_nothing():
    drafts = draft_model(sequential(layer("LSTM", units=2**31 - 1)), Version("3.0"), Limits())
    with pytest.raises(ModelFormatError, match="not in the file"):
        from_paths(flat(drafts), Hdf5File({}, None, {}, {}))


def archive(config, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("config.json", config if isinstance(config, bytes | str) else json.dumps(config))
        for name, data in ({"model.weights.h5": b""} | {n.replace("__", "."): d for n, d in members.items()}).items():
            made.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (b"{", ModelFormatError, "expected JSON"),
        (b"\xff\xfe{}", ModelFormatError, "expected JSON"),
        (b"[]", ModelFormatError, "expected a JSON object"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, ModelLimitError, "nesting"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ModelFormatError, "nesting|expected JSON"),
        (b'{"class_name": "\\ud800", "config": {}}', ModelFormatError, "no valid text"),
        (b'{"units": ' + b"9" * 5000 + b"}", ModelFormatError, "expected JSON"),
    ],
)
def test_hostile_json(config, error, words):
    with pytest.raises(error, match=words):
        load_spec(archive(config))


def test_limits_name_their_parameter():
    with pytest.raises(ModelLimitError, match=r"lf\.Limits\(header_bytes=\.\.\.\)"):
        parse_json(b"{" + b" " * 100 + b"}", Limits(header_bytes=100), "config.json")


def test_weights_that_are_not_hdf5_are_refused():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        made.writestr("config.json", "{}")
        made.writestr("model.weights.npz", b"")
    with pytest.raises(UnsupportedModelError, match=r"weights in 'model\.weights\.npz'.*save it again"):
        load_spec(data.getvalue())


JUNK = [
    None,
    True,
    -1,
    0,
    2**40,
    1.5,
    "",
    "LSTM",
    [],
    [None],
    {},
    {"class_name": "LSTM", "config": {}},
    [[["a", 0, 0, {}]]],
]


def positions(value, path=()):
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from positions(inner, (*path, key))


@pytest.mark.parametrize("file", ["k3_sequential", "k3_functional"])
def test_no_replaced_value_breaks_the_reader(golden, file):
    with zipfile.ZipFile(golden / "keras" / f"{file}.keras") as made:
        config = json.loads(made.read("config.json"))
    for index, path in enumerate(list(positions(config))[1:]):
        for junk in JUNK[index % 3 :: 3]:
            mutant = deepcopy(config)
            inner = mutant
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = junk
            try:
                draft_model(mutant, Version("3.1"), Limits())
            except LstmFastError:
                continue


def test_every_layer_of_the_result_is_validated():
    spec = spec_of(sequential(layer("GRU", units=2, reset_after=False), layer("Dense", units=1)))
    assert isinstance(spec.layers[0], Recurrent)
    assert not spec.layers[0].layers[0][0].reset_after
    assert spec.faults() == []
