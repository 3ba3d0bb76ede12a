"""Configs that make worse artifacts on purpose, for metrics to find.

Each is the fp32 model with one thing wrong with it: ``Conformance(worse="qx.testing.worse:NOISY")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qx.contract.hookspecs import hookimpl
from qx.contract.records import Config

if TYPE_CHECKING:
    import torch


class Worse:
    """A config that gives the fp32 model, made worse."""

    def __init__(self, name: str, summary: str, spoil: Callable[[torch.nn.Module], torch.nn.Module]) -> None:
        self._record = Config(name=name, summary=summary)
        self._spoil = spoil

    @hookimpl
    def describe(self) -> Config:
        """Give the record."""
        return self._record

    @hookimpl
    def convert(self, model: torch.nn.Module) -> torch.nn.Module:
        """Spoil the model."""
        return self._spoil(model)


def _wrapped(before: Callable[[torch.nn.Module], None]) -> Callable[[torch.nn.Module], torch.nn.Module]:
    def spoil(model: torch.nn.Module) -> torch.nn.Module:
        model.register_forward_pre_hook(lambda module, _: before(module))
        return model

    return spoil


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

    # Not in the state dict: it is taken again in every launch.
    model.register_buffer("ballast", torch.ones(64 * 2**18), persistent=False)
    return model


def _late(model: torch.nn.Module) -> torch.nn.Module:
    import time

    time.sleep(5)
    return model


def _sleep(_: object) -> None:
    import time

    time.sleep(0.01)


#: Weights with as much noise as signal: wrong predictions.
NOISY = Worse("worse_noisy", "The fp32 model with noise on its weights.", _noisy)
#: Ten milliseconds more for each call.
SLOW = Worse("worse_slow", "The fp32 model, 10 ms slower.", _wrapped(_sleep))
#: Four MiB more of files.
PADDED = Worse("worse_padded", "The fp32 model with 4 MiB of zeros in its files.", _padded)
#: 64 MiB more of memory.
HUNGRY = Worse("worse_hungry", "The fp32 model, which takes 64 MiB more.", _hungry)
#: Five seconds more until it has loaded.
LATE = Worse("worse_late", "The fp32 model, which loads five seconds later.", _late)
