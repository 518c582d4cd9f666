"""PyTorch: checkpoints of every container, and live modules, without importing torch.

``module=`` says what to take out of a checkpoint and how its modules follow one another, which a state dict does not
say: names in order, separated by commas or as a sequence, each with options behind colons.

    module="encoder.lstm"
    module="embed, lstm:last, head:softmax"
    module=["gru:last", "hidden:relu", "head:softmax"]

Options: ``last`` (a recurrent module hands on its last output only, the final h of its directions side by side);
``tanh`` or ``relu`` on an RNN (its nonlinearity, which a state dict does not hold; tanh is assumed); ``embedding`` or
``linear`` (what a matrix without bias is; first in the chain an embedding is assumed, elsewhere linear); behind
linear, any activation of :data:`lstm_fast.activations.ACTIVATIONS`, ``softmax`` or ``log_softmax``. An entry without a
name, ``:relu``, applies a function to whatever comes before it. A module at the root of a checkpoint is called by its
kind, ``lstm``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UnsupportedModelError
from ..limits import Limits
from ..spec import ModelSpec
from ._torch_choose import choose
from ._torch_find import Checkpoint, Modules, from_live, from_state_dict, is_live_module, join

_RESAVE = "load it with PyTorch and save the weights again: torch.save(model.state_dict(), path)"


def read_torch(
    data: bytes, archive, limits: Limits, *, module: str | Sequence[str] | None, batch_first: bool | None
) -> ModelSpec:
    """Read a checkpoint: a zip archive (opened as ``archive``), the legacy format, or safetensors.

    ``batch_first`` None means what a pickled module says, or True: a state dict does not say.
    """
    if data[8:9] == b"{" and archive is None:
        from ._torch_files import read_safetensors

        found = [("", from_state_dict(read_safetensors(data, limits)))]
        kind = "safetensors"
    else:
        from ._torch_files import read_legacy, read_zip

        root, reader = read_legacy(data, limits) if archive is None else read_zip(archive, len(data), limits)
        found = Checkpoint(root, reader.entry, limits).found
        kind = "torch"
    return choose(_merge(found), module).spec(batch_first, kind)


def from_torch_module(
    source: object, /, *, module: str | Sequence[str] | None = None, batch_first: bool | None = None
) -> ModelSpec:
    """A live ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, one of their cells, or an ``nn.Sequential`` of supported layers.

    Inside a Sequential a recurrent module hands on its output sequence. Of any other module, ``module`` picks parts
    as for a checkpoint. Dropout is off, as in ``eval()``. Weights are copied.

    Raises:
        UnsupportedModelError: something in it is not honoured; TypeError: ``source`` is no module.
    """
    if type(source).__module__.startswith("torch.jit."):
        raise UnsupportedModelError(
            "a TorchScript module keeps its settings as code; give the module it was made from, or load the file that"
            " torch.jit.save writes"
        )
    if not is_live_module(source):
        raise TypeError(
            f"expected a torch.nn.Module, got {_kind(source)}; files, of state dicts that torch.save wrote too, are for"
            " load()"
        )
    return choose(from_live(source), module).spec(batch_first, "torch").validate()


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _merge(found: list[tuple[str, Modules]]) -> Modules:
    """All modules of a checkpoint; only where several state dicts or modules are in it, by their path."""
    if not any(modules for _, modules in found):
        raise UnsupportedModelError(f"no weights in it can be had without running its code; {_RESAVE}")
    if len(found) == 1:
        return found[0][1]
    return {join(path, name): node for path, modules in found for name, node in modules.items()}
