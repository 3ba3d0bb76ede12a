"""What the ncnn configs share."""

from __future__ import annotations

import copy
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

from qx import Artifact, Context, Unsupported
from qx_plugins.loaders.ncnn import NcnnSubject
from qx_plugins.recipes.exporting import MAX_REASON_LENGTH, describe_error
from qx_plugins.recipes.tracing import UNRELATED_ERRORS, explain_errors

FILES = ("model.param", "model.bin")
#: Said of every artifact: it decides what batches cost.
ONE_BY_ONE = "ncnn knows no batch: the items of a batch are served one after another"
#: How far outputs may be off the model's: a share of what tells two items apart, and of the largest. Rounding
#: is far less, what a converter got wrong is more. Half precision has 11 bits of significand.
MAX_ERROR_SHARE, ROUNDING, HALF_ROUNDING = 0.02, 1e-5, 2.0**-10
#: What pnnx calls the types of inputs that ncnn has.
TYPES = {
    torch.float32: "f32",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}
#: Dimensions that an item may have.
MAX_DIMENSIONS = 4
#: A layer that ncnn has; pnnx leaves what it cannot convert as it was, under a name with dots or colons.
_LAYER = re.compile(r"\w+")


def build_artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context, *, half: bool = False
) -> Artifact:
    """Convert the model and write it; with weights in half precision where ``half``.

    ncnn is then asked whether it computes what the model does, of two items: pnnx drops what it does not
    understand, and says so in passing at most. Raises ``Unsupported``.
    """
    assert context.folder is not None
    inputs, expected = run_two_items(model, example_inputs)
    with TemporaryDirectory(prefix="qx-") as scratch:
        for made, name in zip(convert_with_pnnx(model, inputs, Path(scratch), half), FILES, strict=True):
            shutil.move(made, context.folder / name)
    made_of = Artifact(
        folder=context.folder,
        loader="ncnn",
        files=FILES,
        details={
            "inputs": [list(tensor.shape[1:]) for tensor in inputs],
            "output": list(expected.shape[1:]),
            "half": half,
        },
        notes=(ONE_BY_ONE,),
    )
    _verify_outputs(made_of, inputs, expected)
    return made_of


def run_two_items(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...]
) -> tuple[tuple[torch.Tensor, ...], numpy.ndarray]:
    """Two items that the model answers with finite numbers, and its answers; the model is left as it was."""
    model, why = copy.deepcopy(model), "its answers are not finite"
    for inputs in _candidates(example_inputs):
        try:
            with torch.no_grad():
                expected = model(*(tensor.clone() for tensor in inputs)).numpy()
        except UNRELATED_ERRORS:
            raise
        except Exception as error:
            # It may take another.
            why = describe_error(error)
        else:
            if numpy.isfinite(expected).all():
                return inputs, expected
    raise Unsupported(f"neither with noise nor with its example can the model be held against ncnn: {why}")


