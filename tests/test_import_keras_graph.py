"""Functional Keras models: a single path in any order, and what lies beside it."""

from __future__ import annotations

import pytest
from configurations import layer, spec_of

from lstm_fast.errors import UnsupportedModelError
from lstm_fast.importers._keras_config import Version
from lstm_fast.importers._keras_model import draft_model, flat
from lstm_fast.limits import Limits


def tensor(name, output=0):
    return {"class_name": "__keras_tensor__", "config": {"shape": [None], "keras_history": [name, 0, output]}}


def functional(*nodes, output=("b", 0, 0), source="in"):
    """Layers as (item, name of the layer before, keywords)."""
    layers = [layer("InputLayer", source) | {"name": source, "inbound_nodes": []}]
    for item, before, keywords in nodes:
        calls = [{"args": [tensor(before)], "kwargs": keywords}] if isinstance(before, str) else before
        layers.append(item | {"name": item["config"]["name"], "inbound_nodes": calls})
    return {
        "class_name": "Functional",
        "config": {"name": "net", "layers": layers, "input_layers": [source, 0, 0], "output_layers": list(output)},
    }


A, B = layer("LSTM", "a", units=2, return_sequences=True), layer("LSTM", "b", units=3)


def test_functional_chain_in_any_order_of_its_layers():
    spec = spec_of(functional((A, "in", {"training": False, "mask": None}), (B, "a", {})))
    assert [item.name for item in spec.layers] == ["a", "b"]
    backwards = functional((A, "in", {}), (B, "a", {}))
    backwards["config"]["layers"].reverse()
    drafts = flat(draft_model(backwards, Version("3.0"), Limits()))
    assert [item.place.name for item in drafts] == ["a", "b"]


FUNCTIONAL_REFUSED = {
    "shared": (functional((A, [{"args": [tensor("in")], "kwargs": {}}] * 2, None), (B, "a", {})), "called 2 times"),
    "branch": (functional((A, "in", {}), (layer("Dense", "c", units=1), "in", {}), (B, "a", {})), "'c' lies beside it"),
    "cycle": (functional((A, "b", {}), (B, "a", {})), "no single path"),
    "nowhere": (functional((A, "ghost", {}), (B, "a", {})), "no single path leads from its input to 'ghost'"),
    "state output": (
        functional((A, "in", {}), (B, "a", {}), output=("b", 0, 1)),
        "output_layers: expected exactly one",
    ),
    "two outputs": (
        functional((A, "in", {}), (B, "a", {}), output=(["a", 0, 0], ["b", 0, 0])),
        "output_layers: expected exactly one",
    ),
    "initial state": (
        functional((A, "in", {"initial_state": [tensor("in")]}), (B, "a", {})),
        "called with 'initial_state'",
    ),
    "two inputs": (
        functional((A, [{"args": [tensor("in"), tensor("in")], "kwargs": {}}], None), (B, "a", {})),
        "expected one input",
    ),
    "own mask": (functional((A, "in", {"mask": tensor("in")}), (B, "a", {})), "a mask of its own"),
    "subclass": ({"class_name": "MyModel", "config": {}}, "expected a Sequential or Functional model, got 'MyModel'"),
}


@pytest.mark.parametrize("case", FUNCTIONAL_REFUSED)
def test_functional_refused_by_name(case):
    described, words = FUNCTIONAL_REFUSED[case]
    with pytest.raises(UnsupportedModelError, match=words):
        spec_of(described)


def masked(value):
    not_equal = layer("NotEqual", "ne") | {"name": "ne"}
    calls = [{"args": [tensor("in"), value], "kwargs": {}}]
    any_step = layer("Any", "any", axis=-1, keepdims=False)
    return functional(
        (layer("Masking", "m", mask_value=0.5), "in", {}),
        (not_equal, calls, None),
        (any_step, "ne", {}),
        (A, "m", {"mask": tensor("any")}),
        (B, "a", {"mask": tensor("any")}),
    )


def test_a_mask_in_the_graph_must_be_the_one_that_flows():
    assert [item.name for item in spec_of(masked(0.5)).layers] == ["m", "a", "b"]
    with pytest.raises(UnsupportedModelError, match="a mask of its own"):
        spec_of(masked(0.25))
