"""``serve.py`` and ``README.md``: programs and texts whatever the names in them are."""

from __future__ import annotations

import ast
import importlib.util
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx import Config, Loader, ServingCode, Workload
from qx.contract.references import Reference
from qx.host.catalogue import Entry
from qx.processes.job_answers import Arrangement, ShipAnswer
from qx.shipping.npz import write_arrays
from qx.shipping.program import serve_program, taken_names
from qx.shipping.readme import Package
from qx.storage.digests import FileDigest
from qx.storage.manifest import Manifest

#: Names that end strings, comments, rows of tables and code spans, where they are not guarded.
HOSTILE = ('""" + exit(3) + """', "a|b `c` <b>", "\\", "{'x': 1}", "$title", "naïve", "file")


def serving_code() -> ServingCode:
    def load(files: list[Path], details: dict[str, Any], threads: int) -> Any:
        return [path.read_text() for path in files], details["factor"] * threads

    def run(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert model[0] == ["weights"]
        return {name: model[1] * array for name, array in inputs.items()}

    return ServingCode.from_functions(load, run, details={"factor": 3, "none": None, "yes": True})


def imported(folder: Path, *names: str) -> Any:
    """Write ``serve.py`` for inputs of these names and return it, imported."""
    inputs = [Arrangement(name=name, dtype="float32", shape=(2,)) for name in names]
    (folder / "weights.txt").write_text("weights")
    digests = {"weights.txt": sha256(b"weights").hexdigest()}
    path = folder / "serve.py"
    path.write_text(serve_program(serving_code(), digests, inputs, "half of toy"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("serve", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_serves_named_arrays(tmp_path: Path) -> None:
    """A model takes named arrays in any order and gives named arrays, and so do files."""
    folder = tmp_path / "a folder, naïve"
    folder.mkdir()
    serve = imported(folder, "left", "right")
    ones = np.ones((4, 2), dtype=np.float32)
    serve.write(tmp_path / "in.npz", {"right": 2 * ones, "left": ones})
    outputs = serve.Model(threads=2)(serve.read(tmp_path / "in.npz"))
    assert list(outputs) == ["left", "right"]
    np.testing.assert_array_equal(outputs["right"], 12 * ones)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_of_any_kind_is_a_name(tmp_path: Path, name: str) -> None:
    """An input may have any name: it neither ends a string of the program nor is lost in a file."""
    serve = imported(tmp_path, name)
    array = np.zeros((1, 2), dtype=np.float32)
    write_arrays(tmp_path / "in.npz", {name: array})
    serve.write(tmp_path / "out.npz", serve.Model()(serve.read(tmp_path / "in.npz")))
    assert list(serve.read(tmp_path / "out.npz")) == [name]
    assert "toy" in (ast.get_docstring(ast.parse((tmp_path / "serve.py").read_text(encoding="utf-8"))) or "")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "expected the inputs left, right, not none"),
        ({"left": np.zeros((1, 2), np.float32)}, "expected the inputs left, right, not left"),
        ({"left": np.zeros((1, 2)), "right": np.zeros((1, 2))}, "'left' is float64"),
        ({"left": np.zeros((1, 3), np.float32), "right": np.zeros(1)}, r"expected float32 \[batch, 2\]"),
        ({"left": np.zeros((0, 2), np.float32), "right": np.zeros(1)}, "'left' is float32"),
        ({"left": np.zeros((1, 2), np.float32), "right": np.zeros((2, 2), np.float32)}, "different numbers"),
    ],
)
def test_other_inputs_are_refused_in_a_line(tmp_path: Path, inputs: dict[str, Any], words: str) -> None:
    """Another name, type or shape is an error that says what is expected."""
    model = imported(tmp_path, "left", "right").Model()
    with pytest.raises(ValueError, match=words):
        model(inputs)


def test_a_file_that_was_changed_is_not_loaded(tmp_path: Path) -> None:
    """A file other than the one that was shipped never reaches the runtime, which may run what is in it."""
    serve = imported(tmp_path, "left")
    (tmp_path / "weights.txt").write_text("wEights")
    with pytest.raises(ValueError, match="is not the file that was made with this program"):
        serve.Model()


def test_what_is_pickled_is_not_read(tmp_path: Path) -> None:
    """A file of inputs that would run code when it is read is refused."""
    serve = imported(tmp_path, "left")
    np.savez(tmp_path / "in.npz", left=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        serve.read(tmp_path / "in.npz")
    np.save(tmp_path / "in.npy", np.zeros(2))
    with pytest.raises(ValueError, match="holds one array"):
        serve.read(tmp_path / "in.npy")


def test_a_source_that_is_no_python_is_refused() -> None:
    """Serving code that does not compile, or has details that are no JSON, gives no program."""
    with pytest.raises(SyntaxError):
        serve_program(ServingCode(source="def load(:"), {}, [], "it")
    with pytest.raises(ValueError, match="not JSON compliant"):
        serve_program(ServingCode(source="", details={"scale": float("nan")}), {}, [], "it")


def test_files_of_an_artifact_may_have_qx_s_own_names() -> None:
    """Files that qx would write over are found, whatever their case."""
    assert taken_names(["model.onnx", "a/serve.py"]) == ()
    assert taken_names(["README.MD", "serve.py/x", "model.bin"]) == ("serve.py", "README.md")


def entry(record: Any, **fields: Any) -> Entry:
    reference = Reference(
        name=record.name, module=f"acme.{record.name}", distribution="acme", version="1.0", **fields
    )
    return Entry(
        name=record.name,
        kind=record.kind,
        state="ready",
        reason="",
        record=record,
        reference=reference,
        distribution="acme",
        version="1.0",
    )


def package(shipped: ShipAnswer, **fields: Any) -> Package:
    digest = FileDigest(size=1234, sha256="0" * 64)
    values: dict[str, Any] = {
        "manifest": Manifest(
            loader="toy_loader",
            files={"model.bin": digest},
            notes=("a | note",),
            origin={"config": {"options": {"bits": 8}}, "seed": 1, "engine": None},
        ),
        "config": entry(Config(name="half", summary="Half of <b>it</b>.")),
        "workload": entry(Workload(name="toy", summary="A toy.")),
        "loader": entry(Loader(name="toy_loader", summary="A loader.")),
        "preprocessing": "pixels / 255, (batch, channels)",
        "shipped": shipped,
        "version": "0.1.0",
    }
    return Package(**values | fields)


ARRAYS = {
    "inputs": (Arrangement(name="a|b", dtype="int64", shape=(3, 4)),),
    "outputs": (Arrangement(name="output", dtype="float32", shape=(10,)),),
}


def test_the_readme_says_what_it_takes() -> None:
    """The README has packages with versions, inputs, outputs, preprocessing, threads, files and options."""
    shipped = ShipAnswer(
        **ARRAYS, files=("model.bin", "more.pt2"), requires=("numpy==2.0", "acme==1.5"), notes=("Beware.",)
    )
    text = package(shipped).text()
    for words in (
        "# half of toy",
        "pip install 'numpy==2.0' 'acme==1.5'",
        "| input `a\\|b` | int64 | [batch, 3, 4] |",
        "| output `output` | float32 | [batch, 10] |",
        "Preprocessing: pixels / 255",
        "Threads: ",
        "Beware.",
        "`more.pt2` | the same model as a program",
        'options `{"bits": 8}`, seed 1',
        "a \\| note",
    ):
        assert words in text
    assert "<b>" not in text.replace("\\<b\\>", "").replace("&lt;b&gt;", "").replace("`<b>it</b>`", "")
    assert "quant-explorer" not in text
    assert "does not say how" in package(shipped, preprocessing="").text()


def test_without_serving_code_the_readme_says_how_qx_serves_it() -> None:
    """Where only qx serves an artifact, the README says why, and has a program that is Python."""
    refused = ShipAnswer(**ARRAYS, refusal="its loader does not say")
    text = package(refused).text()
    assert "It is served by qx alone: its loader does not say." in text
    assert "pip install quant-explorer" not in text
    program = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    compile(program, "README.md", "exec")
    assert "from acme.toy_loader import load" in program
    rebuilding = entry(Loader(name="toy_loader", summary="A loader.", rebuilds=True))
    assert "`qx quantize -c half --workload toy`" in package(refused, loader=rebuilding).text()
    file = entry(Loader(name="toy_loader", summary="A loader."), path="/home/me/loader.py")
    assert "/home/me" not in package(refused, loader=file).text()
