"""Quantization-aware fine-tuning, for all configs that do it. Imports torch: import it inside functions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from qx import Arrays, Context, QxError, Unsupported, UsageError
from qx_plugins.recipes.calibration import to_tensors

#: Shares of the training after which the statistics of batch normalisation, and then the ranges of
#: activations, stay as they are: those of torchvision's references (3 and 4 of 8 epochs).
FREEZE_NORMALISATION, FREEZE_RANGES = 3 / 8, 4 / 8
MOMENTUM = 0.9
#: Soft targets, as in Hinton, Vinyals & Dean (2015).
TEMPERATURE = 2.0


def fine_tune(
    model: nn.Module,
    batches: Sequence[Arrays],
    context: Context,
    *,
    to_eval: Callable[[nn.Module], object] = nn.Module.eval,
    freeze_normalisation: Callable[[nn.Module], object] | None = None,
) -> nn.Module:
    """Train a prepared model with its rounding errors in sight (Jacob et al., 2018), on training batches.

    SGD with momentum, the learning rate falling to nothing along a cosine. The loss goes by the option
    ``loss``: ``"teacher"`` has the model keep the answers that it gave before it was quantized; ``"labels"``
    has it give the right ones. Near the end normalisation and ranges stand still, so that what is trained is
    what will be deployed (Krishnamoorthi, 2018). Trains in place; the model comes back in eval mode.

    Raises ``Unsupported`` for outputs that are no logits, and for ``"labels"`` where there are none.
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
            raise QxError(f"fine-tuning ran away at step {step} of {steps}: try a lower learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        context.progress((step + 1) / steps, f"step {step + 1} of {steps}, loss {loss.item():.4f}")
    to_eval(model)
    return model


def unquantized_copy(model: nn.Module, to_eval: Callable[[nn.Module], object]) -> nn.Module:
    """A copy of a prepared model that gives what the fp32 model gives: it neither rounds nor observes."""
    teacher = copy.deepcopy(model)
    _call_fake_quantizers(teacher, "disable_observer")
    _call_fake_quantizers(teacher, "disable_fake_quant")
    to_eval(teacher)
    return teacher


def _in_epochs(
    batches: Sequence[Arrays], epochs: int, seed: int
) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor | None]]:
    """The batches as inputs and labels, each epoch in another order."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for place in torch.randperm(len(batches), generator=generator).tolist():
            batch = dict(batches[place])
            labels = batch.pop("labels", None)
            yield to_tensors(batch), None if labels is None else torch.from_numpy(labels).long()


def _loss(
    outputs: torch.Tensor,
    inputs: tuple[torch.Tensor, ...],
    labels: torch.Tensor | None,
    teacher: nn.Module | None,
) -> torch.Tensor:
    if teacher is None:
        if labels is None:
            raise Unsupported("loss=labels needs a workload with labels; loss=teacher does without")
        return functional.cross_entropy(outputs, labels)
    with torch.no_grad():
        due = functional.log_softmax(teacher(*inputs) / TEMPERATURE, dim=1)
    given = functional.log_softmax(outputs / TEMPERATURE, dim=1)
    return functional.kl_div(given, due, reduction="batchmean", log_target=True) * TEMPERATURE**2


def _logits(outputs: Any) -> torch.Tensor:
    if isinstance(outputs, torch.Tensor) and outputs.dim() == 2:
        return outputs
    told = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    raise Unsupported(f"fine-tuning needs a model that gives logits [batch, classes], this one gives {told}")


def _freeze_normalisation(model: nn.Module) -> None:
    for module in model.modules():
        freeze = getattr(module, "freeze_bn_stats", None)
        if freeze is not None:
            freeze()
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _call_fake_quantizers(model: nn.Module, method: str) -> None:
    """Call a method of every fake-quantizing module, whichever library it is of."""
    for module in model.modules():
        if hasattr(module, "disable_fake_quant"):
            getattr(module, method)()
