"""A model of one's own, without a plugin: it runs, and whatever is wrong with it is said in one line."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NETS = """
    import torch
    from torch import nn

    def net(classes=2):
        torch.manual_seed(0)
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *head)

    def three():
        return net(3)

    def breaks():
        raise RuntimeError("no such size")

    class Swayed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, images):
            return self.body(images) if images.sum() > 0 else -self.body(images)

    number = 3
"""
SHAPE = ("--input-shape", "3,16,16", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")
QUICK = ("--quick", "--budget", 0.01, "--batch-size", 1, "--calibration-n", 8)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with models, their weights, and a tree of two classes of twelve images each."""
    import torch

    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for index, name in enumerate(("dark", "light")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(12):
                pixels = random.integers(128 * index, 128 + 127 * index, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    space: dict[str, Any] = {}
    exec(textwrap.dedent(NETS), space)
    torch.save(space["net"]().state_dict(), tmp_path / "net.pt")
    torch.save(space["three"]().state_dict(), tmp_path / "three.pt")
    return tmp_path


def test_it_runs_and_configs_that_cannot_treat_it_say_why(qx: Callable[..., Any], place: Path) -> None:
    """Dynamic int8 treats its linear layer; static int8 wants stubs, and says so before anything is built."""
    done = qx(
        *("run", "--model", "./nets.py:net", "--weights", "net.pt", "--data", "images", *SHAPE, *QUICK),
        *("-c", "dynamic_int8", "-c", "static_int8_per_channel", "-m", "accuracy", "--out", "out"),
        cwd=place,
    )
    assert done.code == 1, done.err
    assert done.cell("dynamic_int8")["outcome"] == "ok"
    assert done.measurement("fp32_baseline", "accuracy")["n"] == 24
    refused = done.cell("static_int8_per_channel")
    assert refused["outcome"] == "unsupported"
    assert "QuantStub" in refused["cause"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "./nets.py:nope"), ("nets.py", "no 'nope'", "net")),
        (("--model", "./nets.py:number"), ("number", "int", "expected a function")),
        (("--model", "./nets.py:breaks"), ("breaks", "no such size")),
        (("--model", "./nowhere.py:net"), ("nowhere.py",)),
        (("--model", "nets"), ("expected MODULE:FACTORY",)),
        (("--model", "./nets.py:net", "--weights", "three.pt"), ("4.weight",)),
        (("--model", "./nets.py:net", "--input-shape", "3,1,1"), ("rejects an input of shape", "3, 1, 1")),
        (("--model", "./nets.py:net", "--input-shape", "16"), ("--input-shape 16",)),
        (("--model", "./nets.py:three", "--weights", "three.pt"), ("2 classes", "3 outputs")),
        (("--model", "./nets.py:net", "--data", "nothing"), ("nothing",)),
    ],
    ids=lambda value: " ".join(value[-2:]) if value[0] == "--model" else "",
)
def test_what_is_wrong_is_said_in_one_line(
    qx: Callable[..., Any], place: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Nothing is built or written, and the exit code is 2."""
    done = qx(
        "run", "--data", "images", *SHAPE, *QUICK, *arguments, "-c", "dynamic_int8", "--out", "out", cwd=place
    )
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if not line.startswith("[")]
    for word in words:
        assert word in line
    assert not (place / "out").exists()


EXPORTING = ("inductor", "torchao", "onnxruntime", "openvino", "executorch")


def configs_that_export() -> list[str]:
    """The built-in configs of runtimes that are fed with an exported graph."""
    from pkgutil import iter_modules

    from qx_plugins import configs

    return [one.name for one in iter_modules(configs.__path__) if one.name.startswith(EXPORTING)]


@pytest.mark.parametrize("config", configs_that_export())
def test_what_cannot_be_exported_is_refused_at_once(config: str) -> None:
    """The layer and its line are named; a model that can be exported is not refused; neither is changed."""
    from importlib import import_module

    import torch

    from qx import Unsupported

    space: dict[str, Any] = {"__name__": "nets"}
    source = textwrap.dedent(NETS)
    exec(compile(source, "nets.py", "exec"), space)
    module = import_module(f"qx_plugins.configs.{config}")
    examples = (torch.zeros(1, 3, 16, 16),)
    fine, swayed = space["net"]().eval(), space["Swayed"]().eval()
    module.can_treat(fine, examples)
    line = 1 + source.splitlines().index(next(one for one in source.splitlines() if "sum() > 0" in one))
    with pytest.raises(Unsupported, match=rf"cannot be exported: Swayed, nets.py:{line}: "):
        module.can_treat(swayed, examples)
    assert not fine.training and not swayed.training


def test_it_is_said_before_anything_is_built(qx: Callable[..., Any], place: Path) -> None:
    """A forward that depends on its data: the stage is ``can_treat``, and the other row is unharmed."""
    done = qx(
        *("run", "--model", "./nets.py:Swayed", "--data", "images", *SHAPE, *QUICK),
        *("-c", "fx_static_int8", "-c", "dynamic_int8", "-m", "file_size", "--out", "out"),
        cwd=place,
    )
    refused = done.cell("fx_static_int8")
    assert (refused["outcome"], refused["stage"]) == ("unsupported", "can_treat"), done.err
    assert "nets.py" in refused["cause"]
    assert done.cell("dynamic_int8")["outcome"] == "ok"
