"""``qx quantize --to``: what it leaves serves the artifact where there is no qx."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx.shipping.npz import write_arrays

Qx = Callable[..., Any]

LOADER = """
    from qx import Loader, ServingCode, hookimpl

    @hookimpl
    def describe():
        return Loader(name="{name}", summary="A matrix product in numpy.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            return Subject(arrays["weight"], arrays["bias"])

    class Subject:
        def __init__(self, weight, bias):
            self.weight, self.bias = weight, bias

        def prepare(self, arrays):
            return arrays["point"]

        def call(self, native):
            return native @ self.weight.T + self.bias

        def outputs(self, native):
            return {{"output": native}}

    @hookimpl
    def serving_code(artifact, context):
        def load(files, details, threads):
            return read(files[0])

        def run(model, inputs):
            {run}

        assert sorted(path.name for path in artifact.folder.iterdir()) == {found}
        (context.folder / "left").write_text("for nothing")
        {first}
        return ServingCode.from_functions(load, run, requires=["attrs"], details={details})
"""
RUN = 'return {"output": inputs["point"] @ model["weight"].T + model["bias"]}'


def loader(name: str, **parts: str) -> str:
    """Return the source of a loader with serving code; ``parts`` are what is wrong with it."""
    found = '["example_inputs.npz", "example_outputs.npz", "manifest.json", "model.npz"]'
    values = {"run": RUN, "found": found, "first": "pass", "details": "{}"} | parts
    return LOADER.format(name=name, **values)


def test_serve_py_serves_without_qx(
    qx: Qx, toy: Any, write_plugin: Any, without_qx: Any, tmp_path: Path
) -> None:
    """``serve.py`` gives the loaded artifact's outputs bit for bit where qx cannot be imported."""
    plugins = (
        write_plugin("served", loader("served")),
        toy.config("shipped", loader="served"),
    )
    place = tmp_path / "ünder a roof"
    done = qx("quantize", "-c", "shipped", *toy.arguments(*plugins), "--to", place)
    assert done.code == 0, done.err
    names = [
        "README.md",
        "example_inputs.npz",
        "example_outputs.npz",
        "manifest.json",
        "model.npz",
        "serve.py",
    ]
    assert sorted(path.name for path in place.iterdir()) == names
    checked = without_qx(place / "serve.py", "--check")
    assert (checked.returncode, checked.stdout) == (0, "output: the recorded values, bit for bit\n"), checked
    points = np.random.default_rng(0).standard_normal((7, 4), dtype=np.float32)
    write_arrays(tmp_path / "in.npz", {"point": points})
    served = without_qx(place / "serve.py", tmp_path / "in.npz", tmp_path / "out.npz", "--threads", "2")
    assert served.returncode == 0, served.stderr
    with np.load(place / "model.npz") as arrays:
        expected = points @ arrays["weight"].T + arrays["bias"]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["output"], expected)
    text = (place / "README.md").read_text(encoding="utf-8")
    assert "| input `point` | float32 | [batch, 4] |" in text
    assert f"'numpy=={np.__version__}' 'attrs==" in text
    write_arrays(tmp_path / "in.npz", {"point": points.astype(float)})
    for words, message in (
        (
            [tmp_path / "in.npz", tmp_path / "out"],
            "serve.py: input 'point' is float64 [7, 4], expected float32",
        ),
        ([tmp_path / "no.npz", tmp_path / "out"], "serve.py: [Errno 2] No such file"),
        ([place / "serve.py", tmp_path / "out"], "serve.py: "),
        (["--check", "--threads", "0"], "--threads must be at least 1"),
        (["in.npz"], "give INPUTS.npz and OUTPUTS.npz, or --check"),
    ):
        wrong = without_qx(place / "serve.py", *words)
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert "Traceback" not in wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"first": "raise Unsupported('not this one')"}, "NameError"),
        ({"first": "import qx; raise qx.Unsupported('not this one')"}, "not this one"),
        ({"first": "return None"}, "its loader has no serving code for this artifact"),
        ({"first": "return 'source'"}, "serving_code gave a str, not qx.ServingCode"),
        ({"first": "import os; os._exit(9)"}, "crashed in serving_code"),
        ({"run": "import qx"}, "No module named 'qx'"),
        ({"run": RUN.replace("@", "* 1.0001 @")}, "does not give the outputs of the loaded artifact"),
        ({"run": RUN.replace('["bias"]', '["bias"].astype(float)')}, "float64"),
        ({"run": "raise SystemExit('\\x1b[31mred')"}, "cannot serve the artifact"),
        ({"details": "{'scale': float('inf')}"}, "not JSON compliant"),
    ],
)
def test_why_there_is_no_serve_py_is_said(
    qx: Qx, toy: Any, write_plugin: Any, tmp_path: Path, parts: dict[str, str], reason: str
) -> None:
    """Whatever serving code does, the artifact is delivered; a line and the README say why."""
    plugins = (write_plugin("wrong", loader("wrong", **parts)), toy.config("shipped", loader="wrong"))
    done = qx("quantize", "-c", "shipped", *toy.arguments(*plugins), "--to", "it")
    assert done.code == 0, done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("qx: no serve.py"))
    assert reason in line
    assert line.isprintable()
    left = {path.name for path in Path("it").iterdir()}
    assert {"README.md", "manifest.json", "model.npz"} <= left
    assert not left & {"serve.py", "left"}
    assert "It is served by qx alone" in Path("it", "README.md").read_text(encoding="utf-8")


