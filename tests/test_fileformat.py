"""The native file: what goes in comes out, in the same bytes, and old files load."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from lstmf import changed, join, split
from specs import cell, dense, every_spec, stack, tiny

from lstm_fast import reference
from lstm_fast.check import difference
from lstm_fast.errors import ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.fileformat import FORMAT_VERSION, lstmf_bytes, read_check, read_lstmf, write_lstmf
from lstm_fast.limits import Limits
from lstm_fast.spec import Cell, ModelSpec, Recurrent, Softmax

GOLDEN = Path(__file__).parent / "golden" / "lstmf"
SPECS = every_spec()


def contents(spec: ModelSpec) -> tuple:
    """Everything in a spec that means something, in a form that compares."""

    def plain(value):
        if isinstance(value, np.ndarray):
            return value.dtype, value.shape, value.tobytes()
        if isinstance(value, Cell):
            unused = {
                "lstm": ("reset_after",),
                "gru": ("output_activation",),
                "rnn": ("reset_after", "gate_activation", "output_activation"),
            }
            return {
                f.name: plain(getattr(value, f.name))
                for f in dataclasses.fields(value)
                if f.name not in unused[value.kind]
            }
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        if dataclasses.is_dataclass(value):
            return type(value).__name__, {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return value

    return plain(spec)


# Round trip


@pytest.mark.parametrize("name", SPECS)
def test_round_trip_keeps_everything(name):
    spec = SPECS[name]
    data = lstmf_bytes(spec)
    again = read_lstmf(data)
    assert contents(again) == contents(spec)
    assert lstmf_bytes(again) == data


@pytest.mark.parametrize("name", SPECS)
def test_any_safetensors_reader_opens_the_file(name):
    tensors = safetensors.numpy.load(lstmf_bytes(SPECS[name]))
    for key, value in SPECS[name].tensors():
        np.testing.assert_array_equal(tensors.pop(key), value)
    assert tensors.keys() == {"__check__.x", "__check__.lengths", "__check__.y"}


@pytest.mark.parametrize("name", SPECS)
def test_the_recorded_output_is_the_references(name):
    spec = SPECS[name]
    check = read_check(lstmf_bytes(spec))
    y, _ = reference.forward(spec, check.x, lengths=check.lengths)
    assert difference(check.y, y) <= 2**-24
    assert np.isfinite(check.y).all()


def test_the_description_covers_every_field_of_the_spec():
    """A field added to the spec must be added to the file, or it would be lost."""
    header, _ = split(lstmf_bytes(SPECS["text"]))
    description = json.loads(header["__metadata__"]["lstm_fast.model"])
    keys = {layer["layer"]: set(layer) - {"layer"} for layer in description["layers"]}
    weights = {"weight", "bias"}
    assert keys["recurrent"] - {"kind", "cells"} == {f.name for f in dataclasses.fields(Recurrent)} - {"layers"}
    for layer in SPECS["text"].layers:
        if not isinstance(layer, Recurrent):
            fields = {f.name for f in dataclasses.fields(layer)}
            assert keys[type(layer).__name__.lower()] == fields - weights
    cell_keys = set()
    for kind in ("lstm", "gru", "rnn"):
        header, _ = split(lstmf_bytes(SPECS[kind]))
        cell_keys |= set(json.loads(header["__metadata__"]["lstm_fast.model"])["layers"][0]["cells"][0][0])
    weights = {"kind", "weight_ih", "weight_hh", "bias", "bias_hn", "weight_hr"}
    assert cell_keys == {f.name for f in dataclasses.fields(Cell)} - weights
    assert set(description) - {"spec_revision", "source"} == {f.name for f in dataclasses.fields(ModelSpec)} - {
        "source_kind",
        "source_sha256",
    }


def test_weights_of_any_memory_layout_are_the_same_bytes():
    plain = cell(inputs=3, hidden=4)
    odd = dataclasses.replace(
        plain,
        weight_ih=np.asfortranarray(plain.weight_ih),
        weight_hh=np.repeat(plain.weight_hh, 2, axis=1)[:, ::2],
        bias=plain.bias[::-1].copy()[::-1],
    )
    assert lstmf_bytes(ModelSpec((Recurrent("a", ((odd,),)),))) == lstmf_bytes(
        ModelSpec((Recurrent("a", ((plain,),)),))
    )


def test_infinite_and_nan_weights_survive():
    weird = dataclasses.replace(cell(), bias=np.array([np.nan, np.inf, -np.inf, -0.0] * 4, np.float32))
    spec = ModelSpec((Recurrent("a", ((weird,),)),))
    data = lstmf_bytes(spec)
    assert contents(read_lstmf(data)) == contents(spec)
    assert np.isnan(read_check(data).y).any()


def test_another_writer_can_seal_a_file():
    """Order of tensors, spaces in the header and order of keys are free; only the content counts."""
    spec = SPECS["text"]
    tensors = safetensors.numpy.load(lstmf_bytes(spec))
    header, _ = split(lstmf_bytes(spec))
    assert contents(read_lstmf(safetensors.numpy.save(tensors, header["__metadata__"]))) == contents(spec)
    assert contents(read_lstmf(changed(lambda d: None))) == contents(SPECS["tiny"])


def test_whole_numbers_are_numbers():
    data = changed(lambda d: d["layers"].insert(0, {"layer": "masking", "name": "m", "mask_value": 0}))
    assert read_lstmf(data).layers[0].mask_value == 0.0


def test_more_tensors_than_the_default_limit_can_be_written():
    spec = ModelSpec(tuple(dense(1, 1, name=f"d{i}", bias=False) for i in range(4100)))
    data = lstmf_bytes(spec)
    with pytest.raises(ModelLimitError, match=r"Limits\(entries=\.\.\.\)"):
        read_lstmf(data)
    assert len(read_lstmf(data, Limits(entries=5000)).layers) == 4100


def test_a_faulty_spec_is_not_written(tmp_path):
    spec = ModelSpec((stack(hidden=4), dense(5, 2)))
    with pytest.raises(ModelFormatError, match="expected 5 input features, got 4"):
        write_lstmf(spec, tmp_path / "m.lstmf")
    assert list(tmp_path.iterdir()) == []


def test_names_that_no_encoding_can_write_are_refused():
    with pytest.raises(ModelFormatError, match="valid Unicode"):
        lstmf_bytes(ModelSpec((dense(name="\ud800"),)))
    with pytest.raises(ModelFormatError, match=r"source\.kind: expected valid Unicode"):
        lstmf_bytes(tiny(source_kind="\udfff"))


# Bytes


def test_the_bytes_do_not_depend_on_the_process():
    code = "import sys; sys.path[:0] = sys.argv[1:]; from specs import tiny; from lstm_fast.fileformat import"
    code += " lstmf_bytes; sys.stdout.buffer.write(lstmf_bytes(tiny()))"
    root = Path(__file__).parent
    for seed in ("1", "2", "3"):
        found = subprocess.run(
            [sys.executable, "-c", code, str(root), str(root.parent)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        )
        assert found.stdout == lstmf_bytes(tiny())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("v*.lstmf")), ids=lambda path: path.name)
def test_files_of_every_version_load(path):
    """These files are never rewritten: each was made by the release that introduced its version."""
    data = path.read_bytes()
    spec, check = read_lstmf(data), read_check(data)
    expected = json.loads(path.with_suffix(".json").read_text())
    assert hashlib.sha256(data).hexdigest() == expected["file_sha256"]
    assert [layer.name for layer in spec.layers] == expected["layers"]
    weights = b"".join(value.tobytes() for _, value in spec.tensors())
    assert hashlib.sha256(weights).hexdigest() == expected["weights_sha256"]
    y, _ = reference.forward(spec, check.x, lengths=check.lengths)
    assert difference(check.y, y) <= 1e-6
    np.testing.assert_allclose(check.y, np.array(expected["y"]), rtol=1e-6)


def test_there_is_a_file_of_every_version():
    versions = {int(path.name[1:].split("-")[0]) for path in GOLDEN.glob("v*.lstmf")}
    assert versions == set(range(1, FORMAT_VERSION + 1))


def test_todays_bytes_are_the_first_versions():
    """Same model, same bytes, also tomorrow: a change here is a change of format and needs a new version."""
    path = GOLDEN / "v1-text.lstmf"
    assert lstmf_bytes(read_lstmf(path.read_bytes())) == path.read_bytes()


# Versions


@pytest.mark.parametrize("version", ["2", "17", "999999999"])
def test_a_newer_version_is_refused_with_both_numbers(version):
    header, body = split(lstmf_bytes(SPECS["tiny"]))
    header["__metadata__"] = {"lstm_fast.format": version, "lstm_fast.of_tomorrow": ""}
    with pytest.raises(UnsupportedModelError, match=rf"version {version}.*reads up to {FORMAT_VERSION}; upgrade"):
        read_lstmf(join(header, body))


def test_a_newer_spec_revision_is_refused_with_both_numbers():
    with pytest.raises(UnsupportedModelError, match=r"revision 2 .*reads up to 1; upgrade"):
        read_lstmf(changed(lambda d: d.update(spec_revision=2, of_tomorrow=True)))


@pytest.mark.parametrize("version", ["", "0", "-1", "1.0", "01", "one", "１", "1" * 5000])  # noqa: RUF001
def test_a_version_that_is_none_is_damage(version):
    header, body = split(lstmf_bytes(SPECS["tiny"]))
    header["__metadata__"]["lstm_fast.format"] = version
    with pytest.raises(ModelFormatError, match=r"lstm_fast\.format: expected a version"):
        read_lstmf(join(header, body))


def test_softmax_needs_nothing_else():
    spec = ModelSpec((dense(), Softmax("s", log=True)))
    assert contents(read_lstmf(lstmf_bytes(spec))) == contents(spec)
