"""Convert models to ncnn, shared by its configs."""

from __future__ import annotations

import copy
import inspect
import io
import re
import shutil
import signal
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import torch
from torch import nn

from qx import OUTPUT, Artifact, Context, Unsupported
from qx_plugins.loaders.ncnn import NcnnSubject
from qx_plugins.recipes.exporting import REASON_LENGTH, describe_error
from qx_plugins.recipes.fidelity import all_finite, run_model
from qx_plugins.recipes.tracing import UNRELATED_ERRORS, explain_errors

FILES = ("model.param", "model.bin")
#: Note of every artifact, because it decides what batches cost.
ONE_BY_ONE = "ncnn knows no batch: the items of a batch are served one after another"
#: Largest error of outputs, as a share of the difference between two items, and a share of the largest output
#: for rounding. Rounding errors are far smaller, conversion errors larger. Half precision has 11 bits of
#: significand.
MAX_ERROR_SHARE, ROUNDING, HALF_ROUNDING = 0.02, 1e-5, 2.0**-10
#: pnnx's names of the types of inputs that ncnn supports.
TYPES = {
    torch.float32: "f32",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}
#: Largest number of dimensions of an item.
MAX_DIMENSIONS = 4
#: Name of a layer that ncnn has. pnnx keeps what it cannot convert, under a name with dots or colons.
_LAYER = re.compile(r"\w+")


def build_artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context, *, half: bool = False
) -> Artifact:
    """Convert the model and write it, with weights in half precision if ``half``.

    The outputs of ncnn for two items are then compared with the model's: pnnx drops what it does not support,
    at most with a warning. Raises ``Unsupported``.
    """
    assert context.folder is not None
    inputs, expected = run_two_items(model, example_inputs)
    with TemporaryDirectory(prefix="qx-") as scratch:
        for path, name in zip(convert_with_pnnx(model, inputs, Path(scratch), half), FILES, strict=True):
            shutil.move(path, context.folder / name)
    artifact = Artifact(
        folder=context.folder,
        loader="ncnn",
        files=FILES,
        details={
            "inputs": [list(tensor.shape[1:]) for tensor in inputs],
            "outputs": [list(output.shape[1:]) for output in expected],
            "half": half,
        },
        notes=(ONE_BY_ONE,),
        outputs=[OUTPUT, *(f"{OUTPUT}_{index}" for index in range(1, len(expected)))],
    )
    _verify_outputs(artifact, inputs, expected)
    return artifact


def run_two_items(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...]
) -> tuple[tuple[torch.Tensor, ...], tuple[numpy.ndarray, ...]]:
    """Return inputs of two items for which all outputs are finite, and the outputs, each ``[2, ...]``.

    A copy of the model is run. Raises ``Unsupported`` where no tried inputs give finite outputs.
    """
    model, reason = copy.deepcopy(model), "its answers are not finite"
    for inputs in _candidates(example_inputs):
        try:
            outputs = run_model(model, [tensor.clone() for tensor in inputs])
        except UNRELATED_ERRORS:
            raise
        except Exception as error:
            # The next candidate may work.
            reason = describe_error(error)
        else:
            if all_finite(outputs):
                return inputs, tuple(output.numpy() for output in outputs)
    raise Unsupported(f"cannot compare the model with ncnn, on noise or on its example inputs: {reason}")


