"""Do scripts that quantize by hand, without qx, give the predictions that qx's configs give?

For each architecture qx runs its static int8 configs. The functions below, which use the tools alone, get the
network with the same weights and the same calibration items in the same order, and answer for the same test
items. They do so with all settings as the tool has them, and with the settings that the config chooses
otherwise (``CHOSEN``). The figures are the share of items with the same prediction, and by how many decibels
qx's outputs are above what the script's differ by.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import nn

import qx
from benchmarks.common import HERE, keep
from qx.foreign import one_line
from qx.storage.cache import SPLITS, open_cache
from qx.worker.arrays import Split

#: The settings that a config chooses otherwise than the tool, and why.
CHOSEN = {
    "fx_static_int8": "activations by their extremes, in 7 bits, and not by histograms, as in eager mode's "
    "configs",
    "onnxruntime_static_int8_per_channel": "average pools stay in float, since the tool gives their output "
    "the range of their input; one scale for each output channel, where the tool has one for all",
    "onnxruntime_static_int8_per_tensor": "average pools stay in float",
    "openvino_int8": "weights of 8 bits in all layers, since this CPU cannot overflow, where the tool takes "
    "7 in the first; what is not quantized in float32, where the tool takes bfloat16 on this CPU",
}
BATCH = 32
WORKLOADS = ("digits_cnn", "sensor_series", "languages_encoder")

Batches = Sequence[list[np.ndarray]]
#: Answers of a quantized network: scores ``[batch, classes]`` of inputs ``[batch, ...]``.
Answers = Callable[[list[np.ndarray]], np.ndarray]


# Scripts, as they are written by hand -------------------------------------------------------------


def by_fx(model: nn.Module, calibration: Batches, chosen: bool) -> Answers:
    """Quantize by torch.fx."""
    from torch.ao.quantization import (
        QConfig,
        default_observer,
        default_per_channel_weight_observer,
        get_default_qconfig_mapping,
    )
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    for layer in model.modules():
        # torch packs no padding that is a word, and says so; these kernels are odd.
        if getattr(layer, "padding", None) == "same" and isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            layer.padding = tuple(size // 2 for size in layer.kernel_size)
    mapping = get_default_qconfig_mapping("x86")
    if chosen:
        mapping.set_global(QConfig(default_observer, default_per_channel_weight_observer))
    tensors = [tuple(map(torch.from_numpy, batch)) for batch in calibration]
    prepared = prepare_fx(model, mapping, tensors[0])
    with torch.no_grad():
        for batch in tensors:
            prepared(*batch)
    converted = convert_fx(prepared)

    def answer(inputs: list[np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(converted(*map(torch.from_numpy, inputs)))

    return answer


class Reader:
    """Calibration batches for ONNX Runtime."""

    def __init__(self, name: str, batches: Batches) -> None:
        self.batches = iter([{name: batch[0]} for batch in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch."""
        return next(self.batches, None)


