"""Quantize exported graphs for Inductor on x86, by torch or, in newer versions, by torchao."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from qx import Artifact, Context, FloatLayers, Lengths, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import fx, nn
    from torch.export import ExportedProgram

#: Versions of torchao and torch that this works with.
TORCHAO = ("torchao>=0.18", "torch>=2.11")
#: Attribute of a prepared graph that holds outputs of the fp32 model. It is no Python name: no model has it.
_EXPECTED = "what the fp32 model gives, of qx"


def requires() -> tuple[str, ...]:
    """Return the packages required besides torch. Imports no torch: it runs whenever plugins are listed."""
    return () if _is_in_torch() else TORCHAO


def _is_in_torch() -> bool:
    """Whether the installed torch contains the quantizers, looked up without importing it."""
    spec = find_spec("torch")
    folders = spec.submodule_search_locations if spec is not None else None
    return any(Path(folder, "ao/quantization/quantize_pt2e.py").is_file() for folder in folders or ())


def library() -> Any:
    """Return the functions for quantization, from whichever library has them."""
    home = "torch.ao.quantization" if _is_in_torch() else "torchao.quantization.pt2e"
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
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    lengths: Lengths | None = None,
    *,
    in_float: FloatLayers,
    training: bool = False,
) -> nn.Module:
    """Export the model and insert observers, or fake quantization for ``training``; none into ``in_float``.

    Activations are uint8 per tensor (128 levels on CPUs where 256 could saturate), weights int8 per channel.
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
    program = export_for_inductor(model, example_inputs, lengths, training=training)
    graph: fx.GraphModule = program.module()
    if training:
        _check_dropout(program)
    repeated = name_calls_separately(graph)
    recipe = pt2e.x86.get_default_x86_inductor_quantization_config(is_qat=training, reduce_range=saturates())
    quantizer = _quantizer(pt2e.x86, in_float).set_global(recipe)
    with explain_errors(model, _quantizer_cause(repeated)):
        graph = (pt2e.prepare_qat if training else pt2e.prepare)(graph, quantizer)
    plain = unquantized_copy(graph, pt2e.to_eval) if training else graph
    verify_outputs(expected, plain, "folding normalization into weights")
    setattr(graph, _EXPECTED, expected)
    return graph


def _quantizer(x86: Any, in_float: FloatLayers) -> Any:
    """Return the quantizer for Inductor, which leaves these layers in float."""
    from qx_plugins.recipes.float_nodes import leave_in_float

    class Quantizer(x86.X86InductorQuantizer):  # type: ignore[misc, unused-ignore]
        def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
            leave_in_float(model, in_float, x86._X86InductorQuantizationAnnotation)
            annotated: fx.GraphModule = super().annotate(model)
            return annotated

    return Quantizer()


def _check_dropout(program: ExportedProgram) -> None:
    """Raise ``Unsupported`` for dropout within attention, which cannot be switched off after the training."""
    from qx_plugins.recipes.exporting import layer_of

    for node in program.graph.nodes:
        if "scaled_dot_product_attention" not in str(node.target):
            continue
        # query, key, value, mask, probability of dropout
        dropout = node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0)
        if dropout:
            raise Unsupported(
                f"layer {layer_of(node)!r}: its dropout of {dropout:g} within attention cannot be switched "
                "off after training; set that to 0"
            )


def _check_statistics(model: nn.Module) -> None:
    """Raise ``Unsupported`` for normalization without running statistics, which eval mode needs."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is None:
            raise Unsupported(
                f"layer {name!r} ({type(layer).__name__}): it keeps no running statistics, and an exported "
                f"model in eval mode needs them"
            )


def _quantizer_cause(repeated: list[str]) -> str:
    """Return a likely cause of an error of the quantizer: it cannot tell the calls of one layer apart."""
    names = ", ".join(map(repr, repeated))
    more = f", which cannot always tell apart the calls of layers that are called more than once ({names})"
    return f"the quantizer for Inductor{more if names else ''}"


def build_artifact(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    """Quantize and compile a model that was calibrated or trained; its notes mention a reduced range."""
    from qx_plugins.recipes.saturation import SEVEN_BIT_ACTIVATIONS, saturates
    from qx_plugins.runtimes.aot_inductor.compiling import compile_package, export_for_inductor

    notes = (SEVEN_BIT_ACTIVATIONS,) if saturates() else ()
    expected = model.__dict__.pop(_EXPECTED)
    program = export_for_inductor(convert_graph(model), example_inputs, context.lengths)
    return compile_package(program, context, [expected], notes=notes)


def convert_graph(model: nn.Module) -> nn.Module:
    """Return the graph with 8-bit weights, to be exported again and compiled."""
    pt2e = library()
    graph: nn.Module = pt2e.convert(model)
    pt2e.to_eval(graph)
    pt2e.allow_modes(graph)
    return graph
