"""ONNX Runtime on its CPU provider: ``session.run`` on NumPy arrays, time first; final states only if wanted.

int8 is its own dynamic quantization of the model.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from lstm_fast.spec import ModelSpec

from ..shapes import Feed, Shape
from . import Engine, Run, states_of_layers
from .onnx_model import NO_PROJECTION, onnx_inputs, onnx_model, onnx_output, onnx_outputs


class OnnxRuntime(Engine):
    name, package, modules = "onnxruntime", "onnxruntime", ("onnxruntime", "onnx")

    def cannot(self, shape: Shape) -> str:
        return NO_PROJECTION if shape.proj_size else ""

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        session = self.session(onnx_model(spec, feed), threads)
        layers = len(spec.recurrent[0].layers)
        inputs = onnx_inputs(feed, layers)
        names = onnx_outputs(inputs)
        return Run(
            lambda: session.run(names, inputs),
            lambda result: onnx_output(result[0]),
            lambda result: states_of_layers(result[1:], layers),
        )

    def session(self, model: bytes, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntimeInt8(OnnxRuntime):
    name, precision = "onnxruntime-int8", "int8"

    def cannot(self, shape: Shape) -> str:
        return super().cannot(shape) or ("" if shape.kind == "lstm" else "no dynamic quantization but of an LSTM")

    def session(self, model: bytes, threads: int) -> Any:
        import onnx
        from onnxruntime.quantization import quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            quantized = Path(folder, "int8.onnx")
            logging.disable(logging.WARNING)  # it recommends steps that concern convolutions
            try:
                quantize_dynamic(onnx.load_model_from_string(model), quantized)
            finally:
                logging.disable(logging.NOTSET)
            return super().session(quantized.read_bytes(), threads)
