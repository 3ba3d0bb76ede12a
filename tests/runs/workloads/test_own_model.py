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
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))
        return nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), *head)

    def three():
        return net(3)

    def sized(classes, scale=1.0):
        model = net(classes)
        with torch.no_grad():
            model[-1].weight *= scale
        return model

    def scripted():
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.script(net().eval())

    def maps():
        return nn.Conv2d(3, 2, 3)

    class Said(nn.Module):
        pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "crop_pct": 0.5}

        def forward(self, images):
            return images

    class Varied(nn.Module):
        def __init__(self, classes=2):
            super().__init__()
            self.body = net(classes)

        def forward(self, *inputs):
            return self.body(inputs[0])

    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.kept = net(), None

        def forward(self, images):
            if self.kept is None:
                self.kept = torch.zeros(2)
            self.kept.fill_(2.0)
            return self.kept * self.body(images)

    def breaks():
        raise RuntimeError("no such size")

    class Swayed(nn.Module):
        def __init__(self, classes=2):
            super().__init__()
            self.body = net(classes)

        def forward(self, images):
            return self.body(images) if images.sum() > 0 else -self.body(images)

    number = 3
"""
SHAPE = ("--input-shape", "3,16,16", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")
QUICK = ("--quick", "--budget", 0.01, "--batch-size", 1, "--calibration-n", 8)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a folder with models, their weights, and a tree of two classes of twelve images each."""
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
    torch.save(space["maps"]().state_dict(), tmp_path / "maps.pt")
    return tmp_path


def test_it_runs_and_configs_that_cannot_treat_it_say_why(qx: Callable[..., Any], place: Path) -> None:
    """Dynamic int8 quantizes the linear layer; static int8 needs stubs, and says so before a build."""
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
        pytest.param(
            *(("--model", "./nets.py:number"), ("number", "int", "expected a function")),
            marks=pytest.mark.slow,
        ),
        pytest.param(*(("--model", "./nets.py:breaks"), ("breaks", "no such size")), marks=pytest.mark.slow),
        pytest.param(*(("--model", "./nowhere.py:net"), ("nowhere.py",)), marks=pytest.mark.slow),
        (("--model", "nets"), ("no workload 'nets'", "nets.py")),
        (("--model", "./nets.py:net", "--weights", "three.pt"), ("4.weight",)),
        (("--model", "./nets.py:net", "--input-shape", "3,1,1"), ("rejects an input of shape", "3, 1, 1")),
        pytest.param(
            *(("--model", "./nets.py:net", "--input-shape", "16"), ("--input-shape 16",)),
            marks=pytest.mark.slow,
        ),
        (("--model", "./nets.py:three", "--weights", "three.pt"), ("2 classes", "3 outputs")),
        pytest.param(*(("--model", "./nets.py:three"), ("2 classes", "3 outputs")), marks=pytest.mark.slow),
        (
            ("--model", "./nets.py:maps", "--weights", "maps.pt"),
            ("2 classes (dark, light)", "[batch, 2, 14, 14], expected [batch, classes]"),
        ),
        pytest.param(
            *(("--model", "./nets.py:net", "--set", "own_model.crop=0.01"), ("crop 0.01", "0.1 to 1")),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(("--model", "./nets.py:net", "--data", "nothing"), ("nothing",)), marks=pytest.mark.slow
        ),
        (("--model", "./nets.py:sized"), ("needs classes", "--model-args classes=VALUE")),
        (
            ("--model", "./nets.py:sized", "--model-args", "width=3"),
            ("--model-args width", "no such argument", "it takes classes, scale"),
        ),
        (("--model", "./nets.py:net", "--model-args", "classes"), ("expected NAME=VALUE",)),
        pytest.param(
            *(("--model", "./nets.py:sized", "--model-args", "classes=3"), ("2 classes", "3 outputs")),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: " ".join(value[-2:]) if value[0].startswith("--") else "",
)
def test_what_is_wrong_is_said_in_one_line(
    qx: Callable[..., Any], place: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """A mistake ends with exit code 2 and one line, and nothing is built or written."""
    done = qx(
        "run", "--data", "images", *SHAPE, *QUICK, *arguments, "-c", "dynamic_int8", "--out", "out", cwd=place
    )
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if not line.startswith("[")]
    for word in words:
        assert word in line
    assert not (place / "out").exists()


