"""Configs whose hooks another config calls by name: the recipes that it is composed of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qx.contract.records import CALIBRATION_N, FLOAT_LAYERS, Artifact, Config, Converted, Weights
from qx.errors import PluginError
from qx.host.host import Host, Reference
from qx.processes.answers import Answer
from qx.processes.jobs import Job
from qx.values import OptionValue, OptionValues
from qx.worker.plugins import BoundPlugin, bind, seed_everything

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from qx.contract.records import Batch


@frozen
class BoundRecipe:
    """A config of a job, as another config calls it: a ``qx.Recipe``."""

    plugin: BoundPlugin
    #: Name of the config that calls it.
    caller: str

    @property
    def options(self) -> Any:
        """Values of its options, by name."""
        return self.plugin.context.options

    def check_model(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> None:
        """Raise ``Unsupported`` as the config does; nothing happens where it has no such hook."""
        if self.plugin.implements("check_model"):
            self.plugin.call("check_model", model=model, example_inputs=example_inputs)

    def prepare_model(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """Return the prepared model; the model itself where the config has no such hook."""
        if not self.plugin.implements("prepare_model"):
            return model
        prepared: nn.Module = self._call("prepare_model", model=model, example_inputs=example_inputs)
        return prepared

    def calibrate(
        self, model: nn.Module, batches: Sequence[Batch], float_model: nn.Module | None = None
    ) -> nn.Module:
        """Return the calibrated model; the model itself where the config has no such hook."""
        if not self.plugin.implements("calibrate"):
            return model
        self._require("calibrate", float_model)
        calibrated: nn.Module = self._call("calibrate", model=model, batches=batches, float_model=float_model)
        return calibrated

    def convert(
        self,
        model: nn.Module,
        example_inputs: tuple[Tensor, ...],
        float_model: nn.Module | None = None,
    ) -> nn.Module | Converted | Artifact:
        """Return what the config makes of the model."""
        self._require("convert", float_model)
        result: nn.Module | Converted | Artifact = self._call(
            "convert", model=model, example_inputs=example_inputs, float_model=float_model
        )
        return result

    def read_weights(self, artifact: Artifact) -> Weights | None:
        """Return the weights that the config reads; else what the artifact's loader reads."""
        own: Weights | None = None
        if self.plugin.implements("read_weights"):
            own = self.plugin.call("read_weights", artifact=artifact)
        return artifact.read_weights() if own is None else own

    def _call(self, hook: str, **arguments: object) -> Any:
        # As qx does before it calls a hook, so that it computes what it would compute by itself.
        seed_everything(self.plugin.context.seed)
        return self.plugin.call(hook, **arguments)

    def _require(self, hook: str, float_model: nn.Module | None) -> None:
        if float_model is None and self.plugin.takes(hook, "float_model"):
            raise PluginError(
                f"{self.caller}: recipe {self.plugin.name!r} takes float_model in {hook}: take it, too, and "
                f"pass it on"
            )


def bind_config(
    job: Job[Answer], reference: Reference, options: OptionValues, host: Host, **fields: Any
) -> BoundPlugin:
    """Return a config of a job, as ``bind`` does, whose hooks can call the recipes that its record names."""
    return evolve(bind(job, reference, options, host, **fields), bind_recipe=bind_recipe)


def bind_recipe(caller: BoundPlugin, name: str, /, **options: OptionValue) -> BoundRecipe:
    """Return a recipe that a config calls, in the config's context but for its own options.

    Options that are not given have their defaults; ``calibration_n`` that of the caller, whose batches it
    gets, and so ``float_layers``. Raises ``PluginError`` for a recipe that the caller's record does not
    name, and for wrong options.
    """
    record = caller.record
    assert isinstance(record, Config)
    if name not in record.recipes:
        named = ", ".join(map(repr, record.recipes)) or "none"
        raise PluginError(
            f"{caller.name}: there is no recipe {name!r} among those that its record names ({named})"
        )
    context = caller.context
    recipe = evolve(caller, name=name)
    known = {option.name: option for option in recipe.record.options}
    for option, value in options.items():
        if option not in known:
            choices = ", ".join(known) or "none"
            raise PluginError(f"{caller.name}: recipe {name!r} has no option {option!r} (it has {choices})")
        if flaw := known[option].flaw(value):
            raise PluginError(
                f"{caller.name}: option {option!r} of recipe {name!r} must be {flaw}, not {value!r}"
            )
    values = {option.name: option.default for option in known.values()}
    shared = {CALIBRATION_N.name, FLOAT_LAYERS.name} & known.keys() & context.options.keys()
    values |= {option: context.options[option] for option in shared} | options
    return BoundRecipe(evolve(recipe, context=evolve(context, options=values)), caller.name)
