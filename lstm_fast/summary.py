"""A model as tables of text, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .activations import LINEAR, SIGMOID, TANH, Activation
from .spec import GATES, Cell, Dense, Elementwise, Embedding, Layer, Masking, ModelSpec, Recurrent


def summary_text(
    spec: ModelSpec,
    *,
    dtype: object = None,
    backend: str | None = None,
    isa: str | None = None,
    num_threads: int | None = None,
) -> str:
    """One row per layer, then totals, input and output; what runs the model where it is given."""
    rows = [
        [layer.name, layer_type(layer), output, f"{parameters(layer):,}", options(layer, masks=has_masks(spec))]
        for layer, output in zip(spec.layers, _outputs(spec), strict=True)
    ]
    lines = [table(["Layer", "Type", "Output", "Parameters", "Options"], rows, right={3}), ""]
    total = sum(value.size for _, value in spec.tensors())
    lines.append(f"Parameters: {total:,} ({total * spec.dtype.itemsize / 1024:,.1f} KiB as {spec.dtype})")
    lines.append(f"Input:      {_input(spec)}")
    digest = f", SHA-256 {spec.source_sha256}" if spec.source_sha256 else ""
    lines.append(f"Source:     {printable(spec.source_kind)}{printable(digest)}")
    engine = [str(dtype) if dtype is not None else "", backend or "", isa or ""]
    if num_threads is not None:
        engine.append(f"{num_threads} thread" + ("" if num_threads == 1 else "s"))
    if any(engine):
        lines.append(f"Runs as:    {', '.join(fact for fact in engine if fact)}")
    return "\n".join(lines)


def tensor_text(spec: ModelSpec) -> str:
    """One row per weight: its shape, its gates in order, and what it was made from."""
    rows = [
        [fact["name"], str(tuple(fact["shape"])), fact["gates"], fact["source"], fact["note"]]
        for fact in tensor_facts(spec)
    ]
    return table(["Tensor", "Shape", "Gates", "Source", "Source layout"], rows)


def tensor_facts(spec: ModelSpec) -> list[dict]:
    """What :func:`tensor_text` prints, as data; ``source`` and ``note`` are empty where the origin is not known."""
    origins = {origin.target: origin for origin in spec.provenance}
    facts = []
    for layer in spec.layers:
        for tensor, value in layer.tensors():
            name = f"{layer.name}.{tensor}"
            origin = origins.get(name)
            facts.append(
                {
                    "name": name,
                    "shape": list(value.shape),
                    "dtype": str(value.dtype),
                    "gates": _gates(layer, tensor),
                    "source": origin.source if origin else "",
                    "note": origin.note if origin else "",
                }
            )
    return facts


def layer_type(layer: Layer) -> str:
    """For example "LSTM, 2 layers, bidirectional"."""
    if not isinstance(layer, Recurrent):
        return type(layer).__name__
    words = [layer.kind.upper()]
    if len(layer.layers) > 1:
        words.append(f"{len(layer.layers)} layers")
    if layer.num_directions == 2:
        words.append("bidirectional")
    if layer.reverse:
        words.append("reverse")
    return ", ".join(words)


def parameters(layer: Layer) -> int:
    """How many weights a layer has."""
    return sum(value.size for _, value in layer.tensors())


def options(layer: Layer, *, masks: bool) -> str:
    """What differs from the plain layer, such as activations or a projection; ``masks`` if the network masks steps."""
    return ", ".join(_options(layer, masks))


def has_masks(spec: ModelSpec) -> bool:
    """Whether a layer of the network masks steps."""
    return any(isinstance(layer, Masking) or getattr(layer, "mask_zero", False) for layer in spec.layers)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: set[int] | frozenset[int] = frozenset()) -> str:
    """Columns of text under their headers, those whose index is in ``right`` flush right; control characters escaped.

    A column that is empty in every row is left out.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(headers)) if not cells or any(row[i] for row in cells)]
    widths = {i: max(len(headers[i]), *(len(row[i]) for row in cells), 0) for i in kept}

    def line(row: Sequence[str]) -> str:
        return "  ".join(row[i].rjust(widths[i]) if i in right else row[i].ljust(widths[i]) for i in kept).rstrip()

    return "\n".join([line(headers), line(["-" * widths.get(i, 0) for i in range(len(headers))]), *map(line, cells)])


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor or change its colours: such characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _options(layer: Layer, masks: bool) -> Iterator[str]:
    if isinstance(layer, Recurrent):
        yield from _recurrent_options(layer, masks)
    elif isinstance(layer, Embedding):
        yield f"vocabulary {layer.weight.shape[0]:,}"
        if layer.mask_zero:
            yield "id 0 masked"
    elif isinstance(layer, Masking):
        yield f"mask value {layer.mask_value:g}"
    elif isinstance(layer, Dense | Elementwise):
        if layer.activation != LINEAR:
            yield str(layer.activation)
        if isinstance(layer, Dense) and layer.bias is None:
            yield "no bias"
    elif layer.log:
        yield "logarithm"


def _recurrent_options(layer: Recurrent, masks: bool) -> Iterator[str]:
    if not layer.return_sequences:
        yield "last output only"
    if masks and layer.masked_output == "repeat":
        yield "masked steps repeat"
    cell = layer.layers[0][0]
    if cell.weight_hr is not None:
        yield f"projection {cell.hidden_size} to {cell.output_size}"
    if cell.kind == "gru" and not cell.reset_after:
        yield "reset before"
    if cell.bias is None and cell.bias_hn is None:
        yield "no bias"
    yield from _activations(cell)
    if any(_settings(other) != _settings(cell) for _, other in layer.cells()):
        yield "cells differ"


def _activations(cell: Cell) -> Iterator[str]:
    if cell.kind != "rnn" and cell.gate_activation != SIGMOID:
        yield f"gates {cell.gate_activation}"
    if cell.activation != TANH:
        yield f"activation {cell.activation}"
    if cell.kind == "lstm" and cell.output_activation != TANH:
        yield f"output {cell.output_activation}"


def _settings(cell: Cell) -> tuple[Activation | bool, ...]:
    has_bias = cell.bias is not None or cell.bias_hn is not None
    return cell.reset_after, has_bias, cell.gate_activation, cell.activation, cell.output_activation


def _outputs(spec: ModelSpec) -> Iterator[str]:
    """The shape that leaves each layer."""
    size, sequence = spec.input_size, True
    for layer in spec.layers:
        if isinstance(layer, Recurrent | Dense | Embedding):
            size = layer.output_size
        if isinstance(layer, Recurrent):
            sequence = sequence and layer.return_sequences
        yield f"({', '.join([*_axes(spec), str(size)])})" if sequence else f"(batch, {size})"


def _input(spec: ModelSpec) -> str:
    if spec.takes_ids:
        return f"({', '.join(_axes(spec))}) integer ids"
    return f"({', '.join([*_axes(spec), str(spec.input_size)])})"


def _axes(spec: ModelSpec) -> tuple[str, str]:
    return ("batch", "time") if spec.batch_first else ("time", "batch")


def _gates(layer: Layer, tensor: str) -> str:
    stacked = isinstance(layer, Recurrent) and tensor.startswith(("weight_ih", "weight_hh", "bias_l"))
    return ",".join(GATES[layer.kind]) if stacked and len(GATES[layer.kind]) > 1 else ""
