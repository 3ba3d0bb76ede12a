"""What a config gets in a build and in a launch: batches with labels, the fp32 model, other recipes."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from qx import Converted, LayerRow
from qx.contract.references import reference_of
from qx.host.host import Host

#: A config that ships a module, and prints into its file what it got.
BESIDE = """
    import json, pathlib
    from qx import Config, hookimpl

    RECEIVED = pathlib.Path(__file__).with_suffix(".json")

    @hookimpl
    def describe():
        return Config(name="beside", summary="Takes what the weights lose out of the bias.", calibration=True)

    @hookimpl
    def prepare_model(model):
        model.weight.data = (model.weight * 1.3).round()
        return model

    @hookimpl
    def calibrate(model, batches, float_model):
        import numpy, torch
        points = numpy.concatenate([batch.inputs["point"] for batch in batches])
        labels = numpy.concatenate([batch.targets["labels"] for batch in batches])
        with torch.no_grad():
            rounded, exact = (each(torch.from_numpy(points)) for each in (model, float_model))
            model.bias -= (rounded - exact).mean(dim=0)
        model.received = {
            "points": points.tolist(), "labels": labels.tolist(), "float_model": id(float_model),
            "weight": float_model.weight.tolist(), "training": float_model.training,
        }
        return model

    @hookimpl
    def convert(model, float_model):
        if hasattr(model, "received"):  # in the build
            model.received["again"] = id(float_model) == model.received["float_model"]
            RECEIVED.write_text(json.dumps(model.received))
            del model.received
        float_model.weight.data.zero_()  # a copy of its own, with which it may do as it likes
        return model
"""

#: A config that gives a module with a table by layer, and one that gives files with one.
TABLED = """
    from qx import Converted, Config, LayerRow, hookimpl

    @hookimpl
    def describe():
        return Config(name="tabled", summary="Halves, with a table.")

    @hookimpl
    def convert(model):
        import numpy
        rounded = model.weight.detach().half().float()
        error = (rounded - model.weight).norm() / model.weight.norm()
        model.weight.data = rounded
        rows = [LayerRow(name="weight", bits=numpy.int64(16), error=error), LayerRow(name="bias", bits=32)]
        return Converted(module=model, notes=["halves"], layers=rows)
