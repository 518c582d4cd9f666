"""Small models of every kind for tests: deterministic random weights."""

from __future__ import annotations

import numpy as np

from lstm_fast.activations import ACTIVATIONS, Activation
from lstm_fast.spec import (
    GATES,
    Cell,
    Dense,
    Elementwise,
    Embedding,
    Masking,
    ModelSpec,
    Provenance,
    Recurrent,
    Softmax,
)


def cell(kind="lstm", inputs=3, hidden=4, *, bias=True, proj=None, seed=0, dtype=np.float32, **options) -> Cell:
    rng = np.random.RandomState(seed)

    def weight(*shape):
        return (0.5 * rng.uniform(-1, 1, shape)).astype(dtype)

    rows = len(GATES[kind]) * hidden
    split = bias and kind == "gru" and options.get("reset_after", True)
    return Cell(
        kind=kind,
        weight_ih=weight(rows, inputs),
        weight_hh=weight(rows, proj or hidden),
        bias=weight(rows) if bias else None,
        bias_hn=weight(hidden) if split else None,
        weight_hr=weight(proj, hidden) if proj else None,
        **options,
    )


def stack(kind="lstm", inputs=3, hidden=4, *, layers=1, directions=1, name="rnn", proj=None, seed=0, **options):
    """A Recurrent; ``options`` of Recurrent go to it, the others to its cells."""
    own = {key: options.pop(key) for key in ("return_sequences", "reverse", "masked_output") if key in options}
    built = []
    for index in range(layers):
        size = inputs if index == 0 else directions * (proj or hidden)
        built.append(
            tuple(
                cell(kind, size, hidden, proj=proj, seed=seed + 2 * index + direction, **options)
                for direction in range(directions)
            )
        )
    return Recurrent(name, tuple(built), **own)


def dense(inputs=4, outputs=2, *, name="dense", bias=True, seed=9, dtype=np.float32, **options) -> Dense:
    rng = np.random.RandomState(seed)
    weight = rng.uniform(-1, 1, (outputs, inputs)).astype(dtype)
    return Dense(name, weight, rng.uniform(-1, 1, outputs).astype(dtype) if bias else None, **options)


def embedding(vocabulary=7, features=3, *, name="embedding", mask_zero=False, seed=5, dtype=np.float32) -> Embedding:
    rng = np.random.RandomState(seed)
    return Embedding(name, rng.uniform(-1, 1, (vocabulary, features)).astype(dtype), mask_zero)


def tiny(**options) -> ModelSpec:
    """The smallest whole model: one LSTM and a dense layer."""
    return ModelSpec((stack(inputs=2, hidden=2, name="lstm"), dense(2, 1)), **options)


def every_spec() -> dict[str, ModelSpec]:
    """Models that between them use every layer, kind and option of the spec."""
    models: dict[str, ModelSpec] = {"tiny": tiny()}
    for kind in GATES:
        models[kind] = ModelSpec((stack(kind),))
        models[f"{kind} deep, both ways"] = ModelSpec((stack(kind, layers=2, directions=2),))
        models[f"{kind} plain"] = ModelSpec((stack(kind, bias=False, return_sequences=False),))
        models[f"{kind} reverse"] = ModelSpec((stack(kind, reverse=True, masked_output="repeat"),), batch_first=False)
        models[f"{kind} float64"] = ModelSpec((stack(kind, dtype=np.float64),))
    models["projected"] = ModelSpec((stack(proj=2, layers=2, directions=2),))
    models["gru reset before"] = ModelSpec((stack("gru", reset_after=False),))
    models["gru without candidate bias"] = ModelSpec((stack("gru", bias=False, reset_after=True), dense(bias=False)))
    for name, parameters in ACTIVATIONS.items():
        activation = Activation(name, **dict(zip(parameters, (0.2, 0.1), strict=False)))
        inner = {
            "gate_activation": activation,
            "activation": Activation("softsign"),
            "output_activation": Activation("hard_sigmoid", 0.2, 0.5),
        }
        models[f"activation {name}"] = ModelSpec(
            (stack(**inner), dense(activation=activation), Elementwise("act", activation))
        )
    models["text"] = ModelSpec(
        (embedding(mask_zero=True), stack(masked_output="repeat"), dense(4, 5), Softmax("softmax"))
    )
    models["plain text"] = ModelSpec((embedding(), stack("gru"), Softmax("softmax", log=True)))
    models["masked"] = ModelSpec((Masking("masking", -1.0), stack("gru", masked_output="repeat")))
    models["provenance"] = ModelSpec(
        (stack(name="läyer/0.é"),),
        source_kind="torch",
        source_sha256="ab" * 32,
        provenance=(Provenance("läyer/0.é.weight_ih_l0", "encoder.weight_ih_l0 + \x1b[31m", "gates i,f,g,o"),),
    )
    return models
