"""Serve a network with ncnn: what ``serve.py`` does, too, from the text of these functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from qx import Artifact


def details_of(artifact: Artifact) -> dict[str, Any]:
    """Return what ``load`` needs to know: the shape of each output for one item, by name."""
    return {"shapes": dict(zip(artifact.outputs, artifact.details["outputs"], strict=True))}


def load(files: list[Path], details: dict[str, Any], threads: int) -> Any:
    """Read a network that computes on this many threads; the shapes of its outputs come with it."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    # Otherwise a CPU with such instructions would compute in fewer bits than the config says.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    for read, file in zip((net.load_param, net.load_model), files, strict=True):
        if read(str(file)) != 0:
            raise RuntimeError(f"ncnn cannot read {file.name}")
    return net, {name: tuple(shape) for name, shape in details["shapes"].items()}


def run(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs, computed for the items of the batch one after another."""
    import ncnn
    import numpy as np

    net, shapes = model
    # ncnn has no integers of 64 bits.
    arrays = [
        array.astype(np.int32 if array.dtype.kind in "iu" else np.float32, order="C")
        for array in inputs.values()
    ]
    used = set(net.input_names())  # inputs that no layer uses are missing
    outputs: dict[str, list[Any]] = {name: [] for name in shapes}
    for item in range(len(arrays[0])):
        extractor = net.create_extractor()
        for index, array in enumerate(arrays):
            if (name := f"in{index}") in used:
                extractor.input(name, ncnn.Mat(np.atleast_1d(array[item])).clone())
        for index, (name, shape) in enumerate(shapes.items()):
            code, answer = extractor.extract(f"out{index}")
            if code != 0:
                raise RuntimeError(f"ncnn failed with code {code}")
            outputs[name].append(np.array(answer).reshape(shape))
    return {name: np.stack(arrays) for name, arrays in outputs.items()}
