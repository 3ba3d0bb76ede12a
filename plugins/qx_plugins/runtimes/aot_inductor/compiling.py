"""Export a model, compile it by Inductor and package it. Light: torch is imported inside functions."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qx import Artifact, Context, Lengths, Option, Unsupported
from qx_plugins.loaders.aot_inductor import open_package

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx_plugins.recipes.fidelity import Reference

LOADER = "aot_inductor"
PACKAGE = "model.pt2"
#: C++ compilers that are looked for, in this order.
COMPILERS = ("$CXX", "g++", "clang++")
#: The largest batch that a package is compiled for.
MAX_BATCH = 1 << 16
#: File with an answer about the compiler.
ANSWER = "answer.json"

#: Settings of Inductor; those that the installed torch lacks are left out.
SETTINGS: Mapping[str, Any] = {
    # Use the number of threads of the serving process, not that of the build.
    "cpp.dynamic_threads": True,
    # Compile from scratch, whatever was compiled on this machine before.
    "force_disable_caches": True,
    # Leave out line tables for debuggers and checks of shapes: a third of the file.
    "aot_inductor.enable_line_tables": False,
    "size_asserts": False,
    # Precompiled headers pay off for repeated compilations only.
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
}


#: Option of all configs whose artifacts Inductor compiles.
KERNEL_PROFILE = Option(
    name="kernel_profile",
    default=False,
    help="have the profiler see each kernel, for qx profile; not for what is deployed, which it slows down",
)


def export_for_inductor(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    lengths: Lengths | None = None,
    *,
    training: bool = False,
) -> torch.export.ExportedProgram:
    """Export the model's graph, for any batch size, and inputs of all of ``lengths``.

    Raises ``Unsupported`` with the reason where ``torch.export`` fails.
    """
    import torch

    from qx_plugins.recipes.exporting import dynamic_shapes_of
    from qx_plugins.recipes.rewriting import make_row_major, rewrite_program
    from qx_plugins.recipes.tracing import explain_errors

    # In some versions of torch only the export for training keeps the operators that quantizers look for.
    export = getattr(torch.export, "export_for_training", None) or torch.export.export
    # A batch of one item would fix the batch size at one.
    examples = tuple(torch.cat([tensor, tensor]) for tensor in example_inputs)
    shapes = dynamic_shapes_of(model, len(examples), torch.export.Dim("batch", min=1, max=MAX_BATCH), lengths)
    (model.train if training else model.eval)()
    make_row_major(model)
    with explain_errors(model, "torch.export"):
        program = export(model, examples, dynamic_shapes=shapes)
    if (module := rewrite_program(program)) is None:
        return program
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    shapes = dynamic_shapes_of(module, len(examples), batch, lengths)
    return export(module, examples, dynamic_shapes=shapes)


@frozen
class References:
    """What a model gives before it is quantized, to verify its package against."""

    #: For inputs as the model takes them.
    whole: tuple[Reference, ...]
    #: For a prompt and for a token, where the model is a decoder that keeps a cache; otherwise none.
    in_parts: tuple[Reference, ...] = ()


def compute_references(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> References:
    """Return what a model gives for the inputs on which its package is verified, in fp32."""
    from qx_plugins.networks.decoder_graphs import can_step, decoder_references
    from qx_plugins.recipes.fidelity import compute_reference

    parts = decoder_references(model, example_inputs[0]) if can_step(model) else ()
    return References((compute_reference(model, example_inputs),), parts)


def build_package(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    expected: References,
    *,
    freezing: bool = True,
) -> Artifact:
    """Export a model and compile it into a package: that of a decoder takes a cache and passes it on.

    ``expected`` is what ``compute_references`` gave before the model was quantized. Raises ``Unsupported`` as
    ``compile_package`` does, and where the model cannot be exported. A note says why a decoder has no cache.
    """
    from qx_plugins.networks.decoder_graphs import find_decoder_graph
    from qx_plugins.recipes.fidelity import cast_inputs

    decoder, notes = find_decoder_graph(model, context.lengths)
    if decoder is None:
        program = export_for_inductor(model, example_inputs, context.lengths)
        return compile_package(program, context, expected.whole, freezing=freezing, notes=notes)
    cast = [cast_inputs(reference, decoder.cache_type) for reference in expected.in_parts]
    artifact = compile_package(decoder.program, context, cast, freezing=freezing)
    return evolve(artifact, details={**artifact.details, **decoder.details})


def compile_package(
    program: torch.export.ExportedProgram,
    context: Context,
    expected: Sequence[Reference],
    *,
    freezing: bool = True,
    notes: tuple[str, ...] = (),
) -> Artifact:
    """Compile a program for this CPU into a package, and verify its outputs.

    ``expected`` holds inputs, with the outputs of the fp32 model. Freezing computes constants ahead of time;
    without it 8-bit weights that are multiplied by their scales at each call stay in 8 bits in the package.
    Raises ``Unsupported`` without a C++ compiler, for an operation that Inductor cannot lower, with its
    layer, and for a package whose outputs differ from those of its program.
    """
    folder = context.folder
    assert folder is not None
    watched = bool(context.options.get(KERNEL_PROFILE.name))
    with _own_folders(folder), _compiler_asked_once(context):
        served = _compile(program, folder / PACKAGE, freezing=freezing, watched=watched)
        for reference in expected:
            _verify(program, served, reference, freezing=freezing)
    return Artifact(folder=folder, files=[PACKAGE], loader=LOADER, notes=notes)


def _verify(
    program: torch.export.ExportedProgram,
    served: Callable[..., tuple[torch.Tensor, ...]],
    expected: Reference,
    *,
    freezing: bool,
) -> None:
    """Raise ``Unsupported``, with the layer, where a package gives other outputs than its program."""
    from qx_plugins.recipes.bisecting import first_wrong_layer
    from qx_plugins.recipes.fidelity import verify_compiled

    try:
        verify_compiled(expected, program.module(), served, "compiled by Inductor, it")
    except Unsupported as error:
        with tempfile.TemporaryDirectory() as parts:
            compile_part = partial(_compile, place=Path(parts) / PACKAGE, freezing=freezing)
            # A part of a graph may be one that torch cannot export.
            layer = ""
            with suppress(Exception):
                layer = first_wrong_layer(program, compile_part, expected.inputs, MAX_BATCH)
        raise Unsupported(f"layer {layer!r}: {error}" if layer else str(error)) from None


def _compile(
    program: torch.export.ExportedProgram, place: Path, *, freezing: bool, watched: bool = False
) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Compile a program into a package, and return a function that runs the package.

    A profiler sees each kernel where the package is to be ``watched``.
    """
    import torch
    import torch._inductor

    settings = {**SETTINGS, "freezing": freezing, "cpp.cxx": (None, _compiler())}
    settings["cpp.enable_kernel_profile"] = watched
    supported = {name: value for name, value in settings.items() if _has_setting(name)}
    with torch.no_grad(), _explain_lowering(program):
        torch._inductor.aoti_compile_and_package(program, package_path=str(place), inductor_configs=supported)
    package = open_package(place)

    def served(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(package.run(list(inputs)))

    return served


@contextmanager
def _explain_lowering(program: torch.export.ExportedProgram) -> Iterator[None]:
    """Turn errors of Inductor's lowering into ``Unsupported``; all others are passed on unchanged."""
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


@contextmanager
def _compiler_asked_once(context: Context) -> Iterator[None]:
    """Have the builds of a run try once what the compiler does with each instruction set.

    Inductor compiles and loads a file for each before the first kernel, which takes longer than to compile
    the kernels. The answers are those of this machine, this torch and this compiler.
    """
    from torch._inductor import cpu_vec_isa

    checked: Any = cpu_vec_isa.VecISA
    ask = getattr(checked, "check_build", None)
    if ask is None:
        yield
        return

    def answer(instructions: Any, code: str) -> bool:
        question = [_compiler(), type(instructions).__name__, instructions.build_arch_flags(), code]

        def make(folder: Path) -> None:
            (folder / ANSWER).write_text(json.dumps(bool(ask(instructions, code))), encoding="ascii")

        folder = context.once(f"Inductor: {json.dumps(question)}", make)
        return bool(json.loads((folder / ANSWER).read_text(encoding="ascii")))

    checked.check_build = answer
    try:
        yield
    finally:
        checked.check_build = ask


def _compiler() -> str:
    for name in COMPILERS:
        if (path := shutil.which(os.path.expandvars(name))) is not None:
            return path
    raise Unsupported("Inductor needs a C++ compiler: install g++ or clang++, or name one in CXX")


def _has_setting(setting: str) -> bool:
    import torch._inductor.config

    config: Any = torch._inductor.config
    for part in setting.split("."):
        if not hasattr(config, part):
            return False
        config = getattr(config, part)
    return True


@contextmanager
def _own_folders(home: Path) -> Iterator[None]:
    """Put all temporary files of a compilation into a folder within the build, and remove it at the end."""
    names = ("TORCHINDUCTOR_CACHE_DIR", "TMPDIR")
    previous = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix=".inductor-", dir=home) as folder:
        os.environ.update(dict.fromkeys(names, folder))
        tempfile.tempdir = None  # tempfile reads the environment again
        try:
            yield
        finally:
            for name, value in previous.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            tempfile.tempdir = None