def test_the_artifact_s_own_files_are_left_alone(qx: Qx, toy: Any, write_plugin: Any) -> None:
    """An artifact that has a file ``serve.py`` keeps it, and a line says that qx wrote none."""
    source = """
        from qx import Artifact, Config, hookimpl

        @hookimpl
        def describe():
            return Config(name="owner", summary="It has names of its own.")

        @hookimpl
        def convert(context):
            (context.folder / "serve.py").write_text("mine")
            return Artifact(folder=context.folder, files=["serve.py"], loader="toy_numpy")
    """
    done = qx("quantize", "-c", "owner", *toy.arguments(write_plugin("owner", source)), "--to", "it")
    assert done.code == 0, done.err
    assert "files with the names of qx's own: serve.py" in done.err
    assert sorted(os.listdir("it")) == ["manifest.json", "serve.py"]
    assert Path("it/serve.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "program"),
    [
        pytest.param("fp32_baseline", "serve_model.pt2", marks=pytest.mark.slow),
        pytest.param("bf16", "serve_model.pt2", marks=pytest.mark.slow),
        pytest.param("dynamic_int8", "serve_model.ts", marks=pytest.mark.slow),
        pytest.param("static_int8_per_tensor", "serve_model.ts", marks=pytest.mark.slow),
        pytest.param("static_int8_per_channel", "serve_model.ts", marks=pytest.mark.slow),
        pytest.param("static_int8_histogram", "serve_model.ts", marks=pytest.mark.slow),
        pytest.param("fx_static_int8", "serve_model.ts", marks=pytest.mark.slow),
    ],
)
def test_a_module_is_served_by_torch_alone(
    qx: Qx, without_qx: Any, tmp_path: Path, config: str, program: str
) -> None:
    """``serve.py`` of a module gives the outputs of the probe that its build recorded, bit for bit."""
    arguments = ("quantize", "-c", config, "--workload", "digits_cnn")
    done = qx(*arguments, "--to", "it")
    assert done.code == 0, done.err
    assert "no serve.py" not in done.err
    assert Path("it", program).is_file()
    probe = Path(qx(*arguments).out.strip()).parent / "probe.npz"
    with np.load(probe) as arrays:
        write_arrays(tmp_path / "in.npz", {"image": arrays["input_0"]})
        expected = arrays["output_0"]
    served = without_qx("it/serve.py", tmp_path / "in.npz", tmp_path / "out.npz")
    assert served.returncode == 0, served.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["output"], expected)
