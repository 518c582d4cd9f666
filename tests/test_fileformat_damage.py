"""Damaged and hostile native files: every one is refused, by an error of the family."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import safetensors.numpy
from lstmf import changed, join, sealed, split
from specs import dense, every_spec

from lstm_fast.errors import LstmFastError, ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.fileformat import is_lstmf, lstmf_bytes, read_lstmf
from lstm_fast.limits import Limits
from lstm_fast.spec import ModelSpec

SPECS = every_spec()


def test_every_truncation_is_refused():
    data = lstmf_bytes(SPECS["tiny"])
    for size in range(len(data)):
        with pytest.raises(ModelFormatError):
            read_lstmf(data[:size])


def test_every_flipped_bit_is_refused():
    data = lstmf_bytes(ModelSpec((dense(1, 1),)))
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(ModelFormatError):
            read_lstmf(bytes(damaged))


def test_bytes_behind_are_refused():
    with pytest.raises(ModelFormatError):
        read_lstmf(lstmf_bytes(SPECS["tiny"]) + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        b"\x02" + b"\0" * 7 + b"{}",
        b"\x02" + b"\0" * 7 + b"[]",
        join({"__metadata__": {"lstm_fast.format": 1}}, b""),
        join({"__metadata__": {"lstm_fast.format": "1"}}, b""),
        join({"__metadata__": []}, b""),
        join({"__metadata__": {"lstm_fast.format": "1", "lstm_fast.model": "{}", "lstm_fast.sha256": "\ud800"}}, b""),
        join({"__metadata__": {"lstm_fast.format": "1", "lstm_fast.model": "\udfff", "lstm_fast.sha256": ""}}, b""),
        (1 << 20).to_bytes(8, "little") + b"[" * (1 << 20),
        (1 << 20).to_bytes(8, "little") + b'{"a":' * (1 << 18) + b" " * (1 << 20),
        (64).to_bytes(8, "little") + b'{"a":' + b"9" * 58 + b"}",
        (6000).to_bytes(8, "little") + b'{"a":' + b"9" * 5994 + b"}",
    ],
    ids=range(14),
)
def test_junk_is_refused(data):
    assert not is_lstmf(data) or b"lstm_fast.format" in data
    with pytest.raises(ModelFormatError):
        read_lstmf(data)


def test_repeated_keys_are_refused():
    data = lstmf_bytes(SPECS["tiny"])
    size = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + size].rstrip()
    doubled = b"{" + text[1:-1] + b"," + text[1:]
    with pytest.raises(ModelFormatError, match="repeats a key"):
        read_lstmf(len(doubled).to_bytes(8, "little") + doubled + data[8 + size :])

    header, body = split(data)
    model = header["__metadata__"]["lstm_fast.model"]
    header["__metadata__"]["lstm_fast.model"] = model.replace('"batch_first":true', '"batch_first":true,' * 2)[:-1]
    header["__metadata__"]["lstm_fast.model"] = '{"batch_first":false,' + model[1:]
    with pytest.raises(ModelFormatError, match="repeats a key"):
        read_lstmf(sealed(header, body))


def test_the_header_limit_names_its_parameter():
    data = lstmf_bytes(SPECS["tiny"])
    with pytest.raises(ModelLimitError, match=r"Limits\(header_bytes=\.\.\.\)"):
        read_lstmf(data, Limits(header_bytes=100))


def test_many_layers_without_weights_are_refused_quickly():
    def flood(description):
        description["layers"] += [{"layer": "softmax", "name": str(i), "log": False} for i in range(20_000)]

    with pytest.raises(ModelLimitError, match="layers in the description"):
        read_lstmf(changed(flood))


def test_changed_weights_do_not_pass_the_digest():
    header, body = split(lstmf_bytes(SPECS["tiny"]))
    with pytest.raises(ModelFormatError, match="digest"):
        read_lstmf(join(header, bytes([body[0] ^ 1]) + body[1:]))


LAYER = {"layer": "softmax", "name": "s", "log": False}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: d.update(extra=1), UnsupportedModelError, "does not honour 'extra'"),
        (lambda d: d.pop("batch_first"), ModelFormatError, "expected a value for 'batch_first'"),
        (lambda d: d.update(batch_first=1), ModelFormatError, r"batch_first: expected bool, got 1"),
        (lambda d: d.update(spec_revision=True), ModelFormatError, "spec_revision: expected int"),
        (lambda d: d.update(spec_revision=0), ModelFormatError, "expected 1 or higher, got 0"),
        (lambda d: d.update(layers={}), ModelFormatError, "layers: expected list"),
        (lambda d: d.update(layers=[]), ModelFormatError, "tensor"),
        (lambda d: d["source"].update(kind=None), ModelFormatError, r"source\.kind: expected str, got None"),
        (lambda d: d["source"].update(kind="\ud800"), ModelFormatError, "valid Unicode"),
        (lambda d: d.update(provenance=[{}]), ModelFormatError, r"provenance\[0\]: expected a value"),
        (lambda d: d["layers"].append(7), ModelFormatError, r"layers\[2\]: expected an object"),
        (lambda d: d["layers"].append({"layer": "lambda"}), UnsupportedModelError, "layer 'lambda' is unknown"),
        (lambda d: d["layers"].append({"layer": []}), ModelFormatError, r"layers\[2\]: expected an object"),
        (lambda d: d["layers"].append({**LAYER, "log": 0}), ModelFormatError, r"layers\[2\]\.log: expected bool"),
        (lambda d: d["layers"].append({**LAYER, "axis": 1}), UnsupportedModelError, "does not honour 'axis'"),
        (lambda d: d["layers"].append({**LAYER, "name": "dense"}), ModelFormatError, "two layers share this name"),
        (lambda d: d["layers"][0].update(kind="lstm2"), UnsupportedModelError, "'lstm2' is unknown"),
        (lambda d: d["layers"][0].update(kind="gru"), UnsupportedModelError, "does not honour 'output_activation'"),
        (lambda d: d["layers"][0].update(masked_output="hold"), UnsupportedModelError, "'hold' is unknown"),
        (lambda d: d["layers"][0].update(cells=[]), ModelFormatError, "list of layers"),
        (lambda d: d["layers"][0].update(cells=[[]]), ModelFormatError, "one or two directions"),
        (lambda d: d["layers"][0].update(cells=[[None]]), ModelFormatError, r"cells\[0\]\[0\]: expected an object"),
        (lambda d: d["layers"][0]["cells"].append(d["layers"][0]["cells"][0]), ModelFormatError, "weight_ih_l1"),
        (
            lambda d: d["layers"][0].update(name="other"),
            ModelFormatError,
            r"other\.weight_ih_l0: the description needs",
        ),
        (lambda d: d["layers"].pop(), ModelFormatError, "2 tensor.s. that no layer"),
        (lambda d: d["layers"][1].update(activation={}), ModelFormatError, "expected a value for 'name'"),
        (lambda d: d["layers"][1].update(activation={"name": "swish"}), UnsupportedModelError, "'swish' is unknown"),
        (lambda d: d["layers"][1].update(activation={"name": "elu"}), ModelFormatError, "a value for 'alpha'"),
        (lambda d: d["layers"][1].update(activation={"name": "relu", "alpha": 1.0}), UnsupportedModelError, "'alpha'"),
        (lambda d: d["layers"][1].update(activation={"name": "elu", "alpha": "1"}), ModelFormatError, "float or int"),
        (lambda d: d["layers"][1].update(activation={"name": "elu", "alpha": 10**400}), ModelFormatError, "finite"),
        (lambda d: d["layers"][1].update(activation={"name": "elu", "alpha": math.nan}), ModelFormatError, "NaN"),
        (lambda d: d["layers"][1].update(activation={"name": ["elu"]}), ModelFormatError, "name: expected str"),
    ],
)
def test_a_description_outside_the_schema_is_refused(change, error, message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_lstmf(changed(change))
    assert type(caught.value) is error


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"x"', "{", "[" * 100_000])
def test_a_description_that_is_no_object_is_refused(text):
    header, body = split(lstmf_bytes(SPECS["tiny"]))
    header["__metadata__"]["lstm_fast.model"] = text
    with pytest.raises(ModelFormatError, match="description"):
        read_lstmf(sealed(header, body))


def test_unknown_metadata_is_refused():
    header, body = split(lstmf_bytes(SPECS["tiny"]))
    header["__metadata__"]["author"] = "x"
    with pytest.raises(ModelFormatError, match="metadata: expected"):
        read_lstmf(sealed(header, body))


def retyped(name: str, dtype: str, shape: list[int], spec: ModelSpec | None = None) -> bytes:
    header, body = split(lstmf_bytes(spec or SPECS["tiny"]))
    header[name] |= {"dtype": dtype, "shape": shape}
    return sealed(header, body)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "message"),
    [
        ("dense.weight", "F32", [2], "expected shape .outputs, inputs., got .2,."),
        ("dense.weight", "F16", [2, 2], "expected a dtype among F32, F64, I64, got F16"),
        ("dense.weight", "F64", [1, 1], "expected dtype float32"),
        ("dense.weight", "I64", [1, 1], "expected dtype float32"),
        ("dense.weight", "F32", [2, 1, 1, 1], "1 to 3 dimensions"),
        ("lstm.weight_ih_l0", "F32", [2, 8], "4 . hidden_size"),
        ("__check__.x", "F32", [20], r"__check__\.x: expected"),
        ("__check__.x", "F32", [1, 10, 2], r"__check__\.lengths: expected"),
        ("__check__.x", "F32", [2, 10, 1], r"__check__\.x: expected"),
        ("__check__.x", "F32", [2, 2, 5], r"__check__\.x: expected"),
        ("__check__.x", "F64", [2, 5, 1], r"__check__\.x: expected"),
        ("__check__.y", "F32", [5, 2], r"__check__\.y: expected"),
        ("__check__.lengths", "F64", [2], r"__check__\.lengths: expected int64"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name, dtype, shape, message):
    with pytest.raises(ModelFormatError, match=message):
        read_lstmf(retyped(name, dtype, shape))


def test_tensors_without_elements_are_refused():
    tensors = safetensors.numpy.load(lstmf_bytes(SPECS["tiny"])) | {"dense.bias": np.zeros((0,), np.float32)}
    header, _ = split(lstmf_bytes(SPECS["tiny"]))
    with pytest.raises(ModelFormatError, match="none of them 0"):
        read_lstmf(sealed(*split(safetensors.numpy.save(tensors, header["__metadata__"]))))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("__check__.lengths", [6, 1], "expected 0 to 5, got 1 to 6"),
        ("__check__.lengths", [-1, 1], "expected 0 to 5, got -1 to 1"),
        ("__check__.x", [[7] * 5, [0] * 5], "expected ids below 7, got 7"),
        ("__check__.x", [[-1] * 5, [0] * 5], "expected ids below 7"),
    ],
)
def test_recorded_inputs_out_of_range_are_refused(name, value, message):
    data = lstmf_bytes(SPECS["text"])
    tensors = safetensors.numpy.load(data) | {name: np.array(value, np.int64)}
    saved = safetensors.numpy.save(tensors, split(data)[0]["__metadata__"])
    with pytest.raises(ModelFormatError, match=message):
        read_lstmf(sealed(*split(saved)))


def test_a_missing_check_is_refused():
    data = lstmf_bytes(SPECS["tiny"])
    tensors = safetensors.numpy.load(data)
    del tensors["__check__.y"]
    saved = safetensors.numpy.save(tensors, split(data)[0]["__metadata__"])
    with pytest.raises(ModelFormatError, match=r"__check__\.x, __check__\.lengths and __check__\.y; one is missing"):
        read_lstmf(sealed(*split(saved)))


def test_mutated_descriptions_stay_in_the_error_family():
    """Every value anywhere in the description replaced by each of a set of nasty ones, with the digest right."""
    nasty = [None, True, -1, 0, 2**63, 10**400, 1e308, "", "\ud800", "x" * 10_000, [], [[]], {}, {"name": "tanh"}]

    def places(value, path=()):
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            yield from places(item, (*path, key))

    header, body = split(lstmf_bytes(SPECS["text"]))
    text = header["__metadata__"]["lstm_fast.model"]
    for path in places(json.loads(text)):
        for value in nasty:
            description = root = {"root": json.loads(text)}
            *parents, last = ("root", *path)
            for key in parents:
                description = description[key]
            description[last] = value
            header["__metadata__"]["lstm_fast.model"] = json.dumps(root["root"])
            try:
                read_lstmf(sealed(header, body))
            except LstmFastError as error:
                assert len(str(error)) < 10_500  # noqa: PT017
