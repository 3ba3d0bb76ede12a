"""Compare the layers of a converted module with those of the fp32 model, and look at their ranges."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import Factory, define, frozen

from qx.contract.float_layers import weight_elements
from qx.contract.records import Config
from qx.contract.rounding import Rounding
from qx.contract.structure import lengths_of
from qx.errors import PluginError
from qx.processes.job_answers import LayerFigures, LayersAnswer, OutputRange, WeightRange
from qx.processes.jobs import LayersJob
from qx.worker.arrays import Split
from qx.worker.build import calibrate, model_with_weights
from qx.worker.channel import Channel
from qx.worker.inspect import quantized_layers
from qx.worker.modules import FloatModel, convert_model, example_inputs
from qx.worker.plugins import BoundPlugin, host_for, workload_of
from qx.worker.ratios import Ratio
from qx.worker.recipes import bind_config
from qx.worker.steps import Steps

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Number of items in a call of the model, and of those on which the effect of single layers is computed.
BATCH_SIZE = 16
#: A channel of weights is dead where its largest absolute value is below this share of the layer's.
DEAD = 1e-6


def run(job: LayersJob, channel: Channel) -> None:
    """Answer with the errors and ranges of each layer that the config quantizes, in the model's order."""
    import torch

    torch.set_num_threads(job.threads)
    build = job.build
    if build.engine is not None:
        torch.backends.quantized.engine = build.engine
    host = host_for(build, (build.workload, build.config, *build.recipes))
    workload = workload_of(build, host)
    config = bind_config(
        build,
        build.config,
        build.config_options,
        host,
        seed=build.build_seed,
        lengths=lengths_of(build.structure),
    )
    channel.stage("make_model")
    record = config.record
    assert isinstance(record, Config)
    model = model_with_weights(build, workload, record)
    names = quantized_layers(config, model, example_inputs(workload, 1))
    weights = {name: _weight_range(model.get_submodule(name)) for name in names}
    sizes = {name: weight_elements(model, name) for name in names}
    if job.is_module:
        rounding, pair = Rounding(), _convert(job, workload, config, model, channel)
    else:
        channel.stage("rounding")
        rounding = rounding_of(config)
        pair = _simulate(model, rounding)
    channel.stage("layers")
    split = Split.read(Path(job.inputs))
    total = len(next(iter(split.inputs.values())))
    chosen = chosen_items(total, job.items)
    figures = {name: _Figures() for name in names if _has(pair.reference, name)}
    with torch.no_grad():
        for start in range(0, len(chosen), BATCH_SIZE):
            channel.progress(start / len(chosen), f"{start} of {len(chosen)} items")
            places = chosen[start : start + BATCH_SIZE]
            inputs = tuple(torch.from_numpy(np.array(array[places])) for array in split.inputs.values())
            pair.compare(inputs, figures, with_effects=start == 0)
    channel.answer(
        LayersAnswer(
            items=len(chosen),
            items_alone=min(len(chosen), BATCH_SIZE),
            is_simulated=not job.is_module,
            rounding=rounding,
            layers=tuple(
                figures.get(name, _Figures()).record(name, sizes[name], weights[name]) for name in names
            ),
        )
    )


def rounding_of(config: BoundPlugin) -> Rounding:
    """Return how a config rounds layers. Raises ``PluginError`` where its hook gives something else."""
    own = config.call("rounding") if config.implements("rounding") else None
    if own is not None and not isinstance(own, Rounding):
        raise PluginError(f"{config.name}: rounding gave a {type(own).__name__}, expected qx.Rounding")
    return own or Rounding()


def chosen_items(total: int, wanted: int) -> np.ndarray:
    """Return the indices of the items that are looked at: evenly over all, which may be sorted by classes."""
    return np.linspace(0, total - 1, min(wanted, total)).round().astype(int)


def _has(model: nn.Module, name: str) -> bool:
    return any(name == other for other, _ in model.named_modules())


