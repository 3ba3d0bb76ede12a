"""What a word MODEL names: a workload, or what makes a model of the user's own."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from qx.contract.records import Option, Workload
from qx.errors import UsageError
from qx.host.catalogue import Entry
from qx.host.host import Host, Reference
from qx.runner import settings
from qx.runner.models import OwnModel, to_model
from qx.runner.preparation import weights_file
from qx.runner.request import Request, choose_workload, choose_workloads


def entry(name: str, **fields: object) -> Entry:
    """Return the entry of a workload."""
    record = Workload(name=name, summary="A workload.", **fields)
    reference = Reference(name, f"package.{name}")
    return Entry(name, "workload", "ready", "", "dist", "1.0", reference, record, ("make_model",))


@pytest.fixture
def host() -> Host:
    """Return a host with a default workload, another one, and the one that takes models."""
    names = ("model", "model_args", "example", "input_shape", "mean", "std")
    options = tuple(Option(name=name, default="", help="Set by MODEL.") for name in names)
    crop = Option(name="crop", default=0.0, help="A share.")
    own = entry("own_model", takes_model=True, random_weights=True, options=(*options, crop))
    return Host([entry("digits", default=True), entry("letters"), own])


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("net.py", "net"),
        ("./net.py:make", "net_make"),
        ("net.py:Net.small", "net_net_small"),
        ("package.nets:Net", "nets_net"),
        ("timm:resnet18.a1_in1k", "timm_resnet18_a1_in1k"),
        ("torchvision:vit_b_16", "torchvision_vit_b_16"),
        ("torchvision.models:resnet18", "models_resnet18"),
        ("5nets.py", "model_5nets"),
        ("hf:./models/tiny.bert", "hf_tiny_bert"),
        ("hf:them/tiny-bert", "hf_tiny_bert"),
    ],
)
def test_a_model_is_named_after_its_file_and_factory(host: Host, word: str, name: str) -> None:
    """Results call it by its file, its factory or its library's name, in letters that a name may have."""
    for file in ("net.py", "5nets.py"):
        Path(file).write_text("def make(): ...")
    Path("models/tiny.bert").mkdir(parents=True)
    model = choose_workload(host, Request(models=(word,)))
    assert (model.name, model.plugin) == (name, "own_model")
    assert model.fixed_options == {"model": word}


