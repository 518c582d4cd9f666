"""Deterministic inputs and the measure of agreement."""

from __future__ import annotations

import math

import numpy as np
import pytest
from specs import cell, dense, every_spec, stack

from lstm_fast.activations import Activation
from lstm_fast.check import Check, difference, probe, record
from lstm_fast.spec import Masking, ModelSpec, Recurrent

SPECS = every_spec()


def test_a_probe_is_the_same_everywhere():
    """Frozen: recorded inputs must not change between versions of NumPy or of this library."""
    x, lengths = probe(SPECS["tiny"], 2, 3, "frozen")
    assert x.dtype == np.float32
    assert (x * 2**15 == np.round(x * 2**15)).all()
    assert lengths.tolist() == [3, 1]
    assert (x.ravel()[:4] * 2**15).tolist() == [16422, -3494, 21055, 25493]
    ids, _ = probe(SPECS["plain text"], 2, 3, "frozen")
    assert ids.tolist() == [[1, 0, 5], [5, 1, 4]]


def test_a_probe_masks_where_the_network_does():
    assert (probe(SPECS["text"], 2, 5, "x")[0][:, 1] == 0).all()
    assert (probe(SPECS["masked"], 2, 5, "x")[0][:, 1] == -1).all()
    inexact = ModelSpec((Masking("masking", 0.1), stack()))
    assert (probe(inexact, 2, 5, "x")[0] != np.float32(0.1)).all()
    huge = ModelSpec((Masking("masking", 1e300), stack()))
    assert np.isfinite(probe(huge, 2, 5, "x")[0]).all()


def test_recorded_overflow_is_infinite_and_nan_is_one_nan():
    cells = cell(activation=Activation("affine", 1e30, 1e30), output_activation=Activation("affine", 1e30, 0.0))
    check = record(ModelSpec((Recurrent("a", ((cells,),)),)))
    assert isinstance(check, Check)
    assert np.isinf(check.y).any()
    check = record(ModelSpec((dense(activation=Activation("affine", 1e308, 1e308)), dense(2, 2, name="b"))))
    assert {value.tobytes() for value in check.y[np.isnan(check.y)]} <= {np.float32(np.nan).tobytes()}


@pytest.mark.parametrize(
    ("y", "expected", "found"),
    [
        ([1.0], [1.0], 0.0),
        ([1.5], [1.0], 0.5),
        ([150.0], [100.0], 0.5),
        ([0.25], [0.0], 0.25),
        ([np.nan], [np.nan], 0.0),
        ([np.nan, 1.0], [np.nan, 1.25], 0.2),
        ([np.nan], [1.0], math.inf),
        ([np.inf], [np.inf], 0.0),
        ([np.inf], [-np.inf], math.inf),
        ([1.0], [np.inf], math.inf),
        ([], [], 0.0),
        ([1.0], [1.0, 1.0], math.inf),
    ],
)
def test_difference(y, expected, found):
    assert difference(np.array(y), np.array(expected)) == pytest.approx(found)
