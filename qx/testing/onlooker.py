"""Configs that detect what the ``check_model`` of another config changes of the model that all are shown.

One is asked before the config under test and remembers the model, the other is asked after it and compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx.contract.hookspecs import hookimpl
from qx.contract.records import Config
from qx.errors import Unsupported
from qx.foreign import one_line
from qx.host.host import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

#: Digests of the parts of the model, as the first of the two saw them.
_digests: dict[str, str] = {}


class Onlooker:
    """A config that remembers the state of a model (``before``), or says what of it has changed since."""

    def __init__(self, name: str, *, quantizable: bool, before: bool) -> None:
        self._record = Config(name=name, summary="Looks at a model.", quantizable=quantizable)
        self._before = before

    @hookimpl
    def describe(self) -> Config:
        """Return the record."""
        return self._record

    @hookimpl
    def check_model(self, model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
        """Raise an ``Unsupported`` that names the parts which have changed."""
        if self._before:
            _digests.update(_digest_parts(model, example_inputs))
            return
        now = _digest_parts(model, example_inputs)
        if changed := [part for part, digest in _digests.items() if now[part] != digest]:
            raise Unsupported(" and ".join(changed))

    @hookimpl
    def convert(self) -> None:
        """Do nothing: no run calls it."""


def onlookers(*, quantizable: bool) -> tuple[Reference, Reference]:
    """Return the two that see the form of the model which ``quantizable`` configs see, or others."""
    form = "stubs" if quantizable else "plain"
    before, after = (
        Reference(name=f"onlooker_{form}_{when}", module=__name__, attribute=f"{form}_{when}".upper())
        for when in ("before", "after")
    )
    return before, after


def _digest_parts(model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> dict[str, str]:
    """Return digests of all that a config could see of what another one did to the model."""
    import torch

    from qx.testing.worker.digest import digest

    # Before the model is called, since a call may write into its buffers.
    digests = {
        "parameters or buffers": digest(dict(model.state_dict(keep_vars=True))),
        "modules or their settings": digest(dict(_modules(model))),
        "example inputs": digest(example_inputs),
    }
    try:
        with torch.inference_mode():
            outputs: object = model(*example_inputs)
    except Exception as error:
        outputs = one_line(error)
    return digests | {"outputs": digest(outputs)}


def _modules(model: torch.nn.Module) -> Iterator[tuple[str, object]]:
    """Yield the name of every module with its type, which parameters want gradients, and its attributes."""
    for name, module in model.named_modules():
        gradients = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
        attributes = {key: _summarize(value) for key, value in vars(module).items()}
        yield name, (type(module).__name__, gradients, attributes)


def _summarize(value: object) -> object:
    """Return numbers and texts as they are, and of anything else its type and length."""
    if isinstance(value, (str, int, float, bool, tuple)) or value is None:
        return value
    return f"{type(value).__name__} {len(value) if hasattr(value, '__len__') else ''}"


PLAIN_BEFORE = Onlooker("onlooker_plain_before", quantizable=False, before=True)
PLAIN_AFTER = Onlooker("onlooker_plain_after", quantizable=False, before=False)
STUBS_BEFORE = Onlooker("onlooker_stubs_before", quantizable=True, before=True)
STUBS_AFTER = Onlooker("onlooker_stubs_after", quantizable=True, before=False)
