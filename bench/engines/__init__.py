"""The engines that are compared, one adapter a file.

An engine gets a network as a :class:`~lstm_fast.spec.ModelSpec` and builds it in its own terms, with the settings that
serve one caller best. What is timed is one forward pass of an input that already lies in the layout and array type the
engine likes, to the output sequence in the engine's own array type; states start at zero, or, where one is given, it is
read and the final one handed back, as a stream needs it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_fast.spec import Cell, ModelSpec

if TYPE_CHECKING:
    from ..shapes import Feed, Shape


class Run(NamedTuple):
    """A network ready to be timed on one input."""

    call: Callable[[], Any]  #: one forward pass, in the engine's own terms
    output: Callable[[Any], np.ndarray]  #: what ``call`` gave, as (batch, time, features); not timed
    #: The final state that it gave, where one was wanted: h, and c of an LSTM, each (layers * directions, batch, size).
    states: Callable[[Any], tuple[np.ndarray, ...]] = lambda _: ()


class Engine(ABC):
    """An engine to be timed. ``package`` is its distribution's name, ``modules`` what must be importable."""

    name: str
    package: str
    modules: tuple[str, ...] = ()
    precision = "float32"  #: of its arithmetic; another than float32 is shown for information and is no peer

    def available(self) -> bool:
        """Whether its packages are installed; nothing is imported."""
        return all(importlib.util.find_spec(module) for module in self.modules)

    def version(self) -> str:
        return importlib.metadata.version(self.package)

    def cannot(self, shape: Shape) -> str:
        """Why it is left out at ``shape``; empty where it takes part."""
        return ""

    @abstractmethod
    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        """``spec``, one recurrent stack, on ``feed``, with that many threads."""


#: What every other engine is compared with, and other ways to run it, which are no peers either.
OURS, OURS_BLAS, OURS_AVX2 = "ours", "ours-blas", "ours-avx2"


def every_engine() -> list[Engine]:
    """All that there are adapters for, installed or not, ours first."""
    from .keras import Keras
    from .ncnn import Ncnn
    from .numpy import NumPyLoop
    from .onnxruntime import OnnxRuntime, OnnxRuntimeInt8
    from .openvino import OpenVino, OpenVinoBfloat16
    from .ours import Ours
    from .torch import PyTorch, PyTorchInt8

    return [
        *(Ours(OURS, "packed"), Ours(OURS_BLAS, "blas"), Ours(OURS_AVX2, "packed", "avx2")),
        *(PyTorch(), OnnxRuntime(), OpenVino(), Ncnn(), Keras(), NumPyLoop()),
        *(PyTorchInt8(), OnnxRuntimeInt8(), OpenVinoBfloat16()),
    ]


def states_by_layer(feed: Feed, num_layers: int) -> dict[str, np.ndarray]:
    """The given state, a piece for each layer, (directions, batch, size): h0, h1, ..., c0, c1, ... of an LSTM."""
    return {
        f"{name}{index}": part
        for name, array in zip("hc", feed.states, strict=False)
        for index, part in enumerate(np.split(array, num_layers))
    }


def states_of_layers(arrays: Sequence[np.ndarray], num_layers: int) -> tuple[np.ndarray, ...]:
    """The states of all layers from one array for h of each, then one for c of each."""
    return tuple(np.concatenate(arrays[i : i + num_layers]) for i in range(0, len(arrays), num_layers))


def recurrent_bias(cell: Cell) -> np.ndarray:
    """The second bias other engines want, (gates * H,): zero beside the spec's summed one, but in a GRU's candidate."""
    bias = np.zeros_like(cell.bias)
    if cell.bias_hn is not None:
        bias[-cell.hidden_size :] = cell.bias_hn
    return bias
