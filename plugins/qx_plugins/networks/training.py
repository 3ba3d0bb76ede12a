"""Train networks on arrays that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qx import LABELS, Data, UsageError


def augment(images: torch.Tensor, generator: torch.Generator, *, padding: int, flip: bool) -> torch.Tensor:
    """Return a random crop of each padded image ``[batch, channels, height, width]``, half of them mirrored.

    The result has the shape of ``images``. Nothing is mirrored without ``flip``.
    """
    count, channels, height, width = images.shape
    padded = functional.pad(images, [padding] * 4)
    top = torch.randint(0, 2 * padding + 1, (count, 1, 1), generator=generator)
    left = torch.randint(0, 2 * padding + 1, (count, 1, 1), generator=generator)
    rows = (top + torch.arange(height).view(1, -1, 1)).expand(count, height, width)
    columns = (left + torch.arange(width).view(1, 1, -1)).expand(count, height, width)
    if flip:
        mirrored = torch.rand((count, 1, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(2), columns)
    flat = padded.reshape(count, channels, -1)
    positions = (rows * (width + 2 * padding) + columns).reshape(count, 1, -1).expand(-1, channels, -1)
    return flat.gather(2, positions).view(count, channels, height, width)


def train_classifier(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    seed: int,
    progress: Callable[[float, str], None],
    learning_rate: float = 0.2,
    batch_size: int = 256,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.05,
    padding: int = 4,
    flip: bool = True,
) -> nn.Module:
    """Train ``model`` by SGD with Nesterov momentum on a one-cycle schedule (Smith & Topin, 2018).

    ``images`` is float32 ``[n, channels, height, width]``, ``labels`` integer ``[n]``. Arithmetic is
    bfloat16 where autocast allows it, weights stay float32. ``progress`` receives the fraction done and a
    line of text after each step. The model is trained in place and returned in eval mode.
    """
    if epochs < 1:
        raise UsageError(f"epochs must be at least 1, not {epochs}")
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.from_numpy(np.asarray(images)), torch.from_numpy(np.asarray(labels)).long()
    model = model.to(memory_format=torch.channels_last).train()
    steps_per_epoch = max(1, len(inputs) // batch_size)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=epochs * steps_per_epoch, pct_start=0.2
    )
    for epoch in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        seen = correct = 0
        for step in range(steps_per_epoch):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            batch = augment(inputs[chosen], generator, padding=padding, flip=flip)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(batch.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits.float(), targets[chosen], label_smoothing=label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            seen += len(chosen)
            correct += int((logits.argmax(1) == targets[chosen]).sum())
            done = (epoch * steps_per_epoch + step + 1) / (epochs * steps_per_epoch)
            progress(done, f"epoch {epoch + 1} of {epochs}, training accuracy {correct / seen:.3f}")
    return model.to(memory_format=torch.contiguous_format).eval()


def train_token_classifier(
    model: nn.Module,
    tokens: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    seed: int,
    progress: Callable[[float, str], None],
) -> nn.Module:
    """Train ``model`` by ``train_by_adamw`` to classify ``tokens``, int64 ``[n, length]``.

    ``labels`` is integer ``[n]``. Arithmetic is bfloat16 where autocast allows it.
    """
    return train_by_adamw(
        model,
        Data(inputs={"tokens": tokens}, targets={LABELS: labels}),
        lambda outputs, targets: functional.cross_entropy(outputs.float(), targets[LABELS]),
        epochs=epochs,
        seed=seed,
        progress=progress,
        bfloat16=True,
    )


def train_by_adamw(
    model: nn.Module,
    data: Data,
    loss: Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor],
    *,
    epochs: int,
    seed: int,
    progress: Callable[[float, str], None],
    learning_rate: float = 2e-3,
    batch_size: int = 128,
    weight_decay: float = 0.05,
    bfloat16: bool = False,
) -> nn.Module:
    """Train ``model`` by AdamW (Loshchilov & Hutter, 2019) on a one-cycle schedule (Smith & Topin, 2018).

    ``data`` is the training split. ``loss`` gives a number for the outputs of a batch, as the model returns
    them, and its targets by name. With ``bfloat16`` the model computes in that type where autocast allows it.
    ``progress`` receives the fraction done and a line of text after each step. The model is trained in place
    and returned in eval mode with weights in half precision, which halves their file and which a float32
    model can load.
    """
    if epochs < 1:
        raise UsageError(f"epochs must be at least 1, not {epochs}")
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.from_numpy(np.asarray(array)) for array in data.inputs.values()]
    targets = {name: torch.from_numpy(np.asarray(array)) for name, array in data.targets.items()}
    model.train()
    steps_per_epoch = max(1, len(inputs[0]) // batch_size)
    steps = epochs * steps_per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.2
    )
    total = 0.0
    for step in range(steps):
        if step % steps_per_epoch == 0:
            order = torch.randperm(len(inputs[0]), generator=generator)
            total = 0.0
        start = step % steps_per_epoch * batch_size
        chosen = order[start : start + batch_size]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            outputs = model(*(array[chosen] for array in inputs))
        value = loss(outputs, {name: array[chosen] for name, array in targets.items()})
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        total += value.item()
        mean = total / (step % steps_per_epoch + 1)
        progress((step + 1) / steps, f"epoch {step // steps_per_epoch + 1} of {epochs}, mean loss {mean:.3f}")
    return model.eval().half()
