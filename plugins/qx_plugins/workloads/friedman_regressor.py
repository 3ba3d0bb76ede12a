"""Friedman's regression with five useful and five useless features, by a residual network: generated.

The target is 10 sin(pi a b) + 20 (c - 1/2)^2 + 10 d + 5 e and noise, of features between 0 and 1 (Friedman,
1991). What is left of the target without the noise is known, so the best possible error is, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Unsupported, Workload, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import torch

FEATURES = 10
#: Features are multiples of 1 / ``STEPS``, targets of 1 / ``UNITS``.
STEPS, UNITS = 64, 1024
#: Noise is the sum of twelve whole numbers from ``-NOISE`` to ``NOISE``, in ``UNITS``: standard deviation 1.
NOISE = 512
ITEMS = {"train": 16_000, "test": 2_000}


@hookimpl
def describe() -> Workload:
    return Workload(
        name="friedman_regressor",
        summary="A residual network of 34,305 parameters on 2,000 items of Friedman's regression.",
        weights="qx_weights:friedman_regressor.pt",
        options=(Option(name="epochs", default=20, help="Passes over the training data, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.residual_mlp import ResidualMLP

    if context.quantizable:
        raise Unsupported(
            "ResidualMLP has no form with quantize and dequantize stubs: eager mode has no 8-bit GELU "
            "(block.activation, GELU)"
        )
    return ResidualMLP(features=FEATURES)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    features, targets, _ = generate_items()[split]
    return Data(
        inputs={"features": features},
        targets={LABELS: targets},
        source="generated, Friedman's function",
        preprocessing="ten features from 0 to 1, less 1/2, times 4",
        task="regression",
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    return (4 * torch.rand(batch_size, FEATURES, generator=generator) - 2,)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from torch.nn.functional import mse_loss

    from qx_plugins.networks.training import train_by_adamw

    return train_by_adamw(
        model,
        load_data("train", context),
        lambda outputs, targets: mse_loss(outputs, targets[LABELS]),
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
        learning_rate=5e-3,
    )


def sines() -> np.ndarray:
    """Return 10 sin(pi k / STEPS^2) in ``UNITS``, not yet whole numbers, float64 ``[STEPS^2 + 1]``."""
    import numpy as np

    values: np.ndarray = 10 * UNITS * np.sin(np.pi * np.arange(STEPS**2 + 1) / STEPS**2)
    return values


def generate_items() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return features float32 ``[n, FEATURES]``, targets ``[n]`` and targets without noise by split.

    They are the same for every seed. All sums are of whole numbers below 2^24, so float32 holds them exactly.
    """
    import numpy as np

    random = np.random.RandomState(7)
    count = sum(ITEMS.values())
    steps = random.randint(STEPS + 1, size=(count, FEATURES))
    noise = random.randint(-NOISE, NOISE + 1, (12, count)).sum(axis=0)
    clean = (
        np.rint(sines()).astype(np.int64)[steps[:, 0] * steps[:, 1]]
        + 20 * UNITS * (2 * steps[:, 2] - STEPS) ** 2 // (4 * STEPS**2)
        + 10 * UNITS * steps[:, 3] // STEPS
        + 5 * UNITS * steps[:, 4] // STEPS
    )
    features = ((steps - STEPS // 2) * 4).astype(np.float32) / STEPS
    targets, exact = (values.astype(np.float32) / UNITS for values in (clean + noise, clean))
    ends = np.cumsum([0, *ITEMS.values()])
    return {
        split: (features[start:end], targets[start:end], exact[start:end])
        for split, start, end in zip(ITEMS, ends[:-1], ends[1:], strict=True)
    }
