"""OpenVINO on its CPU plugin: one infer request, used again, with tensors bound to it that share the arrays' memory.

Arrays given to every call would be wrapped anew, which takes it some 25 to 60 µs. It computes in bfloat16 unasked on
CPUs that have it; here it is told which precision to use.
"""

from __future__ import annotations

from lstm_fast.spec import ModelSpec

from ..shapes import Feed, Shape
from . import Engine, Run, states_of_layers
from .onnx_model import NO_PROJECTION, onnx_inputs, onnx_model, onnx_output


class OpenVino(Engine):
    name, package, modules = "openvino", "openvino", ("openvino", "onnx")
    hint = "f32"

    def cannot(self, shape: Shape) -> str:
        return NO_PROJECTION if shape.proj_size else ""

    def prepare(self, spec: ModelSpec, feed: Feed, threads: int) -> Run:
        import openvino

        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": self.hint,
        }
        compiled = core.compile_model(core.read_model(onnx_model(spec, feed)), "CPU", settings)
        request = compiled.create_infer_request()
        layers = len(spec.recurrent[0].layers)
        inputs = list(onnx_inputs(feed, layers).values())
        for index, array in enumerate(inputs):
            request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))

        def call():
            return request.infer(share_outputs=True)

        call.inputs = inputs  # a tensor does not keep the memory alive that it shares
        return Run(
            call,
            lambda result: onnx_output(result[0]),
            lambda result: states_of_layers(list(result.values())[1:], layers),
        )


class OpenVinoBfloat16(OpenVino):
    name, precision, hint = "openvino-bf16", "bfloat16", "bf16"

    def cannot(self, shape: Shape) -> str:
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "no bfloat16 in this CPU"
        return super().cannot(shape)