@pytest.mark.slow
def test_a_factory_that_gives_trained_weights_is_judged(qx: Callable[..., Any], place: Path) -> None:
    """With ``--trained`` there is an accuracy; without it the report says what to add, and claims nothing."""
    arguments = (
        *("run", "--model", "./nets.py:sized", "--model-args", "classes=2", "--model-args", "scale=2.5"),
        *("--data", "images", *SHAPE, *QUICK, "-c", "dynamic_int8", "-m", "accuracy", "-m", "sqnr"),
        *("--out", "out"),
    )
    trained = qx(*arguments, "--trained", cwd=place)
    assert trained.code == 0, trained.err
    assert trained.measurement("fp32_baseline", "accuracy")["n"] == 24
    assert "Not known to be trained" not in trained.out
    silent = qx(*arguments, cwd=place)
    assert silent.measurement("fp32_baseline", "accuracy")["value"] is None
    shown = " ".join(silent.out.split())
    assert "Not known to be trained: no trained weights were given" in shown
    assert "Quality is how near outputs are to those of fp32_baseline (sqnr)." in shown
    assert "Give --weights FILE, or --trained" in shown


@pytest.mark.slow
def test_torchscript_cannot_be_quantized_and_the_way_out_is_named(
    qx: Callable[..., Any], place: Path
) -> None:
    """Every config that would change or export the model says so before anything is built."""
    done = qx(
        *("run", "--model", "./nets.py:scripted", "--data", "images", *SHAPE, *QUICK, "--out", "out"),
        *("-c", "dynamic_int8", "-c", "fx_static_int8", "-c", "static_int8_per_channel", "-m", "file_size"),
        cwd=place,
    )
    for config in ("dynamic_int8", "fx_static_int8", "static_int8_per_channel"):
        cell = done.cell(config)
        assert cell["outcome"] == "unsupported"
        assert "the model is TorchScript" in cell["cause"] and "the Python module" in cell["cause"]
    assert done.cell("fp32_baseline")["outcome"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workload", "digits_cnn", "--trained"), "--trained can only be used with a MODEL of your own"),
        (("--model-args", "classes=3"), "--model-args can only be used with a MODEL"),
    ],
)
def test_options_of_a_model_are_refused_without_one(
    qx: Callable[..., Any], arguments: tuple[str, ...], words: str
) -> None:
    """One line names the option and what it belongs to."""
    done = qx("run", *arguments)
    assert done.code == 2
    assert words in done.err


EXPORTING = ("inductor", "torchao", "onnxruntime", "openvino", "executorch")


def configs_that_export() -> list[str]:
    """Return the built-in configs of runtimes that take an exported graph."""
    from pkgutil import iter_modules

    from qx_plugins import configs

    names = [module.name for module in iter_modules(configs.__path__) if module.name.startswith(EXPORTING)]
    # It refuses these networks first, which have no recurrent layer.
    return [name for name in names if not name.endswith("_recurrent")]


@pytest.mark.parametrize("config", configs_that_export())
def test_what_cannot_be_exported_is_refused_at_once(config: str) -> None:
    """The layer and its line are named, models that can be exported are accepted, and none is changed."""
    from importlib import import_module

    import torch

    from qx import Context, Unsupported

    space: dict[str, Any] = {"__name__": "nets"}
    source = textwrap.dedent(NETS)
    exec(compile(source, "nets.py", "exec"), space)
    module = import_module(f"qx_plugins.configs.{config}")
    examples = (torch.zeros(1, 3, 16, 16),)
    # Sixteen outputs, which every kernel for linear layers takes.
    plain, varied, swayed = (space[name](16).eval() for name in ("net", "Varied", "Swayed"))
    module.check_model(plain, examples, Context())
    module.check_model(varied, examples, Context())
    line = 1 + source.splitlines().index(next(text for text in source.splitlines() if "sum() > 0" in text))
    with pytest.raises(Unsupported, match=rf"cannot be exported: Swayed, nets.py:{line}: "):
        module.check_model(swayed, examples, Context())
    assert not plain.training and not swayed.training


