"""What the ONNX Runtime configs share."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from qx_plugins.calibration import taken
from qx_plugins.runtimes.exporting import CLUMSY, exported, lowering
from qx_plugins.runtimes.saturation import SEVEN_BITS, saturates
from torch import nn
from torch.export import ExportedProgram

from qx import Artifact, Context
from qx.records import Arrays

FILE = "model.onnx"


def artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    quantize: Callable[[Path, Path], None] | None = None,
) -> Artifact:
    """Export the model, prepare the graph and have it quantized from one file into another.

    ``quantize`` is given a file to read and the file to write. Raises ``Unsupported``.
    """
    assert context.folder is not None
    with tempfile.TemporaryDirectory(prefix="qx-") as name:
        plain, target = Path(name) / "exported.onnx", context.folder / FILE
        program = _export(model, example_inputs, plain)
        if quantize is None:
            shutil.copyfile(plain, target)
        else:
            with lowering(program, "cannot be quantized by ONNX Runtime", blameless=CLUMSY):
                quantize(preprocessed(plain), target)
    reduced = quantize is not None and saturates()
    return Artifact(
        folder=context.folder,
        loader="onnxruntime",
        files=[FILE],
        details={"reduced_range": reduced},
        notes=[SEVEN_BITS] if reduced else [],
    )


def _export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], path: Path) -> ExportedProgram:
    program = exported(model, example_inputs)
    # It tells its progress on standard output, and again in its errors.
    with lowering(program, "cannot be exported to ONNX"), contextlib.redirect_stdout(io.StringIO()):
        made = torch.onnx.export(program, dynamo=True, verbose=False)
        assert made is not None
        made.save(str(path), external_data=False)
    _strip(path)
    return program


def _strip(path: Path) -> None:
    """Take out what the exporter wrote for debugging: lines of source with the paths of this machine."""
    model = onnx.load(path)
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for function in model.functions:
        function.ClearField("metadata_props")
        for node in function.node:
            node.ClearField("metadata_props")
    onnx.save(model, path)


def preprocessed(path: Path) -> Path:
    """The graph with shapes inferred, and folded as the runtime would fold it when it loads it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = path.with_name("preprocessed.onnx")
    try:
        quant_pre_process(str(path), str(target))
    except Exception:
        # Symbolic shapes fail for operators that it does not know, and are not needed to fold.
        quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    return target


def static_artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context, *, per_channel: bool
) -> Artifact:
    """Activations uint8 and weights int8 between the extremes that calibration has seen, as QDQ."""
    batches = taken(model)

    def quantize(source: Path, target: Path) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        quantize_static(
            str(source),
            str(target),
            _Reader(_names(source), batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            reduce_range=saturates(),
        )

    return artifact(model, example_inputs, context, quantize)


def _names(path: Path) -> list[str]:
    model = onnx.load(path, load_external_data=False)
    constants = {one.name for one in model.graph.initializer}
    return [one.name for one in model.graph.input if one.name not in constants]


class _Reader:
    """The calibration batches as ONNX Runtime reads them."""

    def __init__(self, names: Sequence[str], batches: Sequence[Arrays]) -> None:
        self._batches = (dict(zip(names, batch.values(), strict=True)) for batch in batches)

    def get_next(self) -> Any:
        return next(self._batches, None)
