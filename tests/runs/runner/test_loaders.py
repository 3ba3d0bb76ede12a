"""Loaders of somebody's own: how they get a module to put their weights into, and which errors they get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.errors import PluginError
from qx.host.host import Host
from qx.processes.jobs import StoredArtifact
from qx.testing.jobs import ServeJob
from qx.worker import serving

#: Weights in 4 bits by groups that share a scale, two to a byte, in a file of the config's own.
GROUPS = """
    from qx import Artifact, Config, Option, hookimpl

    QX_CONTRACT = "2.0"

    @hookimpl
    def describe():
        group = Option(name="group", default=32, choices=(16, 32), help="Weights that share a scale.")
        return Config(name="{name}", summary="Weights in 4 bits, two to a byte.", options=[group])

    @hookimpl
    def convert(model, context):
        import numpy
        arrays, shapes, group = {{}}, {{}}, context.options["group"]
        for name, tensor in model.state_dict().items():
            values = tensor.numpy()
            if values.ndim >= 2 and values.size % group == 0:
                rows = values.reshape(-1, group)
                scales = numpy.maximum(abs(rows).max(axis=1, keepdims=True), 1e-9) / 7
                codes = (numpy.round(rows / scales) + 8).astype(numpy.uint8).ravel()
                arrays[name + ":scales"], shapes[name] = scales, list(values.shape)
                values = codes[::2] | codes[1::2] << 4
            arrays[name + ":values"] = values
        numpy.savez(context.folder / "weights.npz", **arrays)
        details = {{"group": group, "shapes": shapes}}
        return Artifact(
            folder=context.folder, files=["weights.npz"], loader="{name}_loader", details=details
        )
"""
UNPACKS = """
    from qx import OUTPUT, Loader, hookimpl

    QX_CONTRACT = "2.0"

    @hookimpl
    def describe():
        return Loader(name="{name}_loader", summary="Unpacks 4 bits.", imports=["numpy", "torch"])

    @hookimpl
    def load(artifact, context):
        import numpy, torch
        torch.set_num_threads(context.threads)
        model = context.{function}()
        state, shapes, group = {{}}, artifact.details["shapes"], artifact.details["group"]
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            for key in arrays.files:
                name, _, kind = key.rpartition(":")
                if kind == "values":
                    values = arrays[key]
                    if name in shapes:
                        codes = numpy.stack([values & 15, values >> 4], axis=1).astype("float32") - 8
                        rows = codes.reshape(-1, group) * arrays[name + ":scales"]
                        values = rows.reshape(shapes[name])
                    state[name] = torch.from_numpy(values)
        model.load_state_dict(state)
        return Subject(model)

    class Subject:
        def __init__(self, model):
            self.model = model

        def prepare(self, arrays):
            import torch
            return [torch.from_numpy(array) for array in arrays.values()]

        def call(self, native):
            import torch
            with torch.inference_mode():
                return self.model(*native)

        def outputs(self, native):
            return {{OUTPUT: native.numpy()}}
"""


@pytest.fixture(scope="module")
def run(
    qx: Callable[..., Any],
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Run two configs that write files: the loader of one takes the plain model, the other's rebuilds."""
    files = []
    for name, function in (("plain", "make_model"), ("again", "rebuild")):
        files.append(write_plugin(name, GROUPS.format(name=name)))
        files.append(write_plugin(f"{name}_loader", UNPACKS.format(name=name, function=function)))
    return qx(
        *("run", "--workload", "digits_cnn", *(word for file in files for word in ("-p", file))),
        *("-c", "plain", "-c", "again", "-m", "accuracy", "-m", "file_size", "--out", "out"),
        cwd=tmp_path_factory.mktemp("loaders"),
    )


def test_a_loader_puts_its_weights_into_the_plain_model(run: Any) -> None:
    """In 4 bits a model still tells the digits apart, one that has its weights from the file alone."""
    assert run.cell("plain")["outcome"] == "ok", run.cell("plain")["cause"]
    assert run.measurement("plain", "accuracy")["value"] > 0.9
    assert run.measurement("plain", "file_size")["vs_baseline"]["value"] < 0.2


def test_rebuilding_what_is_a_file_says_what_to_do(run: Any) -> None:
    """The cause names the hook, the missing folder, the two plugins, and the other way."""
    cell = run.cell("again")
    assert (cell["outcome"], cell["stage"]) == ("failed", "load")
    assert cell["cause"] == (
        "convert of again, which context.rebuild() calls again with a context.folder of None, raised "
        "TypeError: unsupported operand type(s) for /: 'NoneType' and 'str'. rebuild() is for configs whose "
        "convert returns a module, and again wrote files: have loader again_loader take the workload's plain "
        "fp32 model from context.make_model()"
    )


def test_an_artifact_is_no_module(write_plugin: Callable[[str, str], str], tmp_path: Path) -> None:
    """A ``convert`` that does not fail without a folder, and gives no module, is named as well."""
    source = GROUPS.replace('context.folder / "weights.npz"', f'"{tmp_path}/weights.npz"')
    files = [
        write_plugin("calm", source.format(name="calm")),
        write_plugin("calm_loader", UNPACKS.format(name="calm", function="rebuild")),
    ]
    host = Host.discover(files)
    stored = StoredArtifact(
        folder=str(tmp_path),
        files=("weights.npz",),
        loader=host.get("loader", "calm_loader").reference,
        config=host.get("config", "calm").reference,
        workload=host.get("workload", "digits_cnn").reference,
    )
    job = ServeJob(artifact=stored, inputs="", batch_sizes=(1,), outputs="")
    with pytest.raises(PluginError, match=r"^convert of calm, .* gave Artifact, expected a module\. rebuild"):
        serving.load(job, serving.host_of_artifact(job))
