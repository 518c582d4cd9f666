"""A network ready to run."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from ._engine import Engine
from .arrays import as_ids, as_lengths, as_real, describe
from .config import choose_backend, choose_dtype, choose_isa, choose_threads
from .errors import ShapeError
from .spec import ModelSpec, Recurrent


class Model(Engine):
    """A network packed for this machine. It is immutable and may be called from many threads at once.

    It keeps the scratch memory of its calls for the next ones, at most 64 MiB however many shapes it has seen; what one
    call needs is stated at the top of csrc/workspace.c.

    Args:
        spec: the network. What runs is a packed copy; :attr:`spec` has read-only views of these weights, so arrays of
            the caller's that change later change what :meth:`save` writes.
        dtype: "float32" (also for float64 weights, which are rounded) or "float64" (float32 weights stay as they are,
            and so do biases that an importer summed in float32).
        backend: "packed" (own kernels), or "blas"; default: ``LSTM_FAST_BACKEND``, then "packed".
        num_threads: threads a call may use, or "auto"; default: ``LSTM_FAST_NUM_THREADS``, then 1.
        isa: instruction set; default: ``LSTM_FAST_ISA``, then the best one here.

    Raises:
        ModelFormatError: ``spec`` contradicts itself. BackendError: what is asked for is not offered here.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        dtype: Any = None,
        backend: str | None = None,
        num_threads: int | str | None = None,
        isa: str | None = None,
    ) -> None:
        if not isinstance(spec, ModelSpec):
            raise TypeError(
                f"spec: expected a ModelSpec, got {describe(spec)}; lf.load reads a model file,"
                " lf.from_torch and lf.from_keras take a live model"
            )
        real = choose_dtype(dtype)
        super().__init__(
            _read_only(spec.validate()),
            dtype=real,
            backend=choose_backend(backend),
            isa=choose_isa(isa),
            num_threads=choose_threads(num_threads),
        )
        self._fed, self._given = self._state_names("initial_h", "initial_c"), self._state_names("Y_h", "Y_c")
        self._asked = {"dtype": real.name, "backend": backend, "num_threads": num_threads, "isa": isa}

    def predict(
        self, x: Any, batch_size: int | None = None, progress: bool = False, *, lengths: Any = None
    ) -> np.ndarray:
        """Outputs only, as Keras' ``predict``: sequences run in groups of ``batch_size`` (all at once where None).

        ``x`` and ``lengths`` are those of :meth:`forward_sequence`, ``x`` batched; ``progress`` shows a bar (needs
        tqdm). The result does not depend on ``batch_size``, to the last bit on the packed backend.
        """
        if batch_size is None and not progress:
            return self.forward_sequence(x, lengths=lengths)[0]
        size = None if batch_size is None else _group_size(batch_size)
        values = as_ids(x, "x") if self.spec.takes_ids else as_real(x, self.dtype, "x")
        if 0 in values.shape or not self._takes(values):
            return self.forward_sequence(values, lengths=lengths)[0]  # what it refuses, it refuses of the whole x
        axis = 0 if self.spec.batch_first else 1
        out_axis = axis if self.spec.returns_sequences else 0
        batch, time = values.shape[axis], values.shape[1 - axis]
        valid = None if lengths is None else as_lengths(lengths, batch, time)
        shape = [batch, self.spec.output_size]
        if self.spec.returns_sequences:
            shape.insert(1 - axis, time)
        y = np.empty(shape, self.dtype)
        size = size or min(batch, 32)
        starts = range(0, batch, size)
        for start in _with_bar(starts) if progress else starts:
            rows = slice(start, start + size)
            part = (rows,) if axis == 0 else (slice(None), rows)
            target = (rows,) if out_axis == 0 else (slice(None), rows)
            self.forward_sequence(values[part], lengths=None if valid is None else valid[rows], out=y[target])
        return y

    def _takes(self, values: np.ndarray) -> bool:
        """Whether ``values`` are a batch that :meth:`forward_sequence` takes."""
        if self.spec.takes_ids:
            return values.ndim == 2 and 0 <= values.min() <= values.max() < self.spec.vocabulary
        return values.ndim == 3 and values.shape[-1] == self.spec.input_size

    @property
    def input_names(self) -> list[str]:
        """What :meth:`run` can be fed: "X", "sequence_lens", and "initial_h" / "initial_c" of each stack."""
        return ["X", "sequence_lens", *chain.from_iterable(self._fed)]

    @property
    def output_names(self) -> list[str]:
        """What :meth:`run` gives, in order: "Y", then "Y_h" / "Y_c" of each stack."""
        return ["Y", *chain.from_iterable(self._given)]

    def run(self, output_names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[np.ndarray]:
        """Named arrays in, a list out, as ONNX Runtime's ``run``; shapes are those of :meth:`forward_sequence`.

        Names follow ONNX's recurrent operators; with several recurrent stacks each state's name ends in
        ".<layer name>". ``output_names`` None gives all of :attr:`output_names`.
        """
        if not isinstance(feed, Mapping):
            raise TypeError(f'feed: expected a mapping of names to arrays, as {{"X": x}}, got {describe(feed)}')
        names = self.input_names
        if "X" not in feed or any(name not in names for name in feed):
            raise ValueError(f"feed: expected X and any of {names[1:]}, got {sorted(feed)}")
        if output_names is not None and (missing := set(output_names) - set(self.output_names)):
            raise ValueError(f"output_names: expected any of {self.output_names}, got {sorted(missing)}")
        y, final = self.forward_sequence(feed["X"], self._fed_state(feed), lengths=feed.get("sequence_lens"))
        values = {"Y": y}
        for given, state in zip(self._given, (final,) if len(self._given) == 1 else final, strict=True):
            values.update(zip(given, state if isinstance(state, tuple) else (state,), strict=True))
        return list(values.values()) if output_names is None else [values[name] for name in output_names]

    def _state_names(self, h: str, c: str) -> list[tuple[str, ...]]:
        stacks = self.spec.recurrent
        names = []
        for stack in stacks:
            suffix = "" if len(stacks) == 1 else f".{stack.name}"
            names.append((h + suffix, c + suffix) if stack.kind == "lstm" else (h + suffix,))
        return names

    def _fed_state(self, feed: Mapping[str, Any]) -> Any:
        states: list[Any] = []
        for names in self._fed:
            given = [feed[name] for name in names if name in feed]
            if given and len(given) != len(names):
                raise ShapeError(f"feed: {' and '.join(names)} go together, got one of them")
            states.append(None if not given else tuple(given) if len(given) == 2 else given[0])
        if all(state is None for state in states):
            return None
        return states[0] if len(states) == 1 else tuple(states)

    def summary(self) -> str:
        """The network as a table: layers, output shapes, parameters, and how it runs."""
        from .summary import summary_text

        return summary_text(
            self.spec, dtype=self.dtype, backend=self.backend, isa=self.isa, num_threads=self.num_threads
        )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write the network to a native file, in the precision of its source; see docs/file-format.md."""
        from .fileformat import write_lstmf

        write_lstmf(self.spec, path, overwrite=overwrite)

    def __repr__(self) -> str:
        from .summary import layer_type

        layers = " > ".join(f"{layer_type(layer)}({_size(layer)})" for layer in self.spec.layers)
        weights = "" if self.spec.dtype == self.dtype else f" of {self.spec.dtype} weights"
        return f"<lstm_fast.Model {layers}; {self.dtype}{weights}, {self.backend}, {self.isa}>"

    def __reduce__(self) -> tuple:
        return _restore, (type(self), self.spec, self._asked)

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: dict) -> Model:
        return _restore(type(self), self.spec, self._asked)


def _restore(kind: type[Model], spec: ModelSpec, asked: dict[str, Any]) -> Model:
    return kind(spec, **asked)


def _read_only(part: Any) -> Any:
    """A sound spec, layer or cell with views of its weights that cannot be written to; the caller's arrays still can.

    Whoever writes to the weights of a model would change what is saved and not what runs.
    """
    if isinstance(part, ModelSpec):
        return replace(part, layers=tuple(map(_read_only, part.layers)))
    if isinstance(part, Recurrent):
        return replace(part, layers=tuple(tuple(map(_read_only, directions)) for directions in part.layers))
    views = {name: np.asarray(value).view() for name, value in part.tensors()}
    for view in views.values():
        view.flags.writeable = False
    return replace(part, **views)


def _group_size(batch_size: Any) -> int:
    try:
        size = operator.index(batch_size)
    except TypeError:
        raise TypeError(f"batch_size: expected a whole number or None, got {batch_size!r}") from None
    if size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {size}")
    return size


def _with_bar(starts: Iterable[int]) -> Iterable[int]:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(f"progress: needs tqdm ({error}): pip install 'lstm_fast[cli]'") from error
    return tqdm(starts, unit="batch")


def _size(layer: Any) -> str:
    return str(getattr(layer, "output_size", "")) or getattr(getattr(layer, "activation", ""), "name", "")
