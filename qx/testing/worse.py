"""Configs that make worse artifacts on purpose, for metrics to detect.

Each is the fp32 model with one defect: ``Conformance(worse="qx.testing.worse:NOISY")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qx.contract.hookspecs import hookimpl
from qx.contract.records import Config

if TYPE_CHECKING:
    import torch


class Worse:
    """A config whose artifact is the fp32 model with a defect."""

    def __init__(
        self, name: str, summary: str, add_defect: Callable[[torch.nn.Module], torch.nn.Module]
    ) -> None:
        self._record = Config(name=name, summary=summary)
        self._add_defect = add_defect

    @hookimpl
    def describe(self) -> Config:
        """Return the record."""
        return self._record

    @hookimpl
    def convert(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model with the defect."""
        return self._add_defect(model)


def _before_calls(action: Callable[[torch.nn.Module], None]) -> Callable[[torch.nn.Module], torch.nn.Module]:
    def add_hook(model: torch.nn.Module) -> torch.nn.Module:
        model.register_forward_pre_hook(lambda module, _: action(module))
        return model

    return add_hook


def _noisy(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std(correction=0))
    return model


def _padded(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    model.register_buffer("padding", torch.zeros(2**20))
    return model


def _hungry(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    # Not in the state dict, so that every launch allocates it.
    model.register_buffer("ballast", torch.ones(64 * 2**18), persistent=False)
    return model


def _late(model: torch.nn.Module) -> torch.nn.Module:
    import time

    time.sleep(5)
    return model


def _sleep(_: object) -> None:
    import time

    time.sleep(0.01)


#: Noise on the weights, as large as these: predictions are wrong.
NOISY = Worse("worse_noisy", "The fp32 model with noise on its weights.", _noisy)
#: Each call takes 10 ms longer.
SLOW = Worse("worse_slow", "The fp32 model, 10 ms slower.", _before_calls(_sleep))
#: The files are 4 MiB larger.
PADDED = Worse("worse_padded", "The fp32 model with 4 MiB of zeros in its files.", _padded)
#: A launch takes 64 MiB more memory.
HUNGRY = Worse("worse_hungry", "The fp32 model, which takes 64 MiB more.", _hungry)
#: Loading takes five seconds longer.
LATE = Worse("worse_late", "The fp32 model, which loads five seconds later.", _late)
