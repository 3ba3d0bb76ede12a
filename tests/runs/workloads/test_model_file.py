"""A model as a Python file, by a library's name, or with described inputs: real runs of what users write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import nn

QUICK = ("--quick", "--budget", 0.01, "--batch-size", 1)

TOKENS = """
    import torch
    from torch import nn
    from parts import WIDTH

    class Encoder(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.embedding = nn.Embedding(1000, WIDTH)
            self.classifier = nn.Linear(WIDTH, classes)

        def forward(self, input_ids, attention_mask):
            mask = attention_mask.unsqueeze(-1).float()
            words = (self.embedding(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1)
            return self.classifier(words)

    def make(classes=4):
        return Encoder(classes)

    def needs(depth):
        return Encoder(depth)
"""
SERIES = """
    import torch
    from torch import nn

    TASK = "regression"

    def make_model():
        body = nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        return nn.Sequential(body, nn.Linear(8, 2))

    def load_data(split):
        inputs = torch.randn(80, 3, 64)
        return inputs, inputs.mean(2)[:, :2]
"""
EXAMPLES = (
    *("--example", "input_ids:int64[1,16]=0..999"),
    *("--example", "attention_mask:int64[1,16]=1"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a folder with a model of two inputs, which imports a file beside it, and a model of series."""
    (tmp_path / "tokens.py").write_text(dedent(TOKENS))
    (tmp_path / "parts.py").write_text("WIDTH = 16\n")
    (tmp_path / "series.py").write_text(dedent(SERIES))
    return tmp_path


@pytest.mark.slow
def test_what_qx_new_writes_runs_as_it_is(qx: Callable[..., Any], tmp_path: Path) -> None:
    """The file that is to be filled in classifies series, and its quantized form is measured."""
    made = qx("new", "model", "waves", cwd=tmp_path)
    assert made.code == 0 and "qx run waves.py" in made.out, made.err
    assert "waves.py exists already" in qx("new", "model", "waves", cwd=tmp_path).err
    run = ("run", "-c", "fx_static_int8", "waves.py", "-m", "accuracy", "-m", "file_size", "--out", "out")
    done = qx(*run, *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    assert list(done.results["run"]["workloads"]) == ["waves"]
    for config in ("fp32_baseline", "fx_static_int8"):
        measured = done.measurement(config, "accuracy")
        assert (measured["n"], measured["value"] > 0.8) == (500, True)
    assert done.measurement("fx_static_int8", "file_size")["value"] > 0


@pytest.mark.parametrize("others", [(), pytest.param(("digits_cnn",), marks=pytest.mark.slow)])
def test_a_file_alone_and_beside_a_workload(
    qx: Callable[..., Any], place: Path, others: tuple[str, ...]
) -> None:
    """Each has its own name; what does not apply is said; where there are few items, all calibrate."""
    done = qx(
        *("run", "series.py", *others, "-c", "fx_static_int8", "-m", "accuracy", "-m", "file_size"),
        *(*QUICK, "--out", "out"),
        cwd=place,
    )
    assert done.code == 0, done.err
    workloads = done.results["run"]["workloads"]
    assert list(workloads) == ["series", *others]
    assert "calibrate on 256 items by default, and the data have 80" in done.err
    assert list(workloads["series"]["calibrations"]) == ["80"]
    assert workloads["series"]["task"] == "regression"
    assert workloads["series"]["options"]["example"].startswith("input:float32[1,3,64]=-")
    assert "metric accuracy does not apply: the task is regression" in done.err


@pytest.mark.slow
def test_several_inputs_are_described_and_generated(qx: Callable[..., Any], place: Path) -> None:
    """No data and no shape of an image are asked for; reports say that the inputs were generated."""
    run = ("run", "tokens.py:make", *EXAMPLES, "-c", "dynamic_int8", "-m", "file_size", "-m", "accuracy")
    done = qx(*run, *QUICK, "--out", "out", cwd=place)
    assert done.code == 0, done.err
    assert list(done.results["run"]["workloads"]) == ["tokens_make"]
    assert done.measurement("dynamic_int8", "file_size")["value"] > 1000 * 16 * 4
    for text in (done.out, done.table):
        assert "generated inputs, since no data were given" in text
        assert "Not known to be trained" in text


@pytest.mark.slow
def test_what_a_file_imports_decides_its_builds(qx: Callable[..., Any], place: Path) -> None:
    """A build of the cache is found again until a file beside the model's changes."""
    words = ("quantize", "tokens.py:make", *EXAMPLES, "-c", "fp32_baseline")
    folders = [qx(*words, cwd=place).out for _ in range(2)]
    (place / "parts.py").write_text("WIDTH = 8\n")
    folders.append(qx(*words, cwd=place).out)
    assert folders[0] == folders[1] != folders[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tokens.py",), "tokens.py has no make_model() (it has Encoder, make, needs)"),
        pytest.param(
            *(("tokens.py:needs", *EXAMPLES), "the factory needs depth; add --model-args depth=VALUE"),
            marks=pytest.mark.slow,
        ),
        (
            ("tokens.py:make", "--example", "input_ids:float32[1,16]", "--example", "mask:int64[1,16]=1"),
            "Encoder rejects an input of shape [2, 16], [2, 16]: ",
        ),
        pytest.param(
            *(("series.py", "--calibration-n", 81), "81 calibration items are asked for"),
            marks=pytest.mark.slow,
        ),
        (("series.py", "tokens.py:make", "--model", "series.py"), "give MODEL or --model, not both"),
        (("missing.py:make",), "MODEL missing.py:make: there is no such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    qx: Callable[..., Any], place: Path, arguments: tuple[Any, ...], words: str
) -> None:
    """A mistake ends with exit code 2 and one line, and nothing is built or written."""
    done = qx("run", *arguments, "-c", "fx_static_int8", *QUICK, "--out", "out", cwd=place)
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if not line.startswith("[")]
    assert words in line
    assert not (place / "out").exists()


BROKEN = {
    "labels": ("return torch.zeros(9, 3, 64), torch.arange(9)", "labels go from 0 to 8", "labels [items]"),
    "shapes": ("return torch.zeros(9 + len(split), 3, len(split)), torch.zeros(9 + len(split))", "[items, 3"),
    "nothing": ("return None", "load_data('test') gives None"),
    "error": ("raise RuntimeError('no disk')", "load_data test: RuntimeError: no disk"),
}


@pytest.mark.parametrize("flaw", [pytest.param(name, marks=pytest.mark.slow) for name in BROKEN])
def test_data_that_do_not_fit_are_refused(qx: Callable[..., Any], place: Path, flaw: str) -> None:
    """The line has both shapes, or what the function gave or raised."""
    line, *words = BROKEN[flaw]
    source = dedent(SERIES).replace('"regression"', '"classification"')
    (place / "series.py").write_text(source.partition("    inputs = ")[0] + f"    {line}\n")
    done = qx("run", "series.py", "-c", "fx_static_int8", *QUICK, "--out", "out", cwd=place)
    assert done.code == 2, done.err
    assert all(word in done.err for word in words), done.err


@pytest.mark.slow
def test_a_model_of_a_library_runs_by_its_name(qx: Callable[..., Any], tmp_path: Path) -> None:
    """Without data and options there are sizes, and the share of answers that stay the baseline's."""
    done = qx(
        *("run", "torchvision:shufflenet_v2_x0_5", "-c", "fx_static_int8", "-m", "file_size"),
        *("-m", "agreement", "-m", "sqnr", *QUICK, "--calibration-n", 8, "--out", "out"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    assert "torchvision_shufflenet_v2_x0_5 on generated inputs" in done.out
    assert [axis["metric"] for axis in done.results["axes"]] == ["sqnr", "file_size"]
    assert done.measurement("fx_static_int8", "agreement")["n"] == 128


@pytest.mark.slow
def test_the_file_in_the_documents_is_trained_and_runs(qx: Callable[..., Any], tmp_path: Path) -> None:
    """``qx train FILE.py`` calls its ``train``; with the weights it is right more often than by chance."""
    text = (Path(__file__).parents[3] / "docs" / "workloads.md").read_text()
    block = text.partition("### A series, and a library's network")[2].partition("```python\n")[2]
    (tmp_path / "louder.py").write_text(block.partition("```")[0])
    trained = qx("train", "louder.py", "--out", "louder.pt", cwd=tmp_path)
    assert trained.code == 0, trained.err
    weights = ("--weights", "louder.pt", "-c", "fx_static_int8", "-m", "accuracy")
    done = qx("run", "louder.py", *weights, *QUICK, "--out", "out", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.measurement("fx_static_int8", "accuracy")["value"] > 0.7


#: A file that gives right answers. Its weights are random, unless they are given.
JUDGED = """
    import torch
    from torch import nn
    from qx import ModelFacts

    def make_model():
        return nn.Sequential(nn.Flatten(), nn.Linear(8, 3))

    def load_data(split):
        return torch.randn(60, 2, 4), torch.arange(60) % 3
"""
TRAIN = """
    def train(model):
        return model
"""
#: The same, whose model says itself whether it is trained.
SAYS = """
    def make_model():
        model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
        model.qx_facts = ModelFacts(trained={})
        return model
"""


@pytest.mark.parametrize(
    ("source", "options", "trained"),
    [
        (JUDGED + TRAIN, (), False),
        pytest.param(JUDGED, (), True, marks=pytest.mark.slow),
        pytest.param(JUDGED + TRAIN, ("--trained",), True, marks=pytest.mark.slow),
        pytest.param(JUDGED + TRAIN, ("--weights", "net.pt"), True, marks=pytest.mark.slow),
        pytest.param(JUDGED + TRAIN + SAYS.format(True), (), True, marks=pytest.mark.slow),
        pytest.param(JUDGED + SAYS.format(False), (), False, marks=pytest.mark.slow),
    ],
)
def test_a_file_that_trains_needs_weights_to_be_judged(
    qx: Callable[..., Any], tmp_path: Path, source: str, options: tuple[str, ...], trained: bool
) -> None:
    """Chance is not shown as an accuracy; options and the model itself say otherwise."""
    (tmp_path / "net.py").write_text(dedent(source))
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(8, 3)).state_dict(), tmp_path / "net.pt")
    run = ("run", "net.py", "-c", "fp32_baseline", "-m", "accuracy", "-m", "file_size")
    done = qx(*run, *options, *QUICK, "--out", "out", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.results["run"]["workloads"]["net"]["trained"] is trained
    assert ("Not known to be trained" in done.out) is not trained
    assert (done.measurement("fp32_baseline", "accuracy")["value"] is not None) is trained
