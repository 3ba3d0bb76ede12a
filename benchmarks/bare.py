"""What one would write by hand to time a model in a runtime, without qx: load, warm up, call, median.

    python benchmarks/bare.py onnxruntime model.onnx images.npy 1

prints the median milliseconds of a call. With ``asked`` at the end it prints those of every call, for every
line of two numbers: calls that do not count, and calls that do. It imports the runtime and numpy, and nothing
of qx but, for torch, the network.
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
    """The network of the built-in workloads in eager mode."""
    import torch
    from qx_plugins.networks.cifar_cnn import CifarCNN

    torch.set_num_threads(threads)
    model = CifarCNN()
    model.load_state_dict(torch.load(path, weights_only=True))
    model.eval()
    inputs = torch.from_numpy(images)
    # Kept with the function: the mode ends when this object goes.
    guard = torch.inference_mode()
    guard.__enter__()

    def call(_guard: object = guard) -> Any:
        return model(inputs)

    return call


def aot_inductor(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """A compiled package, as a server in C++ would run it.

    The object that ``torch._inductor.aoti_load_package`` gives reads at every call how its arguments nest.
    """
    import torch

    torch.set_num_threads(threads)
    package = torch._C._aoti.AOTIModelPackageLoader(path, "model", False, 1, -1)
    inputs = [torch.from_numpy(images)]
    # Kept with the function: the mode ends when this object goes.
    guard = torch.inference_mode()
    guard.__enter__()

    def call(_guard: object = guard) -> Any:
        return package.run(inputs)

    return call


def onnxruntime(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """A session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


def openvino(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """A synchronous request."""
    import openvino

    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Else it computes what is not quantized in bfloat16, where the CPU can.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", properties).create_infer_request()
    tensor = openvino.Tensor(images, shared_memory=True)
    return lambda: request.infer({0: tensor}, share_inputs=True, share_outputs=True)


def executorch(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """The runtime's own interface for Python."""
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(path).load_method("forward")
    inputs = (torch.from_numpy(images),)
    return lambda: method.execute(inputs)


def ncnn(path: str, images: np.ndarray, threads: int) -> Callable[[], Any]:
    """An extractor for each call, which is given one image."""
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


def timed(call: Callable[[], Any], warm: int, calls: int) -> list[float]:
    """Milliseconds of each call."""
    for _ in range(warm):
        call()
    times = []
    for _ in range(calls):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return [1000 * one for one in times]


def main() -> None:
    """Print the median; or all times, for each line that asks."""
    runtime, path, images, threads, *asked = sys.argv[1:]
    call = RUNTIMES[runtime](path, np.load(images), int(threads))
    if not asked:
        print(median(timed(call, WARM, CALLS)))
    for line in sys.stdin if asked else ():
        warm, calls = map(int, line.split())
        print(*timed(call, warm, calls), flush=True)


if __name__ == "__main__":
    main()
