"""Train a decoder on a stream of tokens, with checkpoints from which an interrupted training goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qx import UsageError

#: Steps between two checkpoints, and at the beginning, in which the learning rate rises.
STEPS_PER_CHECKPOINT, WARM_UP_STEPS = 25, 50
#: Share of the steps at the end in which the learning rate falls.
FALLING = 0.3


def train_decoder(
    decoder: nn.Module,
    stream: np.ndarray,
    *,
    length: int,
    epochs: int,
    steps: int = 0,
    seed: int,
    progress: Callable[[float, str], None],
    checkpoint: Path,
    batch_size: int = 8,
    learning_rate: tuple[float, float] = (0.02, 3e-3),
    weight_decay: float = 0.1,
) -> nn.Module:
    """Train a decoder to predict the next token of a stream.

    The matrices of its layers are trained by Muon (Jordan et al., 2024), all else by AdamW (Loshchilov &
    Hutter, 2019), with these learning rates.

    ``stream`` is integer ``[tokens]``; a step sees ``batch_size`` windows of ``length`` tokens, drawn
    anywhere in it. ``steps`` take the place of ``epochs`` where they are not 0. The learning rate rises,
    stays, and falls to 0 in the last part (Hu et al., 2024), so a training that was interrupted may go on for
    another number of steps than it began with. Arithmetic is bfloat16 where autocast allows it. The state is
    written to ``checkpoint`` now and then, and read from there if the file exists. The decoder is trained in
    place, and returned in eval mode.
    """
    if epochs < 1:
        raise UsageError(f"epochs must be at least 1, not {epochs}")
    tokens = torch.from_numpy(np.asarray(stream, dtype=np.int64))
    steps = steps or max(1, epochs * len(tokens) // (batch_size * length))
    optimizers = _optimizers(decoder, learning_rate, weight_decay)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    generator = torch.Generator().manual_seed(seed)
    first = _load(checkpoint, decoder, optimizers, generator)
    mean = math.nan
    decoder.train()
    for step in range(first, steps):
        for optimizer, highest in zip(optimizers, rates, strict=True):
            for group, value in zip(optimizer.param_groups, highest, strict=True):
                group["lr"] = value * rate(step, steps)
        starts = torch.randint(len(tokens) - length, (batch_size, 1), generator=generator)
        batch = tokens[starts + torch.arange(length + 1)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = decoder(batch[:, :-1])
        loss = functional.cross_entropy(scores.float().flatten(0, 1), batch[:, 1:].flatten())
        decoder.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        mean = loss.item() if math.isnan(mean) else 0.95 * mean + 0.05 * loss.item()
        progress((step + 1) / steps, f"step {step + 1:,} of {steps:,}, loss {mean:.3f} nats a token")
        if (step + 1) % STEPS_PER_CHECKPOINT == 0:
            _save(checkpoint, decoder, optimizers, generator, step + 1)
    checkpoint.unlink(missing_ok=True)
    return decoder.eval()


def rate(step: int, steps: int) -> float:
    """Return the learning rate of a step as a share of the highest."""
    warm_up = min(WARM_UP_STEPS, max(1, steps // 10))
    if step < warm_up:
        return (step + 1) / warm_up
    return min(1.0, (steps - step) / max(1, round(FALLING * steps)))


def _optimizers(
    decoder: nn.Module, learning_rate: tuple[float, float], weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of matrices within layers, and of all other parameters."""
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(
            f"training a decoder needs torch 2.9 or later, which has Muon: this is {torch.__version__}"
        )
    ends = [layer for name, layer in decoder.named_children() if name != "layers"]
    outside = {id(part) for layer in ends for part in layer.parameters()}
    parameters = list(decoder.parameters())
    matrices = [part for part in parameters if part.dim() == 2 and id(part) not in outside]
    own = {id(part) for part in matrices}
    return [
        torch.optim.Muon(matrices, lr=learning_rate[0], weight_decay=weight_decay),
        torch.optim.AdamW(
            [part for part in parameters if id(part) not in own],
            lr=learning_rate[1],
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]


def _save(
    path: Path,
    decoder: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    generator: torch.Generator,
    step: int,
) -> None:
    state = {
        "decoder": decoder.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "generator": generator.get_state(),
        "step": step,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _load(
    path: Path, decoder: nn.Module, optimizers: Sequence[torch.optim.Optimizer], generator: torch.Generator
) -> int:
    """Read a checkpoint where there is one, and return the number of steps that were done."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    decoder.load_state_dict(state["decoder"])
    for optimizer, own in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(own)
    generator.set_state(state["generator"])
    return int(state["step"])
