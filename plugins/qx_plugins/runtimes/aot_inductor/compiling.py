"""What the Inductor configs share: export, compile, package. Light: torch is imported in functions."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx import Artifact, Unsupported
from qx_plugins.loaders.aot_inductor import open_package

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx_plugins.recipes.fidelity import Reference

LOADER = "aot_inductor"
PACKAGE = "model.pt2"
#: C++ compilers, as Inductor and the user may name them.
COMPILERS = ("$CXX", "g++", "clang++")
#: The largest batch that a package is compiled for.
MAX_BATCH = 1 << 16

#: What is asked of Inductor, as far as this version of torch knows it.
SETTINGS: Mapping[str, Any] = {
    # As many threads as the process that serves has, not as the one that built had.
    "cpp.dynamic_threads": True,
    # A build is cold, whatever was compiled on this machine before.
    "force_disable_caches": True,
    # Neither line tables for debuggers nor checks of shapes are shipped: a third of the file.
    "aot_inductor.enable_line_tables": False,
    "size_asserts": False,
    # Headers are worth precompiling to those who compile more than once.
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
}


def export_for_inductor(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], *, training: bool = False
) -> torch.export.ExportedProgram:
    """The model's graph, for any batch size. Raises ``Unsupported`` with what ``torch.export`` cannot do."""
    import torch

    from qx_plugins.recipes.exporting import dynamic_shapes_of
    from qx_plugins.recipes.rewriting import make_row_major, rewrite_program
    from qx_plugins.recipes.tracing import explain_errors

    # For training, where a version of torch tells the two apart: that graph keeps what quantizers look for.
    export = getattr(torch.export, "export_for_training", None) or torch.export.export
    # An example of one would fix the size at one.
    examples = tuple(torch.cat([one, one]) for one in example_inputs)
    shapes = dynamic_shapes_of(model, len(examples), torch.export.Dim("batch", min=1, max=MAX_BATCH))
    (model.train if training else model.eval)()
    make_row_major(model)
    with explain_errors(model, "torch.export"):
        program = export(model, examples, dynamic_shapes=shapes)
    if (module := rewrite_program(program)) is None:
        return program
    shapes = dynamic_shapes_of(module, len(examples), torch.export.Dim("batch", min=1, max=MAX_BATCH))
    return export(module, examples, dynamic_shapes=shapes)


def compile_package(
    program: torch.export.ExportedProgram,
    folder: Path | None,
    expected: Reference,
    *,
    freezing: bool = True,
    notes: tuple[str, ...] = (),
) -> Artifact:
    """Compile a program for this CPU into a package, and try it.

    ``expected`` is what the fp32 model gives. Without ``freezing`` no arithmetic on weights is done
    beforehand: where 8-bit weights are to be multiplied by their scales at each call, it would put the
    products into the package. Raises ``Unsupported`` without a C++ compiler, for an operation that Inductor
    cannot lower, with its layer, and for a package that gives other numbers than its program.
    """
    import torch

    from qx_plugins.recipes.fidelity import verify_compiled

    assert folder is not None
    with _own_folders(folder):
        import torch._inductor

        settings = {**SETTINGS, "freezing": freezing, "cpp.cxx": (None, _compiler())}
        supported = {name: value for name, value in settings.items() if _has_setting(name)}
        with torch.no_grad(), _lowering(program):
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(folder / PACKAGE), inductor_configs=supported
            )
        package = open_package(folder / PACKAGE)

        def served(*inputs: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor
            (outputs,) = package.run(list(inputs))
            return outputs

        verify_compiled(expected, program.module(), served, "compiled by Inductor, it")
    return Artifact(folder=folder, files=[PACKAGE], loader=LOADER, notes=notes)


@contextmanager
def _lowering(program: torch.export.ExportedProgram) -> Iterator[None]:
    """Have operations that Inductor cannot lower told as ``Unsupported``; all else is told as it is."""
    from torch._inductor import exc

    from qx_plugins.recipes.exporting import lowering_error

    kinds = (exc.LoweringException, exc.MissingOperatorWithDecomp, exc.MissingOperatorWithoutDecomp)
    try:
        yield
    except Exception as error:
        cause = getattr(error, "inner_exception", error)
        if not isinstance(cause, kinds):
            raise
        raise lowering_error(program, cause, "cannot be lowered by Inductor") from error


def _compiler() -> str:
    for name in COMPILERS:
        if (found := shutil.which(os.path.expandvars(name))) is not None:
            return found
    raise Unsupported("Inductor needs a C++ compiler: install g++ or clang++, or name one in CXX")


def _has_setting(setting: str) -> bool:
    import torch._inductor.config

    place: Any = torch._inductor.config
    for part in setting.split("."):
        if not hasattr(place, part):
            return False
        place = getattr(place, part)
    return True


@contextmanager
def _own_folders(home: Path) -> Iterator[None]:
    """Have all that a compilation leaves lie within the build, and go with it, however that ends."""
    names = ("TORCHINDUCTOR_CACHE_DIR", "TMPDIR")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix=".inductor-", dir=home) as folder:
        os.environ.update(dict.fromkeys(names, folder))
        tempfile.tempdir = None  # asks the environment again
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            tempfile.tempdir = None
