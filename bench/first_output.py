"""One process from its start to its first output: ``python -m bench.first_output ENGINE MODEL X.npy Y.npy``.

It imports nothing but what the engine needs, runs the model once on X, prints when that was done, by the clock that
all processes share, and the most memory that was resident until then; and writes what came out to Y.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def numpy(model: str, x: np.ndarray) -> np.ndarray:
    """The base: the input read, and no network."""
    return x


def ours(model: str, x: np.ndarray) -> np.ndarray:
    import lstm_fast

    return lstm_fast.load(model).predict(x)


def torch(model: str, x: np.ndarray) -> np.ndarray:
    import torch

    torch.set_num_threads(1)
    weights = torch.load(model, weights_only=True)
    rows, inputs = weights["weight_ih_l0"].shape
    module = torch.nn.LSTM(inputs, rows // 4, batch_first=True)
    module.load_state_dict(weights)
    with torch.inference_mode():
        return module(torch.from_numpy(x))[0].numpy()


def onnxruntime(model: str, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["Y"], {"X": x.swapaxes(0, 1)})[0][:, 0].swapaxes(0, 1)


def openvino(model: str, x: np.ndarray) -> np.ndarray:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return compiled([np.ascontiguousarray(x.swapaxes(0, 1))])[0][:, 0].swapaxes(0, 1)


def keras(model: str, x: np.ndarray) -> np.ndarray:
    import keras

    return keras.ops.convert_to_numpy(keras.saving.load_model(model)(x))


ENGINES: dict[str, Callable[[str, np.ndarray], np.ndarray]] = {
    run.__name__: run for run in (numpy, ours, torch, onnxruntime, openvino, keras)
}


def main(engine: str, model: str, x: str, y: str) -> None:
    output = ENGINES[engine](model, np.load(x))
    done = time.monotonic()
    status = Path("/proc/self/status").read_text().splitlines()
    [peak] = [line.split()[1] for line in status if line.startswith("VmHWM:")]
    print(done, peak)
    np.save(y, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