def test_a_file_of_a_graph_is_a_model_by_its_content(host: Host) -> None:
    """A program of torch.export and an ONNX model are called by their files, and hold their weights."""
    archive(Path("program.pt2"), "program/models/model.json")
    Path("graph.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    entries = choose_workloads(host, Request(models=("program.pt2", "./graph.onnx")))
    assert [entry.name for entry in entries] == ["program", "graph"]
    assert [entry.fixed_options["model"] for entry in entries] == ["program.pt2", "./graph.onnx"]
    Path("weights.pt").touch()
    with pytest.raises(UsageError, match=r"--weights: MODEL program.pt2 holds its weights itself"):
        weights_file(entries[0], Request(weights=Path("weights.pt")))


def test_a_bare_word_is_a_workload(host: Host) -> None:
    """A word without a dot or a colon is the name of a workload, also where a file is called so."""
    Path("digits").write_text("")
    assert to_model("digits") is None
    assert choose_workload(host, Request(models=("digits",))).name == "digits"
    with pytest.raises(UsageError, match=r"no workload 'digit' \(choose from digits, .*FILE.py"):
        choose_workload(host, Request(models=("digit",)))
    Path("digit.py").write_text("def make_model(): ...")
    with pytest.raises(UsageError, match=r"no workload 'digit'; .* suffix: digit.py"):
        choose_workload(host, Request(models=("digit",)))
    assert to_model("timm:resnet18") == OwnModel("timm:resnet18", "timm_resnet18")


def test_models_of_one_name_are_told_apart(host: Host) -> None:
    """Each has a name of its own, and none that a plugin has."""
    Path("a").mkdir()
    for file in ("net.py", "a/net.py", "letters.py"):
        Path(file).write_text("def make_model(): ...")
    words = ("net.py", "a/net.py", "letters.py", "digits", "net.py")
    entries = choose_workloads(host, Request(models=words))
    assert [entry.name for entry in entries] == ["net", "net_2", "letters_2", "digits"]
    with pytest.raises(UsageError, match="one MODEL is expected here, not 4: net, net_2"):
        choose_workload(host, Request(models=words))


def archive(path: Path, *names: str) -> None:
    """Write a zip archive with these files."""
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "x")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("missing.py:make", "MODEL missing.py:make: there is no such file"),
        ("empty.py", "empty.py is empty, no Python source"),
        ("folder.py", "folder.py is a folder, not a file"),
        ("script.py", "TorchScript cannot be quantized: give the Python module"),
        ("script.bin", "a TorchScript program .* TorchScript cannot be quantized"),
        ("program.zip", "an exported program .* rename it to FILE.pt2"),
        (
            "script.pt2",
            "script.pt2 is a TorchScript program .* not an exported program .* give the Python module",
        ),
        ("notes.onnx", "notes.onnx is something else, not an ONNX model"),
        ("folder.onnx", "folder.onnx is a folder, not a file"),
        ("graph.model", "an ONNX model; rename it to FILE.onnx"),
        ("weights.pt", r"a file of weights \(torch.save\); give weights with --weights"),
        ("notes.txt", r"no Python file \(.py\); expected FILE.py"),
        ("nothing.pt2", "is no file that exists"),
        ("./folder.py/", "is a folder; expected FILE.py"),
        ("timm:", "expected a name of timm, such as timm:resnet18"),
        ("hf:", "there is no such folder; expected a folder, or an id of the hub"),
        ("hf:./bert", "there is no such folder; expected a folder"),
        ("hf:notes.txt", "notes.txt is a file; expected the folder that it lies in"),
        ("a b", "nothing that makes a model; expected FILE.py"),
        ("net.py:", "is no file that exists"),
    ],
)
def test_what_makes_no_model_is_called_what_it_is(word: str, words: str) -> None:
    """A file is recognised by its content, whatever its suffix, and the way out is named."""
    for name in ("folder.py", "folder.onnx"):
        Path(name).mkdir()
    Path("empty.py").touch()
    for name in ("script.py", "script.bin", "script.pt2"):
        archive(Path(name), "net/data.pkl", "net/code/net.py", "net/constants.pkl")
    archive(Path("program.zip"), "program/models/model.json")
    Path("graph.model").write_bytes(b"\x08\x08\x12\x07pytorch")
    archive(Path("weights.pt"), "weights/data.pkl")
    for name in ("notes.txt", "notes.onnx"):
        Path(name).write_text("hello")
    with pytest.raises(UsageError, match=words):
        to_model(word)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"models": ("net.py",), "workloads": ("digits",)}, "give MODEL or --workload, not both"),
        ({"model": {"example": "x"}}, "--example can only be used with a MODEL of your own"),
        ({"models": ("digits",), "model": {"input_shape": "3,8,8"}}, "--input-shape can only be used"),
        ({"models": ("digits",), "trained": True}, "--trained can only be used with a MODEL"),
        ({"models": ("digits", "net.py"), "weights": Path("w.pt")}, "--weights .* one workload, not 2"),
        ({"models": ("net.py",), "model": {"sizes": "3"}}, "--sizes: workload own_model has no option"),
    ],
)
def test_options_go_with_what_they_are_for(host: Host, fields: dict[str, object], words: str) -> None:
    """An option that has no effect is refused."""
    Path("net.py").write_text("def make_model(): ...")
    with pytest.raises(UsageError, match=words):
        choose_workloads(host, Request(**fields))  # type: ignore[arg-type]


def test_options_are_set_for_all_models_or_for_one(host: Host) -> None:
    """``--set own_model.OPTION`` holds for each model, ``--set NAME.OPTION`` for that one."""
    for name in ("net", "other"):
        Path(f"{name}.py").write_text("def make_model(): ...")
    request = Request(models=("net.py", "other.py"), settings=("own_model.crop=0.5", "net.crop=0.25"))
    entries = choose_workloads(host, request)
    values = settings.read(host, request.settings, entries)
    crops = {entry.name: settings.all_options(entry, values)["crop"] for entry in entries}
    assert crops == {"net": 0.25, "other": 0.5}
    assert settings.all_options(entries[0], values)["model"] == "net.py"
    with pytest.raises(UsageError, match=r"--set net.model=x.py: MODEL has set model already"):
        settings.read(host, ("net.model=x.py",), entries)
