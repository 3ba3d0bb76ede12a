"""Every command and every block of code in ``docs/workloads.md`` is run, with small models in its places."""

from __future__ import annotations

import re
import shlex
import shutil
import sysconfig
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import hf_folders
import numpy as np
import pytest
import torch
from PIL import Image

PAGE = (Path(__file__).parents[3] / "docs" / "workloads.md").read_text(encoding="utf-8")
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
#: Lines of the page that are commands, parts of commands, or Python.
COMMANDS = re.findall(r"^    (?:\$ )?(qx .*)$", CODE.sub("", PAGE), re.MULTILINE)
OPTIONS = re.findall(r"^    (--[a-z].*)$", CODE.sub("", PAGE), re.MULTILINE)
PYTHON = re.findall(r"^    (torch\..*)$", CODE.sub("", PAGE), re.MULTILINE)

#: What stands in the place of the words in capitals.
PLACES = {
    "MODEL": "digits_cnn",
    "CONFIG": "dynamic_int8",
    "NAME": "own_net",
    "FOLDER": "bert",
    "TABLE": "reviews.csv",
    "FILE": "factory.pt",
    "DIR": "images",
    "LIBRARY": "library",
    "TEXTS": "texts",
}
#: Folders and files of this Python's standard library that make a small one.
LIBRARY = ("os.py", "json", "email", "logging", "concurrent")
#: Options of commands that train, in place of those of the page: a step is enough.
SHORT_TRAINING = {"stdlib_lm.steps=900": "stdlib_lm.steps=1"}
#: The commands that the options of a line belong to, by the first of these options.
COMMANDS_OF_OPTIONS = {
    "--example": "qx run pair.py:make -c dynamic_int8",
    "--set": "qx run hf:stars --data titles.csv -c dynamic_int8",
}
QUICK = ("--quick", "--budget", "0.01", "--batch-size", "1", "--calibration-n", "8", "--out", "out")
#: Packages without which a command cannot run, by a word of it.
PACKAGES = {
    "hf:": ("transformers",),
    "net.onnx": ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"),
    "stdlib_lm": ("tokenizers",),
}

NETS = """
    import torch
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(100, 8), nn.Linear(8, 3)

        def forward(self, ids):
            return self.head(self.table(ids).mean(1))

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(1000, 8), nn.Linear(8, 3)

        def forward(self, ids, mask):
            return self.head((self.table(ids) * mask[..., None]).mean(1))

    def make_model():
        torch.manual_seed(0)
        return Tagger()

    def make():
        torch.manual_seed(0)
        return Pair()

    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def factory():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 9, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 27 * 27, 10))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with everything that the page's commands name."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("tagger.py", "pair.py", "package/module.py", "net.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(
            dedent(NETS.replace("def net", "def make_model") if name == "net.py" else NETS)
        )
    judge, series = CODE.findall(PAGE)
    for name in LIBRARY:
        source, copy = Path(sysconfig.get_paths()["stdlib"]) / name, folder / "library" / name
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            copy.parent.mkdir()
            shutil.copy(source, copy)
    (folder / "judge.py").write_text(judge)
    (folder / "louder.py").write_text(series)
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1000, 4)).astype(np.float32)
    np.savez(folder / "items.npz", inputs=inputs, labels=np.arange(1000) % 3)
    for split in ("train", "test"):
        for label in range(10):
            images = folder / "images" / split / str(label)
            images.mkdir(parents=True)
            for number in range(2):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(images / f"{number}.png")
    module: dict[str, Any] = {}
    exec(dedent(NETS), module)
    torch.save(module["factory"]().state_dict(), folder / "factory.pt")
    return folder


def _arguments(command: str) -> list[str]:
    """Return the arguments of a command, with names in the places of the words in capitals."""
    words = shlex.split(re.sub(r"\b[A-Z]{4,}\b|\bDIR\b", lambda match: PLACES[match[0]], command))[1:]
    words = [SHORT_TRAINING.get(word, word) for word in words]
    # Of all configs the quickest will do where the page names none.
    return [*words, "-c", "dynamic_int8"] if words[0] == "run" and "-c" not in words else words


def _require(command: str) -> None:
    """Skip where a package is missing that the command needs."""
    for word, packages in PACKAGES.items():
        for package in packages if word in command else ():
            pytest.importorskip(package)
    if "stdlib_lm" in command and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")


def _prepare(command: str, folder: Path) -> None:
    """Make the files of other libraries that a command reads."""
    if "hf:" in command:
        hf_folders.bert(folder / "bert")
        hf_folders.reviews(folder / "reviews.csv", 40)
        hf_folders.bert(folder / "stars")
        rows = (f"the film,was {word},{stars}\n" for word, stars in (("good", 1), ("bad", 0)) * 20)
        (folder / "titles.csv").write_text("title,body,stars\n" + "".join(rows))
    if "net.onnx" in command:
        assert len(PYTHON) == 2, "one line that exports a program, and one an ONNX model"
        module: dict[str, Any] = {}
        exec(dedent(NETS), module)
        values = {"torch": torch, "model": module["net"](), "x": torch.zeros(2, 4)}
        for line in PYTHON:
            exec(line.replace('"net.', f'"{folder}/net.'), values)
        assert (folder / "net.pt2").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", [*COMMANDS, *OPTIONS])
def test_every_command_of_the_page_runs(qx: Callable[..., Any], place: Path, command: str) -> None:
    """It ends well; runs leave a row for each config that they name, built or with the reason why not."""
    if command.startswith("--"):
        command = f"{COMMANDS_OF_OPTIONS[command.split()[0]]} {command}"
    _require(command)
    _prepare(command, place)
    name, *arguments = _arguments(command)
    if "louder.pt" in arguments and name == "run" and not (place / "louder.pt").exists():
        assert qx("train", "louder.py", "--out", "louder.pt", cwd=place).code == 0
    out = {"run": QUICK, "train": () if "--out" in arguments else ("--out", "trained.pt")}.get(name, ())
    done = qx(name, *arguments, *out, cwd=place)
    assert done.code == 0, done.err
    if name == "run":
        named = {value for option, value in pairwise(arguments) if option == "-c"}
        assert named <= {cell["config"] for cell in done.results["cells"].values()}


def test_the_page_has_commands_of_every_kind() -> None:
    """The expressions above find the page's commands, options and lines of Python."""
    assert {command.split()[1] for command in COMMANDS} == {"run", "train", "new"}
    assert {line.split()[0] for line in OPTIONS} == set(COMMANDS_OF_OPTIONS)
    assert len(COMMANDS) >= 12 and len(PYTHON) == 2