def _candidates(example_inputs: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield inputs of two items: noise, positive noise, the example repeated; integers are 0 or 1."""
    drawn = []
    for index, tensor in enumerate(example_inputs):
        generator, shape = torch.Generator().manual_seed(index), (2, *tensor.shape[1:])
        if tensor.is_floating_point():
            drawn.append(torch.randn(shape, generator=generator, dtype=tensor.dtype))
        else:
            drawn.append(torch.randint(0, 2, shape, generator=generator).to(tensor.dtype))
    yield tuple(drawn)
    yield tuple(tensor.abs() + 0.5 if tensor.is_floating_point() else tensor for tensor in drawn)
    yield tuple(tensor[:1].repeat(2, *[1] * (tensor.dim() - 1)) for tensor in example_inputs)


def convert_with_pnnx(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path, half: bool = False
) -> tuple[Path, Path]:
    """Convert the model by pnnx in ``folder``, and return the files of its layers and of its weights.

    ``inputs`` are the arguments that the model is traced with. Raises ``Unsupported`` where pnnx fails or
    leaves a layer that ncnn does not have.
    """
    import pnnx

    # One item: ncnn has no batches, and pnnx removes the first dimension.
    items = tuple(tensor[:1].clone() for tensor in inputs)
    for index, tensor in enumerate(items):
        named = f"cannot be converted for ncnn: input {_input_name(model, index)}"
        if tensor.dtype not in TYPES:
            raise Unsupported(f"{named} is {tensor.dtype}, which it has none of")
        if tensor.dim() - 1 > MAX_DIMENSIONS:
            raise Unsupported(f"{named} has items of {tensor.dim() - 1} dimensions")
    traced = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), explain_errors(model, "cannot be traced"):
        # Warnings of tracing: models that depend on their input have failed to export before.
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(_with_weights_of_their_own(model), items, check_trace=False), traced)
    (folder / "model.pt").write_bytes(traced.getbuffer())
    shapes = ",".join(f"[{','.join(map(str, item.shape))}]{TYPES[item.dtype]}" for item in items)
    layers, weights = (folder / name for name in FILES)
    command = [
        *(pnnx.EXEC_PATH, "model.pt", f"inputshape={shapes}", f"fp16={int(half)}"),
        *(f"ncnnparam={layers.name}", f"ncnnbin={weights.name}"),
    ]
    process = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if process.returncode == -signal.SIGKILL:
        raise MemoryError("pnnx was killed")
    if process.returncode or not layers.is_file() or not weights.is_file():
        last_line = (process.stdout.strip().splitlines() or ["nothing"])[-1].strip()[:REASON_LENGTH]
        status = f"ended with exit status {process.returncode}"
        if process.returncode < 0:
            status = f"was killed by {signal.Signals(-process.returncode).name}"
        raise Unsupported(
            f"cannot be converted for ncnn: pnnx {status}; its last line of output: {last_line}"
        )
    lines = layers.read_text(errors="replace").splitlines()[2:]
    missing = sorted(
        {kind for line in lines if line.strip() and not _LAYER.fullmatch(kind := line.split()[0])}
    )
    if missing:
        raise Unsupported(
            f"cannot be converted for ncnn, which has no {_layer_names(missing, model)}"[:REASON_LENGTH]
        )
    return layers, weights


def _input_name(model: nn.Module, index: int) -> str:
    """Return the name of the argument that an input is, or its place where ``forward`` takes any number."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    if index < len(parameters) and parameters[index].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return repr(parameters[index].name)
    return str(index)


def _with_weights_of_their_own(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which no two layers share a parameter: pnnx converts no such layer."""
    model, seen = copy.deepcopy(model), set[int]()
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in seen:
                setattr(layer, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
            seen.add(id(parameter))
    return model


def _layer_names(kinds: Sequence[str], model: nn.Module) -> str:
    """Return layers by the names that users know: pnnx writes ``nn.GroupNorm``, ``F.pad``, ``aten::roll``.

    Beside the kind of a layer is the name of the first one of that kind in the model.
    """
    words = []
    for kind in kinds:
        word = re.sub(r"^(nn|F|torch|Tensor|aten|pnnx)(\.|::)", "", kind)
        layers = (name for name, layer in model.named_modules() if name and type(layer).__name__ == word)
        first = next(layers, None)
        words.append(f"{word} (layer {first!r})" if first else word)
    return ", ".join(words)


def _verify_outputs(
    artifact: Artifact, inputs: tuple[torch.Tensor, ...], expected: tuple[numpy.ndarray, ...]
) -> None:
    """Raise ``Unsupported`` where the outputs of ncnn differ from those of the model."""
    arrays = {str(index): tensor.numpy() for index, tensor in enumerate(inputs)}
    try:
        subject = NcnnSubject(artifact, threads=1)
        outputs = subject.outputs(subject.call(subject.prepare(arrays)))
    except (RuntimeError, ValueError) as error:
        raise Unsupported(f"ncnn cannot run what pnnx made of the model: {error}"[:REASON_LENGTH]) from error
    for own, output in zip(outputs.values(), expected, strict=True):
        _verify_output(own, output, HALF_ROUNDING if artifact.details["half"] else ROUNDING)


def _verify_output(output: numpy.ndarray, expected: numpy.ndarray, rounding: float) -> None:
    """Raise ``Unsupported`` where an output of ncnn differs from that of the model by more than rounding."""
    if output.shape != expected.shape:
        raise Unsupported(
            f"the outputs of ncnn have shape {output.shape}, those of the model {expected.shape}"
        )
    largest, error_size = float(numpy.abs(expected).max()), float(numpy.abs(output - expected).max())
    # Equal outputs for both items have no difference: their size is the scale then.
    scale = float(numpy.abs(expected[0] - expected[1]).max()) or largest
    if not error_size <= MAX_ERROR_SHARE * scale + rounding * largest:
        raise Unsupported(
            f"the outputs of ncnn differ from the model's by up to {error_size:.2g}: the model's are up to "
            f"{largest:.2g}, and differ between two items by up to {scale:.2g}"
        )