def _weight_range(layer: nn.Module) -> WeightRange | None:
    """Return the ranges of the weights of a layer by output channel; None where it has none itself.

    Of weights that are not finite only the number of channels is known.
    """
    import torch
    from torch import nn

    own = [parameter for parameter in layer.parameters(recurse=False) if parameter.dim() >= 2]
    if not own or not own[0].numel():
        return None
    weight = own[0].detach().float()
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        weight = weight.transpose(0, 1)
    largest = weight.flatten(1).abs().amax(dim=1)
    if not torch.isfinite(largest).all():
        return WeightRange(low=None, high=None, channels=len(largest), dead_channels=0, spread=None)
    median, middle = float(torch.median(largest)), float(torch.median(weight.abs()))
    return WeightRange(
        low=float(weight.min()),
        high=float(weight.max()),
        channels=len(largest),
        dead_channels=int((largest <= DEAD * largest.max()).sum()),
        spread=float(largest.max()) / median if median > 0 else None,
        peak=float(largest.max()) / middle if middle > 0 else None,
    )


# Two models side by side --------------------------------------------------------------------------


@frozen
class _Call:
    """One call of a layer."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    outputs: Any


@frozen
class _Pair:
    """The fp32 model, and the same with quantized layers under the same names."""

    reference: nn.Module
    #: The converted module; None where quantized layers are only simulated.
    module: nn.Module | None
    #: Function that returns what a quantized layer gives for the inputs of a call of the fp32 layer. The last
    #: argument is a call of the quantized layer, if there was one.
    quantized: Callable[[str, _Call, _Call | None], Any]

    def compare(
        self, inputs: tuple[torch.Tensor, ...], figures: dict[str, _Figures], *, with_effects: bool
    ) -> None:
        """Add what both models give for a batch to the figures of the layers."""
        with _calls_of(self.reference, figures) as calls:
            expected = self.reference(*inputs)
        own_calls: dict[str, list[_Call]] = {}
        if self.module is not None:
            with _calls_of(self.module, figures) as own_calls:
                self.module(*inputs)
        for name, layer_figures in figures.items():
            for number, call in enumerate(calls[name]):
                own = own_calls[name][number] if number < len(own_calls.get(name, ())) else None
                layer_figures.outputs.add(call.outputs, own, _channel_dimension(self.reference, name))
                layer_figures.made.add(call.outputs, self.quantized(name, call, own))
                if own is not None:
                    layer_figures.arrived.add(call.outputs, own.outputs)
            if with_effects:
                layer_figures.alone.add(expected, self._with_one(name, inputs, own_calls.get(name, [])))

    def _with_one(self, name: str, inputs: tuple[torch.Tensor, ...], own_calls: Sequence[_Call]) -> Any:
        """Return the outputs of the fp32 model with this layer alone quantized."""
        remaining = list(own_calls)

        def replace(_: nn.Module, arguments: Any, named: Any, outputs: Any) -> Any:
            own = remaining.pop(0) if remaining else None
            return _in_float(self.quantized(name, _Call(arguments, named, outputs), own))

        layer = self.reference.get_submodule(name)
        handle = layer.register_forward_hook(replace, with_kwargs=True)
        try:
            return self.reference(*inputs)
        finally:
            handle.remove()


@contextmanager
def _calls_of(model: nn.Module, names: Iterator[str] | dict[str, Any]) -> Iterator[dict[str, list[_Call]]]:
    """Note every call of the layers with these names while the block runs."""
    calls: dict[str, list[_Call]] = defaultdict(list)

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: Any, named: Any, outputs: Any) -> None:
            calls[name].append(_Call(arguments, named, outputs))

        return hook

    layers = dict(model.named_modules())
    handles = [
        layers[name].register_forward_hook(note(name), with_kwargs=True) for name in names if name in layers
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _convert(
    job: LayersJob, workload: BoundPlugin, config: BoundPlugin, model: nn.Module, channel: Channel
) -> _Pair:
    """Build the module again as it was built, beside the prepared one in float: both are fused alike.

    Of a config that trains the latter has the trained weights, so that the errors are those of rounding.
    """
    build, record, references = job.build, config.record, []
    assert isinstance(record, Config)
    float_model = FloatModel(lambda: model_with_weights(build, workload, record))
    steps = Steps(channel)

    def between(prepared: nn.Module) -> nn.Module:
        if not record.training:
            references.append(copy.deepcopy(prepared))
        calibrated = calibrate(build, config, record, prepared, float_model, steps)
        if record.training:
            references.append(copy.deepcopy(calibrated))
        return calibrated

    result = convert_model(
        config, model, example_inputs(workload, 1), float_model, between=between, stage=channel.stage
    )
    module: nn.Module = result.module.eval()
    (reference,) = references
    for layer in reference.modules():
        for method in ("disable_fake_quant", "disable_observer"):
            getattr(layer, method, lambda: None)()
    layers = dict(module.named_modules())

    def quantized(name: str, call: _Call, own: _Call | None) -> Any:
        if own is None:
            return call.outputs
        arguments, named = _quantized_as((call.arguments, call.named), (own.arguments, own.named))
        return layers[name](*arguments, **named)

    return _Pair(reference.eval(), module, quantized)


def _simulate(model: nn.Module, rounding: Rounding) -> _Pair:
    """Return the fp32 model with a simulation of its quantized layers, in place of those of a runtime.

    Weights are rounded to multiples of the scale with which the largest of those that share it fits, and
    inputs to evenly spaced values between the smallest and the largest.
    """
    rounded: dict[str, nn.Module] = {}

    def quantized(name: str, call: _Call, _: _Call | None) -> Any:
        if name not in rounded:
            rounded[name] = _with_rounded_weights(model.get_submodule(name), rounding)
        arguments, named = call.arguments, call.named
        if (bits := rounding.activation_bits) is not None:
            arguments, named = _tree_map(partial(_rounded_input, bits=bits), (arguments, named))
        return rounded[name](*arguments, **named)

    return _Pair(model, None, quantized)


def _with_rounded_weights(layer: nn.Module, rounding: Rounding) -> nn.Module:
    from torch import nn

    layer = copy.deepcopy(layer)
    layer._forward_hooks.clear()
    is_transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    for parameter in layer.parameters():
        if parameter.dim() < 2 or rounding.weight_bits is None:
            continue
        # Output channels come first but in transposed convolutions.
        weight = parameter.detach().transpose(0, 1) if is_transposed else parameter.detach()
        values = rounded_weight(weight, rounding)
        parameter.data = values.transpose(0, 1) if is_transposed else values
    return layer


def rounded_weight(weight: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Return a weight ``[output channels, ...]`` in float after rounding. The bits may not be None.

    Where the weights of a channel cannot be divided into groups, a channel has one scale.
    """
    assert rounding.weight_bits is not None
    largest = 2 ** (rounding.weight_bits - 1) - 1
    rows = weight.reshape(len(weight) if rounding.per_channel else 1, -1)
    if rounding.group_size is not None and rows.shape[1] % rounding.group_size == 0:
        rows = rows.reshape(-1, rounding.group_size)
    scale = (rows.abs().amax(dim=1, keepdim=True) / largest).clamp(min=1e-12)
    rounded: torch.Tensor = ((rows / scale).round() * scale).reshape(weight.shape)
    return rounded


