"""Configs that are composed of others: which can be used, and what a call of a recipe is refused for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from qx.contract.records import Config, Context, Metric, Option
from qx.contract.references import Reference, reference_of
from qx.errors import PluginError
from qx.host.catalogue import Entry
from qx.host.host import Host
from qx.host.recipes import with_recipes
from qx.runner.request import recipes_of
from qx.worker.plugins import BoundPlugin
from qx.worker.recipes import bind_recipe


def entry(name: str, *recipes: str, state: Any = "ready", reason: str = "", **fields: Any) -> Entry:
    """Return the entry of a config that is composed of others."""
    record = Config(name=name, summary="A config.", recipes=recipes, **fields)
    return Entry(name, "config", state, reason, None, None, Reference(name, name), record, ("convert",))


def states(entries: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """Return state and reason of each config, as its recipes leave it."""
    return {checked.name: (checked.state, checked.reason) for checked in with_recipes(entries)}


def test_a_config_is_ready_where_its_recipes_are() -> None:
    """A recipe may be composed itself, and is there once however often it is named."""
    entries = [entry("both", "left", "right"), entry("left", "base"), entry("right", "base"), entry("base")]
    assert states(entries) == dict.fromkeys(("both", "left", "right", "base"), ("ready", ""))
    host = Host(with_recipes(entries))
    assert [recipe.name for recipe in recipes_of(host, host.get("config", "both"))] == [
        "left",
        "right",
        "base",
    ]
    assert recipes_of(host, host.get("config", "base")) == ()


def test_what_lacks_a_recipe_is_unavailable_with_the_reason() -> None:
    """The reason names the recipe, and why it cannot be used, or the configs to choose from."""
    lacking = entry("lacking", state="unavailable", reason="needs onnx: pip install onnx")
    entries = [
        entry("on_lacking", "lacking"),
        entry("over", "on_lacking"),
        lacking,
        entry("mistyped", "bse"),
        entry("base"),
    ]
    found = states(entries)
    reason = "is composed of 'lacking', which is unavailable: needs onnx: pip install onnx"
    assert found["on_lacking"] == ("unavailable", reason)
    assert found["over"] == ("unavailable", f"is composed of 'on_lacking', which is unavailable: {reason}")
    choices = "base, lacking, on_lacking, over"
    assert found["mistyped"] == (
        "unavailable",
        f"is composed of an unknown config 'bse' (choose from {choices})",
    )
    assert found["base"] == ("ready", "")


def test_a_recipe_that_is_no_config_is_unknown() -> None:
    """A metric of that name is no recipe."""
    record = Metric(
        name="size", summary="S", unit="B", better="lower", samples="exact", compare="ratio", phase="artifact"
    )
    size = Entry("size", "metric", "ready", "", None, None, Reference("size", "size"), record)
    state, reason = states([entry("odd", "size"), size])["odd"]
    assert (state, reason) == ("unavailable", "is composed of an unknown config 'size' (there are none)")


@pytest.mark.parametrize("circle", [["one"], ["one", "two"], ["one", "two", "three"]])
def test_recipes_in_a_circle_are_broken(circle: list[str]) -> None:
    """No config of a circle can be used, and one of them says which way it goes."""
    following = [*circle[1:], circle[0]]
    found = states([entry(name, recipe) for name, recipe in zip(circle, following, strict=True)])
    assert all(state != "ready" for state, _ in found.values())
    loop = " -> ".join([*circle, circle[0]])
    assert f"its recipes lead in a circle: {loop}" in [reason for _, reason in found.values()]


@pytest.mark.parametrize("field", ["quantizable", "calibration", "training"])
def test_what_a_recipe_is_given_must_be_asked_for(field: str) -> None:
    """A config whose recipe needs stubs or data must ask for them in its own record."""
    base = entry("base", **{field: True})
    reason = f"is composed of 'base', whose record says {field}=True: its own must say it, too"
    assert states([entry("over", "base"), base])["over"] == ("broken", reason)
    assert states([entry("over", "base", **{field: True}), base])["over"] == ("ready", "")


BASE = """
    from qx import Config, Option, hookimpl

    @hookimpl
    def describe():
        digits = Option(name="digits", default=2, minimum=0, help="Digits that are kept.")
        return Config(name="base", summary="Rounds.", calibration=True, options=(digits,))

    @hookimpl
    def check_model(model):
        assert model != "wrong", "wrong"

    @hookimpl
    def calibrate(model, float_model, context):
        return (*model, "calibrated", float_model, context.options["calibration_n"])

    @hookimpl
    def convert(model, context):
        import random
        return (*model, context.options["digits"], context.folder, random.random())
