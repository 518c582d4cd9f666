"""Every error lstm_fast raises on purpose.

One family under :class:`LstmFastError`, each class also a standard exception, so callers may catch either.
A message says what was expected, what came, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_MOST_FAULTS = 50


class LstmFastError(Exception):
    """Base of every error raised by lstm_fast."""


class ModelFormatError(LstmFastError, ValueError):
    """A model file is damaged, or its parts contradict one another."""


class UnsupportedModelError(ModelFormatError):
    """A valid model that uses something lstm_fast does not honour; the message names it and says what to do."""


class ModuleChoiceError(UnsupportedModelError):
    """A checkpoint holds several modules, and nothing says which of them make the model and in which order.

    Attributes:
        modules: what each module is, by name. example: a value of ``module=`` to start from, or "".
    """

    def __init__(self, message: str, modules: Mapping[str, str] | None = None, example: str = "") -> None:
        super().__init__(message)
        self.modules = dict(modules or {})
        self.example = example


class ModelLimitError(ModelFormatError):
    """A model file exceeds a safety limit; the message names the parameter that raises it."""


class ShapeError(LstmFastError, ValueError):
    """An array has the wrong rank or size, ``lengths`` do not fit the input, or ``out`` cannot take the result."""


class IndexRangeError(ShapeError, IndexError):
    """An integer input points outside the embedding table."""


class DTypeError(LstmFastError, TypeError):
    """An array has a dtype that the network cannot take without losing information."""


class StateError(LstmFastError, RuntimeError):
    """A recurrent state does not belong to this network or is in use."""


class BackendError(LstmFastError, RuntimeError):
    """A forced instruction set or backend that this CPU or this build lacks."""


def all_faults(faults: Sequence[str], what: str) -> str:
    """One message for every fault found in ``what``; a list beyond all reading is cut."""
    if len(faults) == 1:
        return faults[0]
    more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
    return "\n  ".join([f"{len(faults)} faults in {what}:", *faults[:_MOST_FAULTS], *more])
