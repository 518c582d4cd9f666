"""Tables of text about a model."""

from __future__ import annotations

import numpy as np
import pytest
from specs import dense, embedding, every_spec, stack, tiny

from lstm_fast.activations import Activation
from lstm_fast.spec import Elementwise, Masking, ModelSpec, Recurrent, Softmax
from lstm_fast.summary import layer_type, options, parameters, printable, summary_text, table, tensor_facts, tensor_text

SPECS = every_spec()


def test_summary_of_a_small_model():
    assert summary_text(tiny(source_kind="torch", source_sha256="ab" * 32)) == (
        "Layer  Type   Output            Parameters\n"
        "-----  -----  ----------------  ----------\n"
        "lstm   LSTM   (batch, time, 2)          40\n"
        "dense  Dense  (batch, time, 1)           3\n"
        "\n"
        "Parameters: 43 (0.2 KiB as float32)\n"
        "Input:      (batch, time, 2)\n"
        f"Source:     torch, SHA-256 {'ab' * 32}"
    )


def test_summary_says_what_runs_the_model():
    text = summary_text(tiny(), dtype=np.dtype(np.float32), backend="packed", isa="avx2", num_threads=1)
    assert text.endswith("\nRuns as:    float32, packed, avx2, 1 thread")
    assert summary_text(tiny(), num_threads=2).endswith("2 threads")


def test_shapes_follow_the_layout_and_the_last_output():
    spec = ModelSpec((stack(name="a"), stack(inputs=4, return_sequences=False, name="b"), dense()), batch_first=False)
    lines = summary_text(spec).splitlines()
    assert "(time, batch, 4)" in lines[2]
    assert "(batch, 4)" in lines[3]
    assert "(batch, 2)" in lines[4]
    assert "Input:      (time, batch, 3)" in lines


def test_a_network_of_ids_says_so():
    assert "Input:      (batch, time) integer ids" in summary_text(ModelSpec((embedding(), stack())))


@pytest.mark.parametrize("name", SPECS)
def test_every_model_has_a_summary(name):
    text = summary_text(SPECS[name])
    assert all(layer.name in text for layer in SPECS[name].layers)
    assert len(tensor_text(SPECS[name]).splitlines()) == 2 + len(list(SPECS[name].tensors()))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (stack(), "LSTM"),
        (stack("gru", layers=2), "GRU, 2 layers"),
        (stack("rnn", directions=2), "RNN, bidirectional"),
        (stack(reverse=True), "LSTM, reverse"),
        (embedding(), "Embedding"),
        (Masking("m"), "Masking"),
        (Softmax("s"), "Softmax"),
    ],
)
def test_layer_type(layer, expected):
    assert layer_type(layer) == expected


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (stack(), ""),
        (stack(return_sequences=False, masked_output="repeat"), "last output only, masked steps repeat"),
        (stack(proj=2), "projection 4 to 2"),
        (stack("gru", reset_after=False), "reset before"),
        (stack(bias=False), "no bias"),
        (stack(gate_activation=Activation("hard_sigmoid", 0.2, 0.5)), "gates hard_sigmoid(0.2, 0.5)"),
        (
            stack(activation=Activation("relu"), output_activation=Activation("elu", 1.0)),
            "activation relu, output elu(1)",
        ),
        (stack("rnn", gate_activation=Activation("relu"), output_activation=Activation("relu")), ""),
        (embedding(vocabulary=1234, mask_zero=True), "vocabulary 1,234, id 0 masked"),
        (Masking("m", -1.5), "mask value -1.5"),
        (dense(bias=False, activation=Activation("relu")), "relu, no bias"),
        (Elementwise("e", Activation("tanh")), "tanh"),
        (Softmax("s", log=True), "logarithm"),
        (Softmax("s"), ""),
    ],
)
def test_options(layer, expected):
    assert options(layer, masks=True) == expected


def test_masked_steps_matter_only_where_something_masks():
    assert options(stack(masked_output="repeat"), masks=False) == ""
    assert "masked steps repeat" in summary_text(SPECS["text"])
    assert "masked steps repeat" in summary_text(SPECS["masked"])
    assert "masked" not in summary_text(SPECS["lstm reverse"])


def test_cells_that_differ_are_pointed_at():
    plain, other = stack(), stack(activation=Activation("relu"))
    both = Recurrent("r", ((plain.layers[0][0], other.layers[0][0]),))
    assert options(both, masks=False) == "cells differ"


def test_parameters():
    assert parameters(stack(inputs=3, hidden=4)) == 4 * 4 * (3 + 4 + 1)
    assert parameters(stack("gru", inputs=3, hidden=4)) == 3 * 4 * (3 + 4 + 1) + 4
    assert parameters(Softmax("s")) == 0


def test_tensor_facts_know_their_origin():
    first, second = tensor_facts(SPECS["provenance"])[:2]
    assert first["source"].startswith("encoder.weight_ih_l0")
    assert first["note"] == "gates i,f,g,o"
    assert first["gates"] == "i,f,g,o"
    assert second["source"] == ""


def test_gates_are_named_where_they_are_stacked():
    gates = {fact["name"]: fact["gates"] for fact in tensor_facts(SPECS["gru"])}
    stacked = "z,r,n"
    assert gates == {
        "rnn.weight_ih_l0": stacked,
        "rnn.weight_hh_l0": stacked,
        "rnn.bias_l0": stacked,
        "rnn.bias_hn_l0": "",
    }
    assert {fact["gates"] for fact in tensor_facts(SPECS["rnn"])} == {""}


def test_table_drops_empty_columns_and_aligns():
    text = table(["A", "B", "Number"], [["x", "", "1"], ["long", "", "10"]], right={2})
    assert text == "A     Number\n----  ------\nx          1\nlong      10"


def test_table_without_rows_keeps_its_head():
    assert table(["A", "B"], []) == "A  B\n-  -"


def test_control_characters_are_escaped():
    assert printable("a\x1b[31m\n\u202eé\ud800") == "a\\x1b[31m\\n\\u202eé\\ud800"
    assert "\x1b" not in table(["A"], [["\x1b[2J"]])
