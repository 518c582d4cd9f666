"""Cold start and memory: fresh processes that load one network from each engine's own file and run it once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_fast import reference
from lstm_fast.check import difference
from lstm_fast.fileformat import write_lstmf
from lstm_fast.spec import ModelSpec

from .machine import THREAD_VARIABLES
from .measure import TOLERANCE, DisagreementError
from .progress import progress
from .results import Start
from .shapes import Shape

ROOT = Path(__file__).resolve().parent.parent
SHAPE = Shape("lstm", 1, 100, 256, 256)
BASE = "numpy"
ROUNDS = 15


def _ours(spec: ModelSpec, file: Path) -> None:
    write_lstmf(spec, file)


def _torch(spec: ModelSpec, file: Path) -> None:
    import torch

    from .engines.torch import state_dict

    torch.save({name: torch.from_numpy(value) for name, value in state_dict(spec.recurrent[0]).items()}, file)


def _onnx(spec: ModelSpec, file: Path) -> None:
    from .engines.onnx_model import onnx_model

    file.write_bytes(onnx_model(spec, SHAPE.feed()))


def _openvino(spec: ModelSpec, file: Path) -> None:
    import openvino

    from .engines.onnx_model import onnx_model

    model = openvino.Core().read_model(onnx_model(spec, SHAPE.feed()))
    openvino.save_model(model, file, compress_to_fp16=False)


def _keras(spec: ModelSpec, file: Path) -> None:
    from .engines.keras import keras_model

    keras_model(spec.recurrent[0], (SHAPE.batch, SHAPE.time, SHAPE.input_size)).save(file)


#: By engine: the name of its file, and what writes it.
FILES: dict[str, tuple[str, Callable[[ModelSpec, Path], Any]]] = {
    "ours": ("model.lstmf", _ours),
    "torch": ("model.pt", _torch),
    "onnxruntime": ("model.onnx", _onnx),
    "openvino": ("model.xml", _openvino),
    "keras": ("model.keras", _keras),
}


def measure_starts(engines: Sequence[str], rounds: int = ROUNDS) -> dict[str, Start]:
    """Medians over ``rounds`` of fresh processes in turn, after one round that fills the caches of the disk.

    Every process has one thread, whatever else is measured, and finds its modules compiled to bytecode, as installed
    ones are, whether or not this environment lets Python write any.

    Raises:
        DisagreementError: a first output is not the reference's.
    """
    spec, x = SHAPE.network(), SHAPE.feed().x
    expected, _ = reference.forward(spec, x)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", x)
        compiled = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
        environment = os.environ | compiled | dict.fromkeys(THREAD_VARIABLES, "1")
        commands = {BASE: ["", folder / "x.npy", folder / "y.npy"]}
        for engine in engines:
            if engine in FILES:
                file, write = FILES[engine]
                write(spec, folder / file)
                commands[engine] = [folder / file, folder / "x.npy", folder / "y.npy"]
        found: dict[str, list[tuple[float, float]]] = {engine: [] for engine in commands}
        for number in progress(range(rounds + 1), "cold starts"):
            for engine, arguments in commands.items():
                start = _start(engine, arguments, environment)
                off = 0 if engine == BASE else difference(np.load(folder / "y.npy"), expected)
                if not off <= TOLERANCE:
                    raise DisagreementError(f"{engine}: its first output differs from the reference by {off:.1e}")
                if number:
                    found[engine].append(start)
    return {engine: _medians(starts, found[BASE]) for engine, starts in found.items()}


def _start(engine: str, arguments: Sequence[object], environment: Mapping[str, str]) -> tuple[float, float]:
    """Milliseconds and mebibytes of one process."""
    command = [sys.executable, "-m", "bench.first_output", engine, *map(str, arguments)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    finished, kibibytes = done.stdout.split()[-2:]
    return (float(finished) - began) * 1e3, float(kibibytes) / 1024


def _medians(starts: Sequence[tuple[float, float]], base: Sequence[tuple[float, float]]) -> Start:
    """Of what they took, and of what more than the base in the same round, which was as quick or slow."""
    own = np.array(starts)
    medians = (*np.median(own, axis=0), *np.median(own - base, axis=0))
    return Start(*(round(float(value), 1) for value in medians))
