"""Serve a module without the code that made it: exported or traced, and served by torch alone.

A state dict needs the code of its module, and that of the config that converts it. Here the module that the
loader has rebuilt is written as a program: by ``torch.export`` where it has no 8-bit layers, which that does
not take, and else by ``torch.jit.trace``. Either is accepted only where it gives the module's outputs bit for
bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qx import ServingCode, Unsupported, one_line

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from torch import nn

    from qx import Lengths

#: Files of the programs.
EXPORTED, TRACED = "serve_model.pt2", "serve_model.ts"
#: What is said of programs of TorchScript.
TRACED_NOTE = (
    "The program is TorchScript, which torch has deprecated and which later versions may not load: "
    "torch.export does not take torch's own 8-bit layers."
)


def load(files: list[Path], details: dict[str, Any], threads: int) -> Any:
    """Load a program of torch.export or of TorchScript that computes on this many threads."""
    import warnings

    import torch

    torch.set_num_threads(threads)
    if files[0].suffix == ".pt2":
        return torch.export.load(str(files[0])).module(), details["outputs"]
    torch.backends.quantized.engine = details["engine"]
    with warnings.catch_warnings():
        # TorchScript is deprecated, and the form in which torch's own 8-bit layers can be saved.
        warnings.simplefilter("ignore")
        return torch.jit.load(str(files[0]), map_location="cpu").eval(), details["outputs"]


def run(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of the program, which takes the arrays in their order."""
    import torch

    program, names = model
    with torch.inference_mode():
        outputs = program(*map(torch.from_numpy, inputs.values()))
    tensors = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}


# Writing programs ---------------------------------------------------------------------------------


def write_program(
    module: nn.Module,
    inputs: Mapping[str, np.ndarray],
    names: Sequence[str],
    folder: Path,
    engine: str | None,
    lengths: Lengths | None = None,
) -> ServingCode:
    """Write a module as a program into a folder, and return how it is served. Raises ``Unsupported``.

    ``inputs`` are two items by name, ``names`` those of the outputs.
    """
    import torch

    arrays = tuple(torch.from_numpy(array) for array in inputs.values())
    details = {"engine": engine, "outputs": list(names)}
    reasons = []
    export = partial(_export, lengths=lengths)
    for name, write, notes in ((EXPORTED, export, ()), (TRACED, _trace, (TRACED_NOTE,))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write(module, arrays, folder / name)
                program, _ = load([folder / name], details, torch.get_num_threads())
                _verify(module, program, arrays)
        # What torch raises for a module that it cannot write is of any type.
        except Exception as error:
            (folder / name).unlink(missing_ok=True)
            reasons.append(f"{name}: {one_line(error, 200)}")
            continue
        return ServingCode.from_functions(
            load, run, files=[name], details=details, requires=["torch"], notes=notes
        )
    raise Unsupported(f"the module cannot be written as a program of torch alone ({'; '.join(reasons)})")


def _export(module: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, lengths: Lengths | None) -> None:
    import torch

    from qx_plugins.recipes.exporting import dynamic_shapes_of

    shapes = dynamic_shapes_of(module, len(inputs), torch.export.Dim("batch", min=1), lengths)
    with torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
    torch.export.save(program, str(path))


def _trace(module: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    import torch

    with torch.no_grad():
        program = torch.jit.trace(module, inputs, strict=False, check_trace=False)
    torch.jit.save(program, str(path))


def _verify(module: nn.Module, program: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> None:
    """Raise ``Unsupported`` unless a program gives a module's outputs bit for bit, at several batch sizes."""
    import torch

    batches = (
        inputs,
        tuple(tensor[:1] for tensor in inputs),
        tuple(torch.cat([tensor, tensor[:1]]) for tensor in inputs),
    )
    with torch.inference_mode():
        for batch in (*batches, inputs):
            own, expected = (_tensors(function(*batch)) for function in (program, module))
            equal = len(own) == len(expected) and all(map(torch.equal, own, expected))
            if not equal:
                raise Unsupported(f"it gives other outputs at batch size {len(batch[0])}")


def _tensors(outputs: Any) -> list[torch.Tensor]:
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