"""
OVER = """
    from qx import Config, Option, hookimpl

    @hookimpl
    def describe():
        size = Option(name="calibration_n", default=9, minimum=1, help="Items.")
        return Config(
            name="over", summary="Over.", calibration=True, recipes=("base",), options=(size, *OPTIONS)
        )

    OPTIONS = (Option(name="kept", default=1, help="Digits."),)

    @hookimpl
    def calibrate():
        raise NotImplementedError

    @hookimpl
    def convert(model, context):
        recipe = context.recipe("base", digits=context.options["kept"])
        return recipe.convert(recipe.prepare_model(model, ()), ())
"""


@pytest.fixture
def over(tmp_path: Path) -> BoundPlugin:
    """A config that is composed of another, in a host of both."""
    for name, source in (("base", BASE), ("over", OVER)):
        (tmp_path / f"{name}.py").write_text(dedent(source))
    host = Host.of([reference_of(str(tmp_path / f"{name}.py")) for name in ("over", "base")])
    options = {"calibration_n": 9, "kept": 1}
    return BoundPlugin(host, "over", Context(seed=3, folder=tmp_path, options=options), bind_recipe)


def recipe_of(over: BoundPlugin, *names: str, **options: Any) -> Any:
    """Return what ``context.recipe`` gives to a hook of the config."""
    return bind_recipe(over, *(names or ("base",)), **options)


def test_a_recipe_has_the_context_of_its_caller_and_options_of_its_own(over: BoundPlugin) -> None:
    """Options that are not given are the defaults, ``calibration_n`` is the caller's, and the seed is set."""
    first = over.call("convert", model=("model",), example_inputs=(), float_model=None)
    assert first[:3] == ("model", 1, over.context.folder)
    again = over.call("convert", model=("model",), example_inputs=(), float_model=None)
    assert first == again
    recipe = recipe_of(over)
    assert dict(recipe.options) == {"digits": 2, "calibration_n": 9}
    assert recipe.calibrate(("model",), [], float_model="fp32") == ("model", "calibrated", "fp32", 9)
    assert recipe_of(over, calibration_n=7).options["calibration_n"] == 7
    assert recipe.prepare_model("model", ()) == "model"
    with pytest.raises(AssertionError, match="wrong"):
        recipe.check_model("wrong", ())


WRONG_CALLS: dict[str, Callable[[BoundPlugin], object]] = {
    "over: there is no recipe 'other' among those that its record names ('base')": (
        lambda over: recipe_of(over, "other")
    ),
    "over: recipe 'base' has no option 'digit' (it has digits, calibration_n)": (
        lambda over: recipe_of(over, digit=1)
    ),
    "over: option 'digits' of recipe 'base' must be at least 0, not -1": (
        lambda over: recipe_of(over, digits=-1)
    ),
    "over: option 'digits' of recipe 'base' must be a whole number, not '2'": (
        lambda over: recipe_of(over, digits="2")
    ),
    "over: recipe 'base' takes float_model in calibrate: take it, too, and pass it on": (
        lambda over: recipe_of(over).calibrate((), [])
    ),
    "there is no recipe 'base' here: a config names those it calls in its record": (
        lambda _: Context().recipe("base")
    ),
}


@pytest.mark.parametrize("message", WRONG_CALLS)
def test_a_wrong_call_of_a_recipe_says_what_is_wrong(over: BoundPlugin, message: str) -> None:
    """The error is one line with the names, and the choices where there are some."""
    with pytest.raises(PluginError) as caught:
        WRONG_CALLS[message](over)
    assert str(caught.value) == message


def test_the_names_of_recipes_are_texts() -> None:
    """A single text in place of a list is refused with an example of a right one."""
    with pytest.raises(TypeError, match=r"expected a list of texts such as \['base'\]"):
        Config(name="over", summary="S.", recipes="base")  # type: ignore[arg-type]
    assert Config(name="over", summary="S.", options=[Option(name="a", default=1, help="A.")]).recipes == ()