def test_configs_for_linear_layers_refuse_what_they_cannot_take_at_once() -> None:
    """Without a linear layer, or without one of a size that the kernel takes, the config says so."""
    import torch
    from qx_plugins.configs import onnxruntime_dynamic_int8, torchao_int4_weight_only
    from torch import nn

    from qx import Context, Unsupported

    examples = (torch.zeros(1, 3, 16, 16),)
    with pytest.raises(Unsupported, match="Conv2d has no linear layer"):
        onnxruntime_dynamic_int8.check_model(nn.Conv2d(3, 2, 1), examples, Context())
    ten = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))
    words = (
        r"inputs in multiples of 32 and outputs in multiples of 16: the first of 1, '2', has 48 inputs and"
    )
    with pytest.raises(Unsupported, match=words):
        torchao_int4_weight_only.check_model(ten, examples, Context())


@pytest.mark.slow
def test_what_a_model_keeps_of_its_first_call_does_not_have_it_refused(place: Path, tmp_path: Path) -> None:
    """A tensor that the model makes once, and changes later, is one that an export can change too."""
    from qx.host.host import Host
    from qx.processes.jobs import InspectJob
    from qx.processes.workers import Processes

    host = Host.discover()
    workload, config = (
        host.get("workload", "own_model").reference,
        host.get("config", "inductor_fp32").reference,
    )
    assert workload is not None and config is not None
    options = {"model": f"{place}/nets.py:Keeping", "input_shape": "3,16,16"}
    job = InspectJob(workload=workload, workload_options=options, weights=None, configs=(config,))
    with Processes(tmp_path) as processes:
        findings = processes.run(job, "inspect", timeout=300)
    assert (findings.refusals, findings.outputs) == ({}, (2,))


@pytest.mark.parametrize(
    ("target", "option", "crop"),
    [("Said", 0.0, 0.5), ("Said", 0.875, 0.875), ("net", 0.0, 0.875), ("net", 1.0, 1.0)],
)
def test_a_crop_that_is_given_stands_before_that_of_the_metadata(
    place: Path, target: str, option: float, crop: float
) -> None:
    """A crop that is set counts also where mean and standard deviation are set; without any it is 0.875."""
    from qx_plugins.datasets.fitted_images import load_fitted
    from qx_plugins.workloads import own_model

    from qx import Context

    numbers = {"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"}
    options = {"model": f"{place}/nets.py:{target}", "input_shape": "3,8,8", "crop": option}
    options |= {"model_args": "", "example": ""}
    data = own_model.load_data("test", Context(options=options | numbers, data=place / "images"))
    expected = load_fitted(
        *("test",),
        root=place / "images",
        shape=(3, 8, 8),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        crop=crop,
        count=0,
        cache=None,
        progress=lambda done, text: None,
    )
    assert np.array_equal(data.inputs["image"], expected.inputs["image"])


def test_training_images_are_decoded_when_they_are_asked_for(place: Path) -> None:
    """A damaged image is an error when it is read; until then the others are as they would be anyway."""
    from qx_plugins.datasets.fitted_images import load_fitted

    from qx import Data, DataError

    messages: list[str] = []

    def load(split: str) -> Data:
        return load_fitted(
            split,
            root=place / "images",
            shape=(3, 16, 16),
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            crop=1.0,
            count=0,
            cache=None,
            progress=lambda done, text: messages.append(text),
        )

    whole = np.asarray(load("train").inputs["image"])
    assert messages
    messages.clear()
    (place / "images" / "train" / "light" / "3.png").write_text("no image")
    images = load("train").inputs["image"]
    assert (messages, images.shape, len(images)) == ([], (24, 3, 16, 16), 24)
    assert np.array_equal(images[np.array([2, 23, 0])], whole[[2, 23, 0]])
    assert np.array_equal(images[5], whole[5])
    assert messages[-1] == "decoding train images, 4 so far"
    with pytest.raises(DataError, match=r"light/3\.png is not an image"):
        images[12:]


@pytest.mark.slow
def test_it_is_said_before_anything_is_built(qx: Callable[..., Any], place: Path) -> None:
    """The stage of a forward that depends on its data is ``check_model``, and the other row is unharmed."""
    done = qx(
        *("run", "--model", "./nets.py:Swayed", "--data", "images", *SHAPE, *QUICK),
        *("-c", "fx_static_int8", "-c", "dynamic_int8", "-m", "file_size", "--out", "out"),
        cwd=place,
    )
    refused = done.cell("fx_static_int8")
    assert (refused["outcome"], refused["stage"]) == ("unsupported", "check_model"), done.err
    assert "nets.py" in refused["cause"]
    assert done.cell("dynamic_int8")["outcome"] == "ok"
