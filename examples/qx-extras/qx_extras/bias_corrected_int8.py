"""Static int8 with one scale a layer, and the shift that rounding the weights makes taken out of the biases.

With weights W rounded to Q, the mean of a layer's output is off by (Q - W) E[x]. E[x] is measured on the
calibration items (Nagel et al., 'Data-free quantization through weight equalization and bias correction',
2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qx import Batch, Config, Unsupported, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn

QX_CONTRACT = "2.0"


@hookimpl
def describe() -> Config:
    return Config(
        name="bias_corrected_int8",
        summary="Static int8, one scale a layer; biases corrected for the rounding of the weights.",
        calibration=True,
        quantizable=True,
    )


@hookimpl
def prepare_model(model: nn.Module) -> nn.Module:
    from torch.ao.quantization import QConfig, default_observer, default_weight_observer, prepare

    if not hasattr(model, "fuse_model"):
        raise Unsupported(f"{type(model).__name__} has no fuse_model(), which eager-mode quantization calls")
    model.eval()
    model.fuse_model()
    model.qconfig = QConfig(activation=default_observer, weight=default_weight_observer)
    return prepare(model, inplace=True)


@hookimpl
def calibrate(model: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    import torch

    layers = [layer for layer in model.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
    means = {layer: InputMean() for layer in layers}
    handles = [layer.register_forward_pre_hook(means[layer]) for layer in layers]
    with torch.no_grad():
        for batch in batches:
            model(*(torch.from_numpy(array) for array in batch.inputs.values()))
        for handle in handles:
            handle.remove()
        for layer in layers:
            if means[layer].count and layer.bias is not None:
                layer.bias -= shift(layer, means[layer].mean)
    return model


@hookimpl
def convert(model: nn.Module) -> nn.Module:
    from torch.ao.quantization import convert

    return convert(model, inplace=True)


class InputMean:
    """A forward hook that averages each input channel of a layer over all calls, ``[channels]``."""

    def __init__(self) -> None:
        self.total: Any = 0.0
        self.count = 0

    def __call__(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        (x,) = inputs
        # [batch, channels, height, width], or [..., features].
        channels = x.transpose(1, -1) if x.dim() == 4 else x
        rows = channels.reshape(-1, channels.shape[-1]).double()
        self.total = self.total + rows.sum(dim=0)
        self.count += len(rows)

    @property
    def mean(self) -> torch.Tensor:
        """The mean of each input channel, float32 ``[channels]``."""
        return (self.total / self.count).float()


def shift(layer: nn.Conv2d | nn.Linear, mean: torch.Tensor) -> torch.Tensor:
    """Return by how much rounding the weights moves the mean of each output channel, ``[out]``."""
    error = rounded(layer) - layer.weight
    # In a convolution, each input channel meets all weights of its kernel; padding is neglected.
    per_input = error.flatten(start_dim=2).sum(dim=2) if error.dim() > 2 else error
    groups = getattr(layer, "groups", 1)
    means = mean.view(groups, -1).repeat_interleave(len(per_input) // groups, dim=0)
    return (per_input * means).sum(dim=1)


def rounded(layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
    """Return the weights as the converted layer will have them."""
    import torch

    observer = layer.qconfig.weight()
    observer(layer.weight)
    scale, zero_point = observer.calculate_qparams()
    return torch.fake_quantize_per_tensor_affine(
        layer.weight, float(scale), int(zero_point), observer.quant_min, observer.quant_max
    )
