"""Sessions of ONNX Runtime on a CUDA device, in the stream that torch's time stamps go through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from qx import Arrays, Artifact, Context, Unsupported, one_line
from qx_plugins.runtimes.onnxruntime.gpu import CUDA, FP16, PROVIDER, TENSORRT


class DeviceSession:
    """A session whose inputs and outputs lie on a device; a call returns when its work is queued."""

    def __init__(self, artifact: Artifact, context: Context) -> None:
        """Raise ``Unsupported`` where the provider cannot be used, which would silently be replaced."""
        self._device, self._names = torch.device(context.device), artifact.outputs
        # ONNX Runtime does not take the default stream.
        self._stream = torch.cuda.Stream(self._device)
        torch.cuda.set_stream(self._stream)
        self.session = _open(artifact, context, self._device, self._stream)
        self._inputs = [entry.name for entry in self.session.get_inputs()]
        self._outputs = [entry.name for entry in self.session.get_outputs()]
        self._options = onnxruntime.RunOptions()
        # qx waits for the device itself.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def prepare(self, arrays: Arrays) -> Any:
        """Return inputs on the device, bound to the session; they stay alive as long as the binding."""
        binding = self.session.io_binding()
        tensors = []
        for name, array in zip(self._inputs, arrays.values(), strict=True):
            tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
            binding.bind_input(
                name, "cuda", self._device.index, array.dtype, tuple(tensor.shape), tensor.data_ptr()
            )
            tensors.append(tensor)
        for name in self._outputs:
            binding.bind_output(name, "cuda", self._device.index)
        torch.cuda.synchronize(self._device)
        return binding, tensors

    def call(self, native: Any) -> Any:
        """Run the graph once."""
        binding, _ = native
        self.session.run_with_iobinding(binding, self._options)
        return native

    def outputs(self, native: Any) -> Arrays:
        """Return the outputs of the last call of this binding."""
        binding, _ = native
        torch.cuda.synchronize(self._device)
        return dict(zip(self._names, binding.copy_outputs_to_cpu(), strict=True))


def _open(artifact: Artifact, context: Context, device: torch.device, stream: torch.cuda.Stream) -> Any:
    provider = str(artifact.details[PROVIDER])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = context.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    shared = {"device_id": str(device.index), "user_compute_stream": str(stream.cuda_stream)}
    # TensorFloat-32 is not single precision.
    providers: list[tuple[str, dict[str, str]]] = [(CUDA, {**shared, "use_tf32": "0"})]
    if provider == TENSORRT:
        own = _tensorrt_options(artifact, context.cache)
        providers.insert(0, (TENSORRT, {**shared, **own}))
    try:
        session = onnxruntime.InferenceSession(
            str(artifact.folder / artifact.files[0]), options, providers=providers
        )
    except Exception as error:  # of several types, none of them public
        raise Unsupported(f"ONNX Runtime cannot use {provider}: {one_line(error, 300)}") from error
    if provider not in session.get_providers():
        raise Unsupported(
            f"ONNX Runtime cannot use {provider} here, and would use {', '.join(session.get_providers())}: "
            f"is its library missing?"
        )
    return session


def _tensorrt_options(artifact: Artifact, cache: Path | None) -> dict[str, str]:
    """Return the options of TensorRT, which keeps the engines that it builds in the run's folder."""
    options = {"trt_fp16_enable": "1" if artifact.details[FP16] else "0"}
    if cache is not None:
        folder = cache / "tensorrt"
        folder.mkdir(exist_ok=True)
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
    return options
