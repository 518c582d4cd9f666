"""What a model file may cost to read."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .errors import ModelLimitError

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Safety limits for reading a model file; exceeding one raises :class:`~lstm_fast.ModelLimitError`.

    The defaults pass any sane recurrent model and keep a hostile file cheap. Raise one for a file you trust:
    ``lf.load(path, limits=lf.Limits(entries=20_000))``.
    """

    file_bytes: int = 8 << 30
    """Size of the file."""
    entries: int = 4096
    """Members of an archive, tensors of a checkpoint, layers of a configuration, objects of an HDF5 file."""
    header_bytes: int = 16 * _MIB
    """Size of a description: JSON header or config, pickle, central directory of a zip. One that is compressed may
    unfold to a sixteenth of it."""
    nesting: int = 64
    """Depth of nested containers, at most 256."""
    memo: int = 100_000
    """Objects in a pickle, and those it refers back to."""
    inflated_bytes: int = 24 * _MIB
    """Bytes that compressed members or overlapping tensors may unfold to beyond the size of the file itself."""
    seconds: int = 1
    """Processor time for the child process that reads an HDF5 file, for every 16 MiB of it; ten times that by the
    clock."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if type(value) is not int or value <= 0:
                raise ValueError(f"Limits({item.name}=...): expected a positive int, got {value!r}")
        if self.nesting > 256:
            raise ValueError(
                f"Limits(nesting=...): expected at most 256, Python's own stack bounds it, got {self.nesting}"
            )

    def check(self, name: str, value: int, what: str) -> None:
        """Raise ModelLimitError where ``value``, a count described by ``what``, exceeds the limit called ``name``."""
        self._check(name, value, getattr(self, name), what)

    def check_unfolded(self, value: int, file_size: int, what: str) -> None:
        """Raise ModelLimitError where ``value`` bytes out of a file of ``file_size`` bytes exceed inflated_bytes."""
        self._check("inflated_bytes", value, file_size + self.inflated_bytes, what)

    @staticmethod
    def _check(name: str, value: int, allowed: int, what: str) -> None:
        if value > allowed:
            raise ModelLimitError(
                f"{what}: expected at most {allowed}, got {value}; if you trust the file, raise it with"
                f" limits=lf.Limits({name}=...)"
            )
