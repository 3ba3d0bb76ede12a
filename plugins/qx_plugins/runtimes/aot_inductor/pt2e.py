"""Quantization of exported graphs for Inductor on x86: from torch, or where it has left it, torchao."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from qx import Artifact, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

#: The versions that this was seen to work with.
TORCHAO = ("torchao>=0.18", "torch>=2.11")
#: The attribute of a prepared graph that keeps what the fp32 model gives: no name that a model could have.
_EXPECTED = "what the fp32 model gives, of qx"


def requires() -> tuple[str, ...]:
    """What must be installed besides torch. Imports no torch: it is asked when the catalogue is made."""
    return () if _in_torch() else TORCHAO


def _in_torch() -> bool:
    spec = find_spec("torch")
    places = spec.submodule_search_locations if spec is not None else None
    return any(Path(place, "ao/quantization/quantize_pt2e.py").is_file() for place in places or ())


def library() -> Any:
    """Its functions, under the names that both homes give them."""
    home = "torch.ao.quantization" if _in_torch() else "torchao.quantization.pt2e"
    modes, quantize_pt2e = import_module(home), import_module(f"{home}.quantize_pt2e")
    return SimpleNamespace(
        prepare=quantize_pt2e.prepare_pt2e,
        prepare_qat=quantize_pt2e.prepare_qat_pt2e,
        convert=quantize_pt2e.convert_pt2e,
        to_eval=modes.move_exported_model_to_eval,
        allow_modes=modes.allow_exported_model_train_eval,
        x86=import_module(f"{home}.quantizer.x86_inductor_quantizer"),
    )


def prepare_graph(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], *, training: bool = False
) -> nn.Module:
    """The exported graph with observers, or with fake quantization to train with.

    Activations uint8 per tensor (of 128 levels on CPUs where 256 could saturate), weights int8 per channel.
    """
    from qx_plugins.recipes.fidelity import compute_reference, verify_outputs
    from qx_plugins.recipes.finetuning import unquantized_copy
    from qx_plugins.recipes.rewriting import name_calls_separately
    from qx_plugins.recipes.saturation import saturates
    from qx_plugins.recipes.tracing import explain_errors
    from qx_plugins.runtimes.aot_inductor.compiling import export_for_inductor

    pt2e = library()
    _check_statistics(model)
    expected = compute_reference(model.eval(), example_inputs)
    graph: fx.GraphModule = export_for_inductor(model, example_inputs, training=training).module()
    repeated = name_calls_separately(graph)
    recipe = pt2e.x86.get_default_x86_inductor_quantization_config(is_qat=training, reduce_range=saturates())
    quantizer = pt2e.x86.X86InductorQuantizer().set_global(recipe)
    with explain_errors(model, _quantizer_cause(repeated)):
        graph = (pt2e.prepare_qat if training else pt2e.prepare)(graph, quantizer)
    plain = unquantized_copy(graph, pt2e.to_eval) if training else graph
    verify_outputs(expected, plain, "folding normalization into weights")
    setattr(graph, _EXPECTED, expected)
    return graph


def _check_statistics(model: nn.Module) -> None:
    """Raise ``Unsupported`` for normalization by the statistics of each batch: eval mode asks for others."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is None:
            raise Unsupported(
                f"layer {name!r} ({type(layer).__name__}): it keeps no running statistics, and an exported "
                f"model in eval mode needs them"
            )


def _quantizer_cause(repeated: list[str]) -> str:
    """What may be behind an error of the quantizer: it cannot tell the calls of one layer apart."""
    names = ", ".join(map(repr, repeated))
    more = f", which cannot always tell apart the calls of layers that are called more than once ({names})"
    return f"the quantizer for Inductor{more if names else ''}"


def build_artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], folder: Path | None
) -> Artifact:
    """What comes of a model that has been observed, or trained: compiled, and with its reduced range told."""
    from qx_plugins.recipes.saturation import SEVEN_BIT_ACTIVATIONS, saturates
    from qx_plugins.runtimes.aot_inductor.compiling import compile_package, export_for_inductor

    notes = (SEVEN_BIT_ACTIVATIONS,) if saturates() else ()
    expected = model.__dict__.pop(_EXPECTED)
    return compile_package(
        export_for_inductor(convert_graph(model), example_inputs), folder, expected, notes=notes
    )


def convert_graph(model: nn.Module) -> nn.Module:
    """The graph with 8-bit weights, to be exported once more and compiled."""
    pt2e = library()
    graph: nn.Module = pt2e.convert(model)
    pt2e.to_eval(graph)
    pt2e.allow_modes(graph)
    return graph