def by_onnxruntime(model: nn.Module, calibration: Batches, chosen: bool, per_channel: bool) -> Answers:
    """Export to ONNX, preprocess, quantize, and open a session."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, quantized = (f"{folder}/{name}.onnx" for name in ("plain", "ready", "quantized"))
        examples = tuple(map(torch.from_numpy, calibration[0]))
        torch.onnx.export(
            model,
            examples,
            plain,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
        )
        quant_pre_process(plain, ready)
        graph = onnx.load(ready).graph
        pools = [node.name for node in graph.node if node.op_type.endswith("AveragePool")]
        quantize_static(
            ready,
            quantized,
            Reader(graph.input[0].name, calibration),
            per_channel=per_channel and chosen,
            nodes_to_exclude=pools if chosen else [],
        )
        session = onnxruntime.InferenceSession(quantized, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: np.asarray(session.run(None, {name: inputs[0]})[0])


def by_nncf(model: nn.Module, calibration: Batches, chosen: bool) -> Answers:
    """Convert for OpenVINO, quantize by NNCF, and compile."""
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    example = torch.from_numpy(calibration[0][0])
    shape = openvino.PartialShape([-1, *example.shape[1:]])
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    converted = openvino.convert_model(program)
    converted.reshape({0: shape})
    items = [batch[0][index : index + 1] for batch in calibration for index in range(len(batch[0]))]
    advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.DISABLE) if chosen else None
    quantized = nncf.quantize(
        converted, nncf.Dataset(items), subset_size=len(items), advanced_parameters=advanced
    )
    properties = {"INFERENCE_PRECISION_HINT": "f32"} if chosen else {}
    compiled = openvino.Core().compile_model(quantized, "CPU", properties)
    return lambda inputs: np.asarray(compiled(inputs[0])[0])


SCRIPTS: dict[str, Callable[[nn.Module, Batches, bool], Answers]] = {
    "fx_static_int8": by_fx,
    "onnxruntime_static_int8_per_channel": partial(by_onnxruntime, per_channel=True),
    "onnxruntime_static_int8_per_tensor": partial(by_onnxruntime, per_channel=False),
    "openvino_int8": by_nncf,
}


# The comparison -----------------------------------------------------------------------------------


def network(workload: str) -> nn.Module:
    """Return the network of a workload, with its weights."""
    model: nn.Module
    if workload == "sensor_series":
        from qx_plugins.networks.series_network import SeriesNetwork

        model = SeriesNetwork(channels=3, num_classes=8)
    elif workload == "languages_encoder":
        from qx_plugins.networks.text_encoder import TextEncoder

        model = TextEncoder(vocabulary=32, length=32, num_classes=10)
    else:
        from qx_plugins.networks.cifar_cnn import CifarCNN

        model = CifarCNN()
    with files("qx_weights").joinpath(f"{workload}.pt").open("rb") as file:
        model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def compare(workload: str) -> dict[str, Any]:
    """Return the shares of equal predictions of each config, or why qx or a script cannot quantize."""
    result = qx.run(
        workloads=workload, configs=list(SCRIPTS), metrics=["accuracy", "file_size"], progress=False
    )
    results = result.results
    record = results.run.workloads[workload]
    folder = open_cache() / SPLITS
    (name,) = record.calibrations.values()
    assert record.evaluation_sha256 is not None
    calibrating, evaluated = Split.read(folder / name), Split.read(folder / record.evaluation_sha256)
    calibration = [list(map(np.array, batch.inputs.values())) for batch in calibrating.batches(BATCH)]
    shares: dict[str, Any] = {"calibration items": len(calibrating), "items": len(evaluated)}
    for key, cell in results.cells.items():
        if cell.config not in SCRIPTS:
            continue
        if cell.outcome != "ok":
            shares[cell.config] = {"qx": f"{cell.outcome}: {cell.cause}"}
            continue
        (ours,) = result.samples.outputs[key].values()
        figures: dict[str, Any] = {}
        for words, chosen in (("the config's settings", True), ("the tool's settings", False)):
            try:
                answer = SCRIPTS[cell.config](network(workload), calibration, chosen)
            except Exception as error:
                # Whatever a tool raises is the result.
                figures[words] = one_line(error, 200)
                continue
            outputs = np.concatenate(
                [answer(list(map(np.array, batch.inputs.values()))) for batch in evaluated.batches(BATCH)]
            )
            same = outputs.argmax(axis=1) == ours.argmax(axis=1)
            signal, noise = qx.signal_and_noise(outputs, ours)
            figures[words] = {
                "same": float(same.mean()),
                "sqnr_db": round(float(10 * np.log10(signal.sum() / max(noise.sum(), 1e-30))), 1),
            }
        shares[cell.config] = figures
        print(workload, cell.config, figures, flush=True)
    return shares


def main() -> None:
    """Print and keep the shares of all architectures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--workload",
        action="append",
        choices=WORKLOADS,
        help="this one alone (repeatable); adds to what is kept",
    )
    chosen = parser.parse_args().workload
    path = HERE / "results" / "by_script.json"
    kept: dict[str, Any] = json.loads(path.read_text())["workloads"] if chosen and path.exists() else {}
    torch.set_num_threads(1)
    for name in chosen or WORKLOADS:
        kept[name] = compare(name)
        keep("by_script", {"chosen": CHOSEN, "workloads": kept})


if __name__ == "__main__":
    main()
