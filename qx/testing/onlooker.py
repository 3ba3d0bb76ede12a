"""Configs that look at the model which all configs are shown, before the one under test is asked and after.

They are given to the job that asks configs whether they can treat a model, and treat none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx.contract.hookspecs import hookimpl
from qx.contract.records import Config
from qx.errors import Unsupported
from qx.host.host import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

#: What the first of the two saw: what of the model -> its digest.
_seen: dict[str, str] = {}


class Onlooker:
    """A config that remembers how a model is, or (not ``before``) says what of it has changed since then."""

    def __init__(self, name: str, *, quantizable: bool, before: bool) -> None:
        self._record = Config(name=name, summary="Looks at a model.", quantizable=quantizable)
        self._before = before

    @hookimpl
    def describe(self) -> Config:
        """Give the record."""
        return self._record

    @hookimpl
    def can_treat(self, model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
        """Raise ``Unsupported`` that names what is no longer what it was."""
        if self._before:
            _seen.update(_looked(model, example_inputs))
            return
        now = _looked(model, example_inputs)
        if changed := [what for what, was in _seen.items() if now[what] != was]:
            raise Unsupported(" and ".join(changed))

    @hookimpl
    def convert(self) -> None:
        """Never called."""


def onlookers(*, quantizable: bool) -> tuple[Reference, Reference]:
    """The two that are shown the same form of the model as a config which is ``quantizable`` or not."""
    form = "stubs" if quantizable else "plain"
    before, after = (
        Reference(name=f"onlooker_{form}_{when}", module=__name__, attribute=f"{form}_{when}".upper())
        for when in ("before", "after")
    )
    return before, after


def _looked(model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> dict[str, str]:
    """What a config that is asked after another could see of its doings."""
    import torch

    from qx.testing.worker.digest import digest

    # Before the model is asked: an answer may write into its buffers.
    found = {
        "parameters or buffers": digest(dict(model.state_dict(keep_vars=True))),
        "modules or their settings": digest(dict(_modules(model))),
        "example inputs": digest(example_inputs),
    }
    try:
        with torch.inference_mode():
            answers: object = model(*example_inputs)
    except Exception as error:
        answers = f"{type(error).__name__}: {error}"
    return found | {"outputs": digest(answers)}


def _modules(model: torch.nn.Module) -> Iterator[tuple[str, object]]:
    """Every module with its type, which parameters want gradients, and what its attributes hold."""
    for name, module in model.named_modules():
        gradients = [one.requires_grad for one in module.parameters(recurse=False)]
        held = {key: _plain(value) for key, value in vars(module).items()}
        yield name, (type(module).__name__, gradients, held)


def _plain(value: object) -> object:
    """Numbers and texts as they are, of anything else how many things it holds."""
    if isinstance(value, (str, int, float, bool, tuple)) or value is None:
        return value
    return f"{type(value).__name__} {len(value) if hasattr(value, '__len__') else ''}"


PLAIN_BEFORE = Onlooker("onlooker_plain_before", quantizable=False, before=True)
PLAIN_AFTER = Onlooker("onlooker_plain_after", quantizable=False, before=False)
STUBS_BEFORE = Onlooker("onlooker_stubs_before", quantizable=True, before=True)
STUBS_AFTER = Onlooker("onlooker_stubs_after", quantizable=True, before=False)
