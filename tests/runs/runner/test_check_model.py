"""Configs are asked in one process whether they can treat a model, and none decides for the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

CONFIG = """
    import os
    from qx import Artifact, Config, Unsupported, hookimpl

    class Wicked(Unsupported):
        def __str__(self):
            raise RuntimeError("in str")

    @hookimpl
    def describe():
        return Config(name="{name}", summary="A toy.")

    @hookimpl
    def check_model(model):
        {body}

    @hookimpl
    def convert(model, context):
        import numpy
        weight, bias = (tensor.detach().numpy() for tensor in (model.weight, model.bias))
        numpy.savez(context.folder / "model.npz", weight=weight, bias=bias)
        details = {{"config": "{name}"}}
        return Artifact(folder=context.folder, files=["model.npz"], loader="toy_numpy", details=details)
"""
#: Bodies of ``check_model`` that end badly; the configs can be built all the same.
RUDE = {
    "exits": "os._exit(0)",
    "segfaults": "import ctypes; ctypes.string_at(0)",
    "interrupts": "raise KeyboardInterrupt",
    "has_no_text": "raise Wicked",
    "raises": "raise ValueError('no')",
}


@pytest.mark.parametrize(
    "rude", [["exits", "has_no_text"], pytest.param(list(RUDE), marks=pytest.mark.slow)], ids=len
)
def test_a_config_that_ends_the_process_that_asks_speaks_for_itself(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str], rude: list[str]
) -> None:
    """Other configs still answer: one that cannot treat the model is unsupported before it is built."""
    bodies = {name: RUDE[name] for name in rude} | {"cannot": "raise Unsupported('layer 3 is a loop')"}
    plugins = [write_plugin(name, CONFIG.format(name=name, body=body)) for name, body in bodies.items()]
    done = qx("run", *toy.arguments(*plugins), "-m", "file_size", "--out", "out")
    assert done.code == 0, done.err
    cannot = done.cell("cannot")
    assert (cannot["outcome"], cannot["stage"]) == ("unsupported", "check_model")
    assert cannot["cause"] == "layer 3 is a loop"
    for name in (*rude, "toy_fp32"):
        assert done.cell(name)["outcome"] == "ok"
        assert done.measurement(name, "file_size")["value"] > 0