"""
FILED = """layers=[LayerRow(name="weight", bits=4.5, error=0.25)], files=["model.npz"]"""
#: A config whose layer packs two numbers of 4 bits into a byte.
PACKED = """
    import attrs
    from qx import Config, StoredWeight, hookimpl

    @hookimpl
    def describe():
        return Config(name="packed", summary="4 bits, two in a byte.")

    @hookimpl
    def convert(model):
        import torch

        class Packed(torch.nn.Module):
            def __init__(self, layer):
                super().__init__()
                numbers = (layer.weight.detach() * 7).round().clamp(-8, 7).to(torch.int8) + 8
                pairs = numbers.flatten().view(-1, 2).to(torch.uint8)
                self.register_buffer("pairs", (pairs[:, :1] * 16 + pairs[:, 1:]))
                self.register_buffer("bias", layer.bias.detach().clone())

            def forward(self, points):
                numbers = torch.cat([self.pairs // 16, self.pairs % 16], dim=1).float() - 8
                return torch.nn.functional.linear(points, numbers.view(3, 4) / 7, self.bias)

        return Packed(model)

    @hookimpl
    def read_weights(artifact, context):
        weights = artifact.read_weights()
        assert {name: weight.elements for name, weight in weights.layers.items()} == {"pairs": 6}
        return attrs.evolve(weights, layers={"weight": StoredWeight(elements=12, bits=4, type="int4")})
"""
#: A config that packs what another one corrects: a module, which launches make anew by both.
COMPOSED = """
    from qx import Config, StoredWeight, Unsupported, Weights, hookimpl

    @hookimpl
    def describe():
        return Config(name="composed", summary="Doubles, then packs.", recipes=["packed", "tabled"])

    @hookimpl
    def check_model(model, context):
        context.recipe("tabled").check_model(model, ())  # has no such hook
        if "{name}" != "composed":
            raise Unsupported("not today")

    @hookimpl
    def convert(model, example_inputs, context):
        model = context.recipe("tabled").convert(model, example_inputs).module
        return context.recipe("packed").convert(model, example_inputs)

    @hookimpl
    def read_weights(artifact, context):
        return context.recipe("packed").read_weights(artifact)
"""
#: A metric that takes the largest error of the table.
LARGEST = """
    from qx import Metric, Unsupported, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="largest", summary="Largest error of a layer.", unit="fraction", better="lower",
            samples="exact", compare="difference", phase="artifact",
        )

    @hookimpl
    def measure(data):
        errors = [row.error for row in data.layers if row.error is not None]
        return max(errors) if errors else None
"""


@pytest.fixture(scope="module")
def beside(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A run of the toy with these plugins, and what the config ``beside`` got."""
    home, path = tmp_path_factory.mktemp("beside"), write_plugin("beside", BESIDE)
    filed = Path(toy.config("filed")).read_text().replace('files=["model.npz"]', FILED)
    plugins = [
        *(path, write_plugin("tabled", TABLED), write_plugin("largest", LARGEST)),
        write_plugin("filed", filed.replace("import Artifact", "import Artifact, LayerRow")),
    ]
    plugins.append(write_plugin("packed", PACKED))
    silent = PACKED.replace("def read_weights", "def not_read_weights").replace("packed", "silent")
    plugins.append(write_plugin("silent", silent.replace("@hookimpl\n    def not_read", "def not_read")))
    plugins += [write_plugin(name, COMPOSED.format(name=name)) for name in ("composed",)]
    refusing = COMPOSED.replace('name="composed"', 'name="refusing"').format(name="refusing")
    plugins.append(write_plugin("refusing", refusing))
    names = ("accuracy", "largest", "quantized_share")
    metrics = [word for name in names for word in ("-m", name)]
    run = qx(
        *("run", *toy.arguments(*plugins), *metrics, "--calibration-n", 40),
        *("--out", home / "out"),
    )
    return run, json.loads(Path(path).with_suffix(".json").read_text())


def test_calibration_batches_have_the_labels_of_their_items(beside: Any, toy: Any) -> None:
    """A config that calibrates gets the labels of the calibration items, and no more items than these."""
    _, received = beside
    train = runpy.run_path(toy.plugins[0])["load_data"]("train")
    labels = {
        tuple(point.tolist()): label
        for point, label in zip(train.inputs["point"], train.targets["labels"], strict=True)
    }
    assert len(received["points"]) == 40 < len(labels)
    assert [labels[tuple(np.float32(point).tolist())] for point in received["points"]] == received["labels"]
    assert sorted(np.bincount(received["labels"])) == [13, 13, 14]


def test_the_fp32_model_stands_beside_the_prepared_one(beside: Any) -> None:
    """``float_model`` has the weights that ``prepare_model`` was given, is in eval mode, and is made once."""
    run, received = beside
    assert received["weight"] == np.eye(3, 4).tolist()
    assert (received["training"], received["again"]) == (False, True)
    assert run.cell("beside")["outcome"] == "ok", run.cell("beside")["cause"]


def test_a_module_that_is_made_anew_has_the_fp32_model_too(beside: Any) -> None:
    """A process that rebuilds the module gives ``convert`` the argument, and answers as the build did."""
    run, _ = beside
    # The evaluation holds it to the probe of the build.
    assert run.measurement("beside", "accuracy")["outcome"] == "ok"


def test_the_fp32_model_is_made_only_where_a_hook_takes_it(write_plugin: Callable[[str, str], str]) -> None:
    """A hook takes an argument where it, or a plugin that wraps it, names it."""
    source = dedent(BESIDE).replace("def convert(model, float_model)", "def convert(model)")
    quiet = Host.of([reference_of(write_plugin("beside", source))])
    assert quiet.takes("beside", "calibrate", "float_model")
    assert not quiet.takes("beside", "convert", "float_model")
    around = (
        "from qx import hookimpl\n@hookimpl(wrapper=True)\ndef convert(float_model):\n    return (yield)\n"
    )
    wrapped = Host.of(
        [reference_of(write_plugin(name, text)) for name, text in (("beside", source), ("around", around))]
    )
    assert wrapped.takes("beside", "convert", "float_model")


def test_notes_and_a_table_by_layer_are_kept_in_the_results(beside: Any) -> None:
    """A module in a ``Converted``, and an ``Artifact``, have a row for each layer, and the table is shown."""
    run, _ = beside
    tabled, filed = run.cell("tabled"), run.cell("filed")
    assert (tabled["outcome"], tabled["notes"]) == ("ok", ["halves"])
    rows = [{"name": "weight", "bits": 16, "error": 0.0}, {"name": "bias", "bits": 32, "error": None}]
    assert tabled["layers"] == rows
    assert filed["layers"] == [{"name": "weight", "bits": 4.5, "error": 0.25}]
    assert run.cell("beside")["layers"] == []
    assert "- `tabled`: halves" in run.table
    line = "- `filed`: 1 layer, 1 in 4.5 bits. Largest relative errors: `weight` 25.0 % (4.5 bits)."
    assert line in run.table


def test_a_metric_of_artifacts_finds_the_table(beside: Any) -> None:
    """``data.layers`` has the rows of the config, and none where it gives none."""
    run, _ = beside
    values = {name: run.measurement(name, "largest")["value"] for name in ("tabled", "filed", "beside")}
    assert values == {"tabled": 0.0, "filed": 0.25, "beside": None}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "fc", "bits": -1}, "'bits' must be finite and at least 0, not -1.0"),
        ({"name": "fc", "error": float("nan")}, "'error' must be finite and at least 0, not nan"),
        ({"name": "fc", "error": float("inf")}, "'error' must be finite and at least 0, not inf"),
        ({"name": 3}, "'name' must be"),
    ],
)
def test_a_row_that_no_layer_can_have_is_refused(fields: dict[str, Any], message: str) -> None:
    """Names are texts, bits and errors are finite and at least 0."""
    with pytest.raises((ValueError, TypeError), match=message):
        LayerRow(**fields)


