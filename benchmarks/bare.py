"""A script as it is written by hand to time a model in a runtime, without qx: load, warm up, call, median.

    python benchmarks/bare.py onnxruntime model.onnx images.npy 1

prints the median milliseconds of a call. With ``asked`` as last argument it reads lines of two numbers, the
calls to warm up and the calls to time, and prints the milliseconds of each timed call. It imports the runtime
and numpy, and nothing of qx but, for torch, the network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

WARM, CALLS = 100, 300


def torch(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call of the built-in workloads' network in eager mode."""
    import torch
    from qx_plugins.networks.cifar_cnn import CifarCNN

    torch.set_num_threads(threads)
    model = CifarCNN()
    model.load_state_dict(torch.load(path, weights_only=True))
    model.eval()
    inputs = torch.from_numpy(images)
    # The mode ends with this object, so the function keeps it.
    guard = torch.inference_mode()
    guard.__enter__()

    def call(_guard: object = guard) -> Any:
        return model(inputs)

    return call


def aot_inductor(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call of a compiled package, as a server in C++ would run it.

    The object that ``torch._inductor.aoti_load_package`` returns flattens its arguments in every call.
    """
    import torch

    torch.set_num_threads(threads)
    package = torch._C._aoti.AOTIModelPackageLoader(path, "model", False, 1, -1)
    inputs = [torch.from_numpy(images)]
    # The mode ends with this object, so the function keeps it.
    guard = torch.inference_mode()
    guard.__enter__()

    def call(_guard: object = guard) -> Any:
        return package.run(inputs)

    return call


def onnxruntime(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call of a session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


def openvino(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call of a synchronous request."""
    import openvino

    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Otherwise OpenVINO computes float layers in bfloat16 on CPUs that can.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", properties).create_infer_request()
    tensor = openvino.Tensor(images, shared_memory=True)
    return lambda: request.infer({0: tensor}, share_inputs=True, share_outputs=True)


def executorch(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call through the runtime's own interface for Python."""
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(path).load_method("forward")
    inputs = (torch.from_numpy(images),)
    return lambda: method.execute(inputs)


def ncnn(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call that makes an extractor and computes one image."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.load_param(path)
    net.load_model(path.replace(".param", ".bin"))
    (image,) = images
    planes = ncnn.Mat(image).clone()

    def call() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", planes)
        return extractor.extract("out0")

    return call


RUNTIMES = {
    "torch": torch,
    "aot_inductor": aot_inductor,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "executorch": executorch,
    "ncnn": ncnn,
}


def time_calls(call: Callable[[], Any], warm_up: int, calls: int) -> list[float]:
    """Return the milliseconds of each call, after ``warm_up`` calls that are not timed."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(calls):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return [1000 * seconds for seconds in times]


def main() -> None:
    """Print the median, or with ``asked`` the times of each line of standard input."""
    runtime, path, images, threads, *mode = sys.argv[1:]
    call = RUNTIMES[runtime](path, np.load(images), int(threads))
    if not mode:
        print(median(time_calls(call, WARM, CALLS)))
    for line in sys.stdin if mode else ():
        warm_up, calls = map(int, line.split())
        print(*time_calls(call, warm_up, calls), flush=True)


if __name__ == "__main__":
    main()
