"""OpenVINO on its CPU plugin, kept in float32: one infer request, reused, whose arrays are shared and not copied."""

from __future__ import annotations

import numpy as np

from lstm_fast.spec import ModelSpec

from . import Engine, Run
from .onnx_model import onnx_input, onnx_model, onnx_output


class OpenVino(Engine):
    name, package, modules = "openvino", "openvino", ("openvino", "onnx")

    def prepare(self, spec: ModelSpec, x: np.ndarray, threads: int) -> Run:
        import openvino

        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 by default on CPUs that have it
        }
        compiled = core.compile_model(core.read_model(onnx_model(spec, *x.shape[:2])), "CPU", settings)
        request = compiled.create_infer_request()
        feed = [onnx_input(x)]

        def call():
            return request.infer(feed, share_inputs=True, share_outputs=True)

        return Run(call, lambda result: onnx_output(result[0]))
