"""Every status of the C core has an exception of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lstm_fast import BackendError, IndexRangeError, ModelFormatError, _engine
from lstm_fast.activations import ACTIVATIONS

HEADER = (Path(__file__).parent.parent / "csrc" / "lf.h").read_text()

EXCEPTIONS = {
    "LF_OK": type(None),
    "LF_NO_MEMORY": MemoryError,
    "LF_BAD_MODEL": ModelFormatError,
    "LF_UNKNOWN_ISA": BackendError,
    "LF_ISA_NOT_BUILT": BackendError,
    "LF_ISA_NOT_USABLE": BackendError,
    "LF_NO_BLAS": BackendError,
    "LF_INDEX_RANGE": IndexRangeError,
    "LF_INTERRUPTED": KeyboardInterrupt,
}


def enumerators(name: str) -> list[str]:
    """The enumerators of an enum in lf.h, in order, without the count that ends it."""
    body = re.search(r"typedef enum \{([^}]*)\} " + name + ";", HEADER).group(1)
    return [word for word in re.findall(r"LF_\w+", re.sub(r"/\*.*?\*/", "", body)) if not word.endswith("_COUNT")]


@pytest.mark.parametrize("code", range(len(enumerators("lf_status"))), ids=enumerators("lf_status"))
def test_every_status_has_its_exception(code):
    error = _engine.status_error(code, "mmx")
    assert type(error) is EXCEPTIONS[enumerators("lf_status")[code]]
    assert "engine status" not in str(error)
    if "ISA" in enumerators("lf_status")[code]:
        assert "'mmx'" in str(error)
        assert all(f"{name} ({words})" in str(error) for name, words in _engine.isa_status().items())


def test_activations_are_counted_as_in_the_spec():
    assert [name[3:].lower() for name in enumerators("lf_activation_kind")] == list(ACTIVATIONS)
