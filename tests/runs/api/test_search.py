"""``qx.search``: a search from Python, with a session's own model and data."""

from __future__ import annotations

import argparse
import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qx as api
from qx.searching.recipe import read_recipe


def test_every_option_of_the_command_is_an_argument() -> None:
    """``qx.search`` has an argument for each option of ``qx search``, by its name, and describes it."""
    commands = argparse.ArgumentParser().add_subparsers()
    importlib.import_module("qx.cli.commands.search").register(commands)
    options = {action.dest for action in commands.choices["search"]._actions}
    expected = options - {"help", "format", "models"} | {"plugins", "debug"}
    arguments = set(inspect.signature(api.search).parameters)
    assert arguments - expected == {"progress"} and expected <= arguments
    documented = inspect.getdoc(api.search) or ""
    for name in arguments:
        assert f"{name} :" in documented or f"{name}," in documented or f", {name}" in documented, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_drop": "0pt"}, "max_drop 0pt: no number of items can show"),
        ({"max_drop": "much"}, "max_drop much"),
        ({"max_drop": ()}, "max_drop is needed"),
        ({"minimize": "drop"}, "minimize must be one of latency, size, memory, not 'drop'"),
        ({"trials": 0}, "trials must be at least 1, not 0"),
        ({"workloads": "nothing"}, "unknown workload 'nothing'"),
        ({"configs": "nothing"}, "unknown config 'nothing'"),
        ({"ranges": "dynamic_int8.nothing=1,2"}, "no option 'nothing'"),
        ({"out": "recipe.txt"}, "out recipe.txt: its suffix must be .toml or .json"),
        ({"max_time": "soon"}, "max_time"),
        ({"data": np.ones((3, 2)), "workloads": ()}, "data of a session go with a model"),
    ],
)
def test_mistakes_are_usage_errors_in_the_words_of_python(arguments: dict[str, Any], message: str) -> None:
    """A mistake is a ``UsageError`` of one line that names the argument, before anything is built."""
    with pytest.raises(api.UsageError) as caught:
        api.search(**{"progress": False, "max_drop": "2pt", "workloads": "digits_cnn", **arguments})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sessions_model_is_searched(tmp_path: Path) -> None:
    """The weights of a linear network take a quarter of the bytes, which is verified and written."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 3))
    vectors = np.random.default_rng(0).standard_normal((600, 16), dtype=np.float32)
    with torch.no_grad():
        labels = net(torch.from_numpy(vectors)).argmax(1).numpy()
    found = api.search(
        model=net,
        data={"train": (vectors[:100], labels[:100]), "test": (vectors[100:], labels[100:])},
        configs="dynamic_int8",
        max_drop="10pt",
        max_size="0.6x",
        minimize="size",
        no_float_layers=True,
        quick=True,
        out=(tmp_path / "recipe.toml", tmp_path / "search.json"),
        progress=False,
    )
    assert isinstance(found, api.SearchReport)
    assert found.is_verified and found.row == "dynamic_int8"
    assert read_recipe(tmp_path / "recipe.toml") == found.recipe
    assert (tmp_path / "search.json").stat().st_size > 0
    assert {held.constraint for held in found.finalists[0].held} == {"--max-drop 10pt", "--max-size 0.6x"}