def _rounded_input(value: Any, bits: int) -> Any:
    if not _is_float(value) or not value.numel():
        return value
    low, high = value.min().clamp(max=0), value.max().clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    return ((value - low) / scale).round() * scale + low


# Figures ------------------------------------------------------------------------------------------


@define
class _Ratio(Ratio):
    """Signal over noise of outputs of layers."""

    def add(self, expected: Any, ours: Any) -> None:
        """Add outputs of the fp32 model, and the same with errors."""
        for right, other in zip(_floats(expected), _floats(ours), strict=False):
            if right.shape == other.shape:
                self.signal += float(right.double().square().sum())
                self.noise += float((right.double() - other.double()).square().sum())


@define
class _Outputs:
    """Ranges of what a layer of the fp32 model gives."""

    low: Any = None
    high: Any = None
    squares: float = 0.0
    elements: int = 0
    clipped: int = 0
    is_finite: bool = True
    has_range: bool = False

    def add(self, outputs: Any, own: _Call | None, dimension: int) -> None:
        """Add the outputs of a call; those of the same layer in 8 bits say which values it can give."""
        import torch

        values = next(iter(_floats(outputs)), None)
        if values is None or values.dim() < 2 or not values.numel():
            return
        self.is_finite = self.is_finite and bool(torch.isfinite(values).all())
        channels = values.transpose(0, dimension).flatten(1)
        low, high = channels.amin(dim=1), channels.amax(dim=1)
        if self.low is None:
            self.low, self.high = low, high
        elif self.low.shape == low.shape:
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.squares += float(values.double().square().sum())
        self.elements += values.numel()
        if own is not None and (span := _span(own.outputs)) is not None:
            self.has_range = True
            self.clipped += int(((values < span[0]) | (values > span[1])).sum())

    def record(self) -> OutputRange | None:
        """Return the ranges; None where nothing was seen."""
        if self.low is None:
            return None
        low, high = float(self.low.min()), float(self.high.max())
        rms = math.sqrt(self.squares / self.elements) if math.isfinite(self.squares) else 0.0
        is_finite = self.is_finite and math.isfinite(low) and math.isfinite(high)
        return OutputRange(
            low=low if is_finite else None,
            high=high if is_finite else None,
            channels=len(self.low),
            constant_channels=int((self.low == self.high).sum()),
            peak=max(abs(low), abs(high)) / rms if is_finite and rms > 0 else None,
            is_finite=is_finite,
            clipped=self.clipped / self.elements if self.has_range else None,
        )