def _candidates(example_inputs: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Noise of two items, the same without what is not positive, and the example; integers are 0 and 1."""
    drawn = []
    for index, tensor in enumerate(example_inputs):
        generator, shape = torch.Generator().manual_seed(index), (2, *tensor.shape[1:])
        if tensor.is_floating_point():
            drawn.append(torch.randn(shape, generator=generator, dtype=tensor.dtype))
        else:
            drawn.append(torch.randint(0, 2, shape, generator=generator).to(tensor.dtype))
    yield tuple(drawn)
    yield tuple(one.abs() + 0.5 if one.is_floating_point() else one for one in drawn)
    yield tuple(tensor[:1].repeat(2, *[1] * (tensor.dim() - 1)) for tensor in example_inputs)


def convert_with_pnnx(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path, half: bool = False
) -> tuple[Path, Path]:
    """The layers and the weights that pnnx makes of the model, as files in this folder, among its others.

    ``inputs`` are what it is traced with. Raises ``Unsupported`` where it cannot, or leaves a layer in that
    ncnn does not have.
    """
    import pnnx

    # One item: ncnn has no batch, and pnnx takes the first dimension away.
    items = tuple(tensor[:1].clone() for tensor in inputs)
    for tensor in items:
        if tensor.dtype not in TYPES:
            raise Unsupported(f"cannot be converted for ncnn: it has no {tensor.dtype}")
        if tensor.dim() - 1 > MAX_DIMENSIONS:
            raise Unsupported(f"cannot be converted for ncnn: items of {tensor.dim() - 1} dimensions")
    traced = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), explain_errors(model, "cannot be traced"):
        # Of tracing itself, which pnnx needs; what depends on the input has failed to export before.
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(copy.deepcopy(model), items, check_trace=False), traced)
    (folder / "model.pt").write_bytes(traced.getbuffer())
    shapes = ",".join(f"[{','.join(map(str, one.shape))}]{TYPES[one.dtype]}" for one in items)
    layers, weights = (folder / name for name in FILES)
    command = [
        *(pnnx.EXEC_PATH, "model.pt", f"inputshape={shapes}", f"fp16={int(half)}"),
        *(f"ncnnparam={layers.name}", f"ncnnbin={weights.name}"),
    ]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode == -signal.SIGKILL:
        raise MemoryError("pnnx was killed")
    if done.returncode or not layers.is_file() or not weights.is_file():
        said = (done.stdout.strip().splitlines() or ["nothing"])[-1].strip()[:MAX_REASON_LENGTH]
        ended = f"ended with {done.returncode}"
        if done.returncode < 0:
            ended = f"was ended by {signal.Signals(-done.returncode).name}"
        raise Unsupported(f"cannot be converted for ncnn: pnnx {ended}; it last said: {said}")
    lines = layers.read_text(errors="replace").splitlines()[2:]
    foreign = sorted(
        {kind for line in lines if line.strip() and not _LAYER.fullmatch(kind := line.split()[0])}
    )
    if foreign:
        raise Unsupported(
            f"cannot be converted for ncnn, which has no {_layer_names(foreign)}"[:MAX_REASON_LENGTH]
        )
    return layers, weights


def _layer_names(kinds: Sequence[str]) -> str:
    """Layers as their author knows them: pnnx writes ``nn.GroupNorm``, ``F.pad`` or ``aten::roll``."""
    return ", ".join(re.sub(r"^(nn|F|torch|Tensor|aten|pnnx)(\.|::)", "", kind) for kind in kinds)


def _verify_outputs(artifact: Artifact, inputs: tuple[torch.Tensor, ...], expected: numpy.ndarray) -> None:
    """Raise ``Unsupported`` where ncnn computes something else than the model."""
    arrays = {str(index): tensor.numpy() for index, tensor in enumerate(inputs)}
    try:
        subject = NcnnSubject(artifact, threads=1)
        outputs = subject.outputs(subject.call(subject.prepare(arrays)))
    except (RuntimeError, ValueError) as error:
        raise Unsupported(
            f"ncnn cannot run what pnnx made of the model: {error}"[:MAX_REASON_LENGTH]
        ) from error
    if outputs.shape != expected.shape:
        raise Unsupported(f"ncnn answers with {outputs.shape} where the model does with {expected.shape}")
    largest, off = float(numpy.abs(expected).max()), float(numpy.abs(outputs - expected).max())
    # Of equal items, or of a model that tells them apart by nothing, all that there is.
    scale = float(numpy.abs(expected[0] - expected[1]).max()) or largest
    rounding = HALF_ROUNDING if artifact.details["half"] else ROUNDING
    if not off <= MAX_ERROR_SHARE * scale + rounding * largest:
        raise Unsupported(
            f"what ncnn computes is not what the model does: outputs up to {largest:.2g}, which are up to "
            f"{scale:.2g} apart, are off by {off:.2g}"
        )
