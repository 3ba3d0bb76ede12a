"""What the ncnn configs share."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import torch
from qx_plugins.loaders.ncnn import NcnnSubject
from qx_plugins.runtimes.exporting import ROOM
from qx_plugins.tracing import blaming
from torch import nn

from qx import Artifact, Context, Unsupported

FILES = ("model.param", "model.bin")
#: Said of every artifact: it decides what batches cost.
ONE_BY_ONE = "ncnn knows no batch: the items of a batch are served one after another"
#: How far outputs may be off the model's, as a share of the largest: rounding is a thousand times less, and
#: what a converter got wrong is more.
MOST_OFF = 0.02
#: What pnnx calls the types of inputs.
TYPES = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}
#: A layer that ncnn has; pnnx leaves what it cannot convert as it was, under a name with dots or colons.
_LAYER = re.compile(r"\w+")


def artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context, *, half: bool = False
) -> Artifact:
    """Convert the model and write it; with weights in half precision where ``half``.

    ncnn is then asked whether it computes what the model does: pnnx drops what it does not understand, and
    says so in passing at most. Raises ``Unsupported``.
    """
    assert context.folder is not None
    with TemporaryDirectory(prefix="qx-") as scratch:
        for made, name in zip(converted(model, example_inputs, Path(scratch), half), FILES, strict=True):
            shutil.move(made, context.folder / name)
    inputs = tuple(_filled(tensor) for tensor in example_inputs)
    with torch.no_grad():
        due = model(*inputs).numpy()
    made_of = Artifact(
        folder=context.folder,
        loader="ncnn",
        files=FILES,
        details={"item": list(due.shape[1:])},
        notes=(ONE_BY_ONE,),
    )
    _check(made_of, inputs, due)
    return made_of


def converted(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], folder: Path, half: bool = False
) -> tuple[Path, Path]:
    """The layers and the weights that pnnx makes of the model, as files in this folder, among its others.

    Raises ``Unsupported`` where it cannot, or leaves a layer in that ncnn does not have.
    """
    import pnnx

    # One item: ncnn has no batch, and pnnx takes the first dimension away.
    inputs = tuple(_filled(tensor)[:1] for tensor in example_inputs)
    if unknown := next((tensor.dtype for tensor in inputs if tensor.dtype not in TYPES), None):
        raise Unsupported(f"cannot be converted for ncnn: it has no {unknown}")
    with warnings.catch_warnings(), torch.no_grad(), blaming(model, "cannot be traced"):
        # Of tracing itself, which pnnx needs; what depends on the input has failed to export before.
        warnings.simplefilter("ignore")
        torch.jit.trace(model, inputs, check_trace=False).save(folder / "model.pt")
    shapes = ",".join(f"[{','.join(map(str, one.shape))}]{TYPES[one.dtype]}" for one in inputs)
    layers, weights = (folder / name for name in FILES)
    command = [
        *(pnnx.EXEC_PATH, "model.pt", f"inputshape={shapes}", f"fp16={int(half)}"),
        *(f"ncnnparam={layers.name}", f"ncnnbin={weights.name}"),
    ]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode or not layers.is_file() or not weights.is_file():
        said = (done.stdout.strip().splitlines() or ["nothing"])[-1]
        raise Unsupported(f"cannot be converted for ncnn: pnnx ended with {done.returncode}: {said[:ROOM]}")
    kinds = [line.split()[0] for line in layers.read_text().splitlines()[2:] if line.strip()]
    foreign = sorted({kind for kind in kinds if not _LAYER.fullmatch(kind)})
    if foreign:
        raise Unsupported(f"cannot be converted for ncnn: it has no {', '.join(foreign)}"[:ROOM])
    return layers, weights


def _filled(tensor: torch.Tensor) -> torch.Tensor:
    """Noise where an example of floats may be all zeros, which would hide what goes wrong; else itself."""
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)


def _check(artifact: Artifact, inputs: tuple[torch.Tensor, ...], due: numpy.ndarray) -> None:
    """Raise ``Unsupported`` where ncnn computes something else than the model."""
    subject = NcnnSubject(*(artifact.folder / file for file in FILES), artifact.details["item"], threads=1)
    given = subject.outputs(
        subject.call(subject.prepare({str(index): one.numpy() for index, one in enumerate(inputs)}))
    )
    scale = float(numpy.abs(due).max())
    off = float(numpy.abs(given - due).max())
    if not off <= MOST_OFF * scale:
        raise Unsupported(
            f"what ncnn computes is not what the model does: outputs up to {scale:.2g} are off by {off:.2g}"
        )