@define
class _Figures:
    """What was seen of one layer."""

    made: _Ratio = Factory(_Ratio)
    arrived: _Ratio = Factory(_Ratio)
    alone: _Ratio = Factory(_Ratio)
    outputs: _Outputs = Factory(_Outputs)

    def record(self, name: str, elements: int, weights: WeightRange | None) -> LayerFigures:
        """Return the figures of the layer."""
        return LayerFigures(
            name=name,
            elements=elements,
            made=self.made.decibels,
            arrived=self.arrived.decibels,
            alone=self.alone.decibels,
            weights=weights,
            outputs=self.outputs.record(),
        )


def _channel_dimension(model: nn.Module, name: str) -> int:
    """Return the dimension of the channels in the outputs of a layer: the last one but of convolutions."""
    from torch.nn.modules.conv import _ConvNd

    layers = model.get_submodule(name).modules()
    return 1 if any(isinstance(layer, _ConvNd) for layer in layers) else -1


# Tensors ------------------------------------------------------------------------------------------


def _tree_map(function: Callable[[Any], Any], value: Any) -> Any:
    from torch.utils import _pytree as pytree

    return pytree.tree_map(function, value)


def _leaves(value: Any) -> list[Any]:
    from torch.utils import _pytree as pytree

    leaves: list[Any] = pytree.tree_leaves(value)
    return leaves


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_float(value: Any) -> bool:
    return _is_tensor(value) and not value.is_quantized and value.is_floating_point()


def _in_float(value: Any) -> Any:
    return _tree_map(
        lambda leaf: leaf.dequantize() if _is_tensor(leaf) and leaf.is_quantized else leaf, value
    )


def _floats(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _leaves(_in_float(value)) if _is_float(leaf)]


def _quantized_as(ours: Any, theirs: Any) -> Any:
    """Return inputs of an fp32 layer in the form in which the same layer in 8 bits has got its own."""
    import torch
    from torch.utils import _pytree as pytree

    leaves, structure = pytree.tree_flatten(ours)
    models = _leaves(theirs)
    if len(models) != len(leaves):
        return ours

    def convert(leaf: Any, like: Any) -> Any:
        if not (_is_float(leaf) and _is_tensor(like) and like.is_quantized):
            return leaf
        return torch.quantize_per_tensor(leaf, like.q_scale(), like.q_zero_point(), like.dtype)

    return pytree.tree_unflatten([convert(*pair) for pair in zip(leaves, models, strict=True)], structure)


def _span(outputs: Any) -> tuple[float, float] | None:
    """Return the smallest and the largest value that outputs in 8 bits can have; None for other outputs."""
    import torch

    value = next((leaf for leaf in _leaves(outputs) if _is_tensor(leaf) and leaf.is_quantized), None)
    if value is None or value.qscheme() != torch.per_tensor_affine:
        return None
    info, scale, zero_point = torch.iinfo(value.dtype), value.q_scale(), value.q_zero_point()
    # Half a step beyond the ends is rounding.
    return (info.min - zero_point - 0.5) * scale, (info.max - zero_point + 0.5) * scale
