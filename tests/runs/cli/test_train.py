"""``qx train``: the weights of a workload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Qx = Callable[..., Any]


def weights(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True)


def test_it_writes_weights_that_the_workload_takes(qx: Qx, toy: Any, tmp_path: Path) -> None:
    """The trained state dict is written whole where ``--out`` says, and ``--weights`` takes it."""
    done = qx("train", "--workload", "toy", *toy.plugin_arguments(), "--out", "new/toy.pt", "--epochs", 3)
    assert done.code == 0, done.err
    assert done.out == "new/toy.pt\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["toy.pt"]
    assert weights(tmp_path / "new" / "toy.pt")["weight"].diag().tolist() == [3, 3, 3]
    arguments = [argument for argument in toy.arguments() if argument != str(toy.weights)]
    at = arguments.index("--weights") + 1
    built = qx("quantize", "-c", "toy_fp32", *arguments[:at], "new/toy.pt", *arguments[at:])
    assert built.code == 0, built.err


def test_it_goes_by_the_seed(qx: Qx, toy: Any, tmp_path: Path) -> None:
    """The same seed gives the same weights bit for bit, another seed others."""
    files = []
    for seed in (1, 1, 2):
        done = qx("train", "--workload", "toy", *toy.plugin_arguments(), "--seed", seed)
        assert done.code == 0, done.err
        assert done.out == "artifacts/weights/toy.pt\n"
        files.append((tmp_path / "artifacts" / "weights" / "toy.pt").read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_training_that_fails_leaves_the_earlier_weights(
    qx: Qx, write_plugin: Callable[[str, str], str], toy: Any, tmp_path: Path
) -> None:
    """Earlier weights stay; the cause is one line, and the exit code is 1."""
    source = Path(toy.plugins[0]).read_text().replace("context.progress(", "raise ValueError('nan')  # ")
    (tmp_path / "toy.pt").write_bytes(b"earlier")
    plugins = [word for plugin in (write_plugin("toy", source), *toy.plugins[1:]) for word in ("-p", plugin)]
    done = qx("train", "--workload", "toy", *plugins, "--out", "toy.pt")
    assert done.code == 1, done.err
    line, _, log = done.err.splitlines()[-1].partition("; log: ")
    assert line == "qx: error: training toy: failed in train: ValueError: nan"
    assert "ValueError: nan" in Path(log).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["toy.pt"]
    assert (tmp_path / "toy.pt").read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be from 0"),
        (["--out", "."], "--out . is a folder: name the file"),
        (["--out", "a_file/toy.pt"], "cannot write into a_file"),
        (["--workload", "mnist"], "unknown workload 'mnist' (choose from "),
        (["--workload", "untrainable"], "workload untrainable cannot be trained: it implements no 'train'"),
        (["--workload", "steady", "--epochs", "2"], "workload steady has no option 'epochs'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_one_line(
    qx: Qx,
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    """A mistake ends with exit code 2 and a line that names it and what was expected; nothing is written."""
    source = Path(toy.plugins[0]).read_text()
    start, _, _ = source.partition("@hookimpl\ndef train")
    untrainable = write_plugin("untrainable", start.replace('name="toy"', 'name="untrainable"'))
    option = source[source.index("    options=[") : source.index("\n    )\n")]
    steady = write_plugin("steady", source.replace('name="toy"', 'name="steady"').replace(option, ""))
    Path("a_file").write_text("mine")
    workload = () if "--workload" in arguments else ("--workload", "toy")
    done = qx("train", *workload, *toy.plugin_arguments(untrainable, steady), *arguments)
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    assert line.startswith("qx: error: ")
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]