def test_a_table_longer_than_any_model_is_refused() -> None:
    """A table by layer has 10,000 rows at most."""
    rows = [LayerRow(name="fc")] * 10_001
    with pytest.raises(ValueError, match="10,000 rows at most, not 10,001"):
        Converted(module=object(), layers=rows)  # type: ignore[arg-type]


def test_a_config_says_what_its_own_layers_store(beside: Any) -> None:
    """The answer of a config goes before the loader's, which it may take a part of."""
    run, _ = beside
    packed, silent = (run.measurement(name, "quantized_share") for name in ("packed", "silent"))
    assert run.cell("packed")["outcome"] == "ok", run.cell("packed")["cause"]
    assert packed["value"] == 1
    assert packed["details"]["layers"] == {"weight": {"elements": 12, "bits": 4, "type": "int4"}}
    assert packed["details"]["elements_missing"] == 0
    # What the loader alone reads: six bytes, and so half of the model's twelve elements.
    assert (silent["value"], silent["details"]["elements_missing"]) == (0.5, 6)


def test_a_config_may_be_composed_of_others(beside: Any) -> None:
    """What two configs do one after the other is built, made anew to be served, and read by the second."""
    run, _ = beside
    composed = run.cell("composed")
    assert composed["outcome"] == "ok", composed["cause"]
    weights = run.measurement("composed", "quantized_share")
    assert weights["value"] == 1 and weights["details"]["elements_missing"] == 0
    accuracies = [run.measurement(name, "accuracy")["value"] for name in ("composed", "packed")]
    assert accuracies[0] == accuracies[1]


def test_a_composed_config_can_refuse_a_model_before_it_is_built(beside: Any) -> None:
    """Recipes can be called in ``check_model``, too."""
    run, _ = beside
    refused = run.cell("refusing")
    assert (refused["outcome"], refused["stage"], refused["cause"]) == (
        "unsupported", "check_model", "not today",
    )  # fmt: skip
