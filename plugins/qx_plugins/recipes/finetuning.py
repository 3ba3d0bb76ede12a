"""Quantization-aware fine-tuning, shared by all configs that do it.

It imports torch: import it inside functions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from qx import LABELS, Batch, Context, QxError, Unsupported, UsageError
from qx_plugins.recipes.calibration import to_tensors

#: Fractions of the training after which the statistics of batch normalisation and the ranges of activations
#: are frozen, as in torchvision's references (3 and 4 of 8 epochs).
FREEZE_NORMALISATION, FREEZE_RANGES = 3 / 8, 4 / 8
MOMENTUM = 0.9
#: Temperature of the soft targets (Hinton, Vinyals & Dean, 2015).
TEMPERATURE = 2.0


def fine_tune(
    model: nn.Module,
    batches: Sequence[Batch],
    context: Context,
    *,
    to_eval: Callable[[nn.Module], object] = nn.Module.eval,
    freeze_normalisation: Callable[[nn.Module], object] | None = None,
) -> nn.Module:
    """Train a model with fake quantization on training batches (Jacob et al., 2018).

    The optimizer is SGD with momentum and a learning rate that decays to zero along a cosine. With the option
    ``loss`` set to ``"teacher"`` the targets are the outputs of the model before it was quantized, with
    ``"labels"`` they are the labels. Towards the end normalisation and ranges are frozen, so that the trained
    model is the one that is deployed (Krishnamoorthi, 2018). The model is trained in place and returned in
    eval mode.

    Raises ``Unsupported`` for outputs that are not logits, and for ``"labels"`` without labels.
    """
    epochs, rate = context.options["epochs"], context.options["learning_rate"]
    if epochs < 1 or not rate > 0:
        raise UsageError(f"epochs must be at least 1 and learning_rate above 0, not {epochs} and {rate:g}")
    soft = context.options["loss"] == "teacher"
    teacher = unquantized_copy(model, to_eval) if soft else None
    steps = epochs * len(batches)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=rate, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, (inputs, labels) in enumerate(_in_epochs(batches, epochs, context.seed)):
        if step == int(steps * FREEZE_NORMALISATION):
            (freeze_normalisation or _freeze_normalisation)(model)
        if step == int(steps * FREEZE_RANGES):
            _call_fake_quantizers(model, "disable_observer")
        outputs = _logits(model(*inputs))
        loss = _loss(outputs, inputs, labels, teacher)
        if not torch.isfinite(loss):
            raise QxError(f"fine-tuning diverged at step {step} of {steps}: try a lower learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        context.progress((step + 1) / steps, f"step {step + 1} of {steps}, loss {loss.item():.4f}")
    to_eval(model)
    return model


def unquantized_copy(model: nn.Module, to_eval: Callable[[nn.Module], object]) -> nn.Module:
    """Return a copy of a prepared model that computes like the fp32 model: it neither rounds nor observes."""
    teacher = copy.deepcopy(model)
    _call_fake_quantizers(teacher, "disable_observer")
    _call_fake_quantizers(teacher, "disable_fake_quant")
    to_eval(teacher)
    return teacher


def _in_epochs(
    batches: Sequence[Batch], epochs: int, seed: int
) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor | None]]:
    """Yield inputs and labels of each batch, in a new random order in each epoch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for place in torch.randperm(len(batches), generator=generator).tolist():
            batch = batches[place]
            labels = batch.targets.get(LABELS)
            yield to_tensors(batch.inputs), None if labels is None else torch.from_numpy(labels).long()


def _loss(
    outputs: torch.Tensor,
    inputs: tuple[torch.Tensor, ...],
    labels: torch.Tensor | None,
    teacher: nn.Module | None,
) -> torch.Tensor:
    if teacher is None:
        if labels is None:
            raise Unsupported("loss=labels needs a workload with labels; choose loss=teacher for one without")
        return functional.cross_entropy(outputs, labels)
    with torch.no_grad():
        target = functional.log_softmax(teacher(*inputs) / TEMPERATURE, dim=1)
    predicted = functional.log_softmax(outputs / TEMPERATURE, dim=1)
    return functional.kl_div(predicted, target, reduction="batchmean", log_target=True) * TEMPERATURE**2


def _logits(outputs: Any) -> torch.Tensor:
    if isinstance(outputs, torch.Tensor) and outputs.dim() == 2:
        return outputs
    kind = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    raise Unsupported(f"fine-tuning needs a model that gives logits [batch, classes], this one gives {kind}")


def _freeze_normalisation(model: nn.Module) -> None:
    for module in model.modules():
        freeze = getattr(module, "freeze_bn_stats", None)
        if freeze is not None:
            freeze()
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _call_fake_quantizers(model: nn.Module, method: str) -> None:
    """Call a method of every fake-quantizing module, from any library."""
    for module in model.modules():
        if hasattr(module, "disable_fake_quant"):
            getattr(module, method)()
