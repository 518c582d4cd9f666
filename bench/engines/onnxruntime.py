"""ONNX Runtime on its CPU provider: ``session.run`` on NumPy arrays, time first, without the final states."""

from __future__ import annotations

import numpy as np

from lstm_fast.spec import ModelSpec

from . import Engine, Run
from .onnx_model import onnx_input, onnx_model, onnx_output


class OnnxRuntime(Engine):
    name, package, modules = "onnxruntime", "onnxruntime", ("onnxruntime", "onnx")

    def prepare(self, spec: ModelSpec, x: np.ndarray, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = onnx_model(spec, *x.shape[:2])
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names, feed = ["Y"], {"X": onnx_input(x)}
        return Run(lambda: session.run(names, feed), lambda result: onnx_output(result[0]))
