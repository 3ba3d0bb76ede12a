"""The page that walks through models of each kind: its files, and the commands that it shows."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[3]
FILES = TOP / "examples" / "models"
PAGE = (TOP / "docs" / "bring-your-model.md").read_text(encoding="utf-8")
SECTION = re.compile(r"\[(\w+)\.py\]\(\.\./examples/models/\1\.py\).*?(?=\n##+ |\Z)", re.DOTALL)
SECTIONS = {match[1]: match[0] for match in SECTION.finditer(PAGE)}
#: Packages that a file needs, and that need not be installed.
PACKAGES = {
    "convnet": ("timm",),
    "bert": ("transformers",),
    "pitch": ("torchcrepe",),
    "faces": ("facenet_pytorch", "skimage"),
    "voices": ("resemblyzer",),
    "detector": ("pycocotools",),
}
#: The file that the fast tier runs, with one config.
FAST = "regressor"
#: Metrics that say how good the answers of a file are.
QUALITIES = {"accuracy", "score", "recall_at_1", "mean_average_precision"}
#: Values of quality that the fp32 model of each file has at least.
LEAST = {
    "bert": 0.7,
    "convnet": 0.7,
    "detector": 0.3,
    "embedding": 0.9,
    "faces": 0.9,
    "lstm": 0.7,
    "pitch": 0.8,
    "regressor": 0.4,
    "unet": 0.6,
    "voices": 0.8,
}


def _commands(name: str) -> list[list[str]]:
    """Return the arguments of the qx commands that the page shows for a file."""
    return [line.split()[2:] for line in SECTIONS[name].splitlines() if line.startswith("    $ qx ")]


def test_the_page_shows_the_files_as_they_are() -> None:
    """Each file in ``examples/models`` has a section, and its block of code is the file."""
    assert sorted(SECTIONS) == sorted(path.stem for path in FILES.glob("*.py")) == sorted(LEAST)
    for name, section in SECTIONS.items():
        shown = re.search(r"```python\n(.*?)```", section, re.DOTALL)
        assert shown is not None and shown[1] == (FILES / f"{name}.py").read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == FAST else pytest.mark.slow) for name in LEAST]
)
def test_the_commands_of_the_page_give_what_it_shows(
    qx: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    """They end well, and each config has a quality with an interval, or the reason that the page shows."""
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package)
    shutil.copy(FILES / f"{name}.py", tmp_path)
    *trainings, run = _commands(name)
    for training in trainings:
        done = qx(*training, cwd=tmp_path)
        assert done.code == 0, done.err
    configs = [word for option, word in pairwise(run) if option == "-c"]
    if not os.environ.get("QX_SLOW"):
        configs, others = configs[:1], configs[1:]
        left_out = {place + step for place, word in enumerate(run) if word in others for step in (-1, 0)}
        run = [word for place, word in enumerate(run) if place not in left_out] + ["--quick"]
    done = qx(*run, "--budget", 0.01, "--batch-size", 1, "--out", "out", cwd=tmp_path)
    assert done.code == 0, done.err
    (metric,) = {axis["metric"] for axis in done.results["axes"]} & QUALITIES
    assert done.measurement("fp32_baseline", metric)["value"] > LEAST[name]
    for config in configs:
        measured = done.measurement(config, metric)
        if done.cell(config)["outcome"] == "ok":
            # A value that hardly any item changes has none of its own, but its difference has.
            assert measured["ci"] or measured["vs_baseline"]["ci"], config
        else:
            assert config in SECTIONS[name].rpartition("    $ qx ")[2]
