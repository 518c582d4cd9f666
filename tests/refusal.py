"""Calls that must be refused, and change nothing."""

from __future__ import annotations

import pytest
from nets import bits, inputs

from lstm_fast import Model
from lstm_fast.errors import LstmFastError


def refused(model: Model, error: type[Exception], words: list[str], *args, **kwargs) -> None:
    """The call raises ``error`` with every one of ``words``, and the next call gives what it always gave."""
    good = inputs(model.spec, 2, 5)
    before = bits(model.forward_sequence(good))
    with pytest.raises(error) as caught:
        model.forward_sequence(*args, **kwargs)
    assert isinstance(caught.value, LstmFastError | ValueError)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)
    assert bits(model.forward_sequence(good)) == before
