"""Deliberately wrong plugins, each with the check that is meant for it."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from qx.host.host import Host
from qx.testing.checking import Checking, open_bench
from qx.testing.pytest_adapter import find_entry

CONFIG = """
from qx import Config, Option, hookimpl
from qx.testing import Conformance
{top}

@hookimpl
def describe():
    return Config(name="{name}", summary="Weights in bfloat16."{record})
{more}

@hookimpl
def convert(model, {arguments}context):
    import os, torch
{body}
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return {result}
"""

OPTION = 'options=[Option(name="bits", default=8, help="Bits.")]'
REFUSAL = 'if context.options["bits"] < 1: raise ValueError("cannot do that")'

#: An option with two numbers of bits: its name, the default, and the other one.
WIDTH = ', options=[Option(name="{0}", default={1}, choices=({1}, {2}), help="Bits.")]'

LINEAR_LAYERS = """
@hookimpl
def quantized_layers():
    return ["hidden", "classifier"]
"""

#: For each name, the check that catches it, and the lines that are wrong by their field of the template.
CONFIGS: dict[str, tuple[str, dict[str, str]]] = {
    "no_line": ("valid_record", {"record": ', options=[Option(name="a", default=1, help=" ")]'}),
    "dynamic_int8": ("unique_name", {}),
    "heavy": ("describes_itself_lightly", {"top": "import numpy"}),
    "talks": ("describes_itself_lightly", {"top": "print('hello')"}),
    "raises": ("builds", {"body": "raise ValueError('no such layer')"}),
    "claims_a_device": (
        "serves_on_its_devices",
        {
            "top": """
            from qx import Artifact

            def save(model, folder):
                import torch
                torch.save(model.state_dict(), folder / "weights.pt")
                return Artifact(folder=folder, files=["weights.pt"], loader="claims_a_device_loader")
            """,
            "record": ', devices=["cpu", "cuda"]',
            "result": "save(model, context.folder)",
        },
    ),
    "patches_the_class": (
        "leaves_fp32_model",
        {
            "body": """
            former = type(model).forward
            type(model).forward = lambda self, images: former(self, images) * 1.1
            """
        },
    ),
    "treats_at_once": (
        "leaves_shared_model",
        {
            "more": """
            @hookimpl
            def check_model(model):
                model.classifier.weight.data.zero_()
            """,
        },
    ),
    "asks_in_training_mode": (
        "leaves_shared_model",
        {
            "record": ", quantizable=True",
            "more": """
            @hookimpl
            def check_model(model):
                model.train()
            """,
        },
    ),
    "sets_torch": ("leaves_process_state", {"body": "torch.set_grad_enabled(False)"}),
    "spoils_batches": (
        "leaves_inputs",
        {
            "record": ", calibration=True",
            "more": """
            @hookimpl
            def calibrate(model, batches):
                for batch in batches:
                    batch.inputs["image"] += 1
                return model
            """,
        },
    ),
    "spoils_targets": (
        "leaves_inputs",
        {
            "record": ", calibration=True",
            "more": """
            @hookimpl
            def calibrate(model, batches):
                for batch in batches:
                    batch.targets["labels"][:] = 0
                return model
            """,
        },
    ),
    "litters": ("writes_only_into_its_folder", {"body": "open('left.txt', 'w').close()"}),
    "keeps_it_to_itself": (
        "loads_in_fresh_process",
        {
            "record": ", calibration=True",
            "more": """
            @hookimpl
            def calibrate(model, batches):
                model.shift = float(batches[0].inputs["image"].max())
                return model
            """,
            "body": """
            shift = getattr(model, "shift", 0.0)
            model.register_forward_hook(lambda module, inputs, outputs: outputs + shift)
            """,
        },
    ),
    "ships_the_fp32_model": (
        "changes_something",
        {"arguments": "float_model, ", "body": "return float_model"},
    ),
    "gives_halves": (
        "keeps_shape_and_type",
        {"body": "model.register_forward_hook(lambda module, inputs, outputs: outputs.half())"},
    ),
    "rolls_dice": (
        "deterministic",
        {"body": "model.classifier.bias.data += int.from_bytes(os.urandom(3), 'big') / 2**20"},
    ),
    "names_no_layer": (
        "names_layers_of_the_model",
        {
            "top": "from qx import Converted, LayerRow",
            "result": "Converted(module=model, layers=[LayerRow(name='features.99', bits=16)])",
        },
    ),
    "counts_too_few": (
        "reads_its_weights",
        {
            "more": """
            @hookimpl
            def read_weights():
                from qx import StoredWeight, Weights
                return Weights(layers={"classifier": StoredWeight(elements=10, bits=16, type="bfloat16")})
            """,
        },
    ),
    "quantizes_what_is_named": (
        "leaves_layers_in_float",
        {
            "top": "import qx",
            "record": ", float_layers=True",
            "more": LINEAR_LAYERS,
            "body": """
            qx.float_layers(model, context)
            torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, inplace=True)
            """,
        },
    ),
    "leaves_all_in_float": (
        "leaves_layers_in_float",
        {
            "top": "import qx",
            "record": ", float_layers=True",
            "more": LINEAR_LAYERS,
            "body": """
            if not qx.float_layers(model, context):
                torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, inplace=True)
            """,
        },
    ),
    "ignores_weight_bits": ("takes_weight_bits", {"record": WIDTH.format("weight_bits", 8, 4)}),
    "narrows_another_layer": (
        "takes_weight_bits",
        {
            "record": WIDTH.format("weight_bits", 8, 4),
            "body": """
            layers = {"hidden"} if context.options["weight_bits"] == 8 else {"hidden", "classifier"}
            torch.ao.quantization.quantize_dynamic(model, layers, inplace=True)
            """,
        },
    ),
    "ignores_activation_bits": ("takes_activation_bits", {"record": WIDTH.format("activation_bits", 8, 16)}),
    "widens_weights": (
        "takes_activation_bits",
        {
            "record": WIDTH.format("activation_bits", 8, 16),
            "body": """
            if context.options["activation_bits"] == 8:
                torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, inplace=True)
            """,
        },
    ),
    "rounds_to_fewer": (
        "takes_activation_bits",
        {
            "record": WIDTH.format("activation_bits", 8, 16),
            "body": """
            step = 0.1 * context.options["activation_bits"]
            model.register_forward_hook(lambda module, inputs, outputs: (outputs / step).round() * step)
            """,
        },
    ),
    "does_nothing": ("changes_something", {"body": "return model"}),
    "claims_to_keep": ("keeps_outputs", {"record": ", keeps_outputs=True"}),
    "borrows": ("needs_what_it_says", {"body": "import pytest"}),
    "asks_too_much": ("needs_what_it_says", {"record": ', requires=["tabulate"]'}),
    "mumbles": ("refuses_bad_options", {"record": f", {OPTION}", "body": REFUSAL}),
    "takes_anything": (
        "refuses_bad_options",
        {"record": f", {OPTION}", "top": 'conformance = Conformance(bad_options={"bits": [99]})'},
    ),
}

METRIC = """
from qx import Metric, Option, hookimpl
from qx.testing import Conformance
{top}

@hookimpl
def describe():
    return Metric(
        name="{name}", summary="The highest output.", unit="logits", better="{better}", samples="{samples}",
        compare="difference", phase="{phase}"{record},
    )

@hookimpl
def {hook}:
    import os
{body}
    return data.outputs['output'].max(axis=1)
"""

METRICS: dict[str, tuple[str, dict[str, str]]] = {
    "no_number": (
        "gives_finite_samples",
        {"body": "return data.outputs['output'].max(axis=1) * float('nan')"},
    ),
    "too_few": ("gives_finite_samples", {"body": "return data.outputs['output'].max(axis=1)[1:]"}),
    "ignores_indices": (
        "gives_finite_samples",
        {
            "samples": "per_set",
            "hook": "statistic(outputs, targets, indices)",
            "body": """
            right = outputs["output"].argmax(axis=1) == targets["labels"]
            return right[: len(right) // 2].mean()
            """,
        },
    ),
    "transposes": (
        "combines_over_the_last_axis",
        {
            "samples": "per_set",
            "top": """
            @hookimpl
            def combine(statistics):
                return statistics.T[0]
            """,
            "body": "return data.outputs['output']",
        },
    ),
    "spoils": (
        "leaves_inputs",
        {
            "body": """
            highest = data.outputs["output"].max(axis=1)
            data.outputs["output"][:] = 0
            return highest
            """
        },
    ),
    "drops": ("writes_nothing", {"body": "open('left.txt', 'w').close()"}),
    "never_alike": (
        "equal_again",
        {"body": "return data.outputs['output'].max(axis=1) + int.from_bytes(os.urandom(6), 'big') / 7"},
    ),
    "counts": (
        "equal_again",
        {
            "phase": "block",
            "samples": "per_block",
            "body": """
            with open(__file__ + ".count", "a+") as file:
                file.write("x")
                return float(file.tell())
            """,
        },
    ),
    "upside_down": (
        "worse_for_a_worse_subject",
        {
            "phase": "artifact",
            "samples": "exact",
            "top": 'conformance = Conformance(worse="qx.testing.worse:PADDED")',
            "body": "return sum((data.folder / name).stat().st_size for name in data.files)",
        },
    ),
    "borrows_m": ("needs_what_it_says", {"body": "import pytest"}),
    "mumbles_m": ("refuses_bad_options", {"record": f", {OPTION}", "body": REFUSAL}),
}

WORKLOAD = """
from attrs import evolve
from qx import DataError, Option, UsageError, Workload, hookimpl
from qx.testing import testbench

@hookimpl
def describe():
    return Workload(name="{name}", summary="Strokes.", weights={weights}{record})

@hookimpl
def make_model(context):
    model = testbench.make_model(context)
{model}
    return model

@hookimpl
def load_data(split, context):
    import numpy
    data = testbench.load_data(split)
{data}
    return data

@hookimpl
def example_inputs(batch_size, context):
    import torch
{examples}
    return testbench.example_inputs(batch_size, context)
"""

WORKLOADS: dict[str, tuple[str, dict[str, str]]] = {
    "grown": ("weights_fit", {"model": "import torch; model.classifier = torch.nn.Linear(64, 5)"}),
    "cannot_be_made": (
        "weights_fit",
        {"weights": "None", "record": ", random_weights=True", "model": "raise ValueError('no such layer')"},
    ),
    "mislabelled": (
        "loads_data",
        {"data": "data = evolve(data, targets={'labels': data.targets['labels'] + 1})"},
    ),
    "mislabelled_without_weights": (
        "loads_data",
        {"weights": "None", "data": "data = evolve(data, targets={'labels': data.targets['labels'] + 1})"},
    ),
    "scolds": ("loads_data", {"data": "raise UsageError('give --data')"}),
    "has_moods": ("same_data_again", {"data": "if context.seed: raise DataError('not today')"}),
    "leaks": ("splits_disjoint", {"data": "data = testbench.load_data('train')"}),
    "shuffles": (
        "same_data_again",
        {
            "data": """
            images, labels = data.inputs["image"], data.targets["labels"]
            order = numpy.random.permutation(len(labels))
            data = evolve(data, inputs={"image": images[order]}, targets={"labels": labels[order]})
            """
        },
    ),
    "stumbles": (
        "says_what_data_it_needs",
        {"data": "if context.data is not None: open(context.data / 'train.npz').close()"},
    ),
    "other_shapes": ("example_inputs_accepted", {"examples": "return (torch.zeros(batch_size, 1, 16, 16),)"}),
    "gregarious": (
        "model_is_fp32_and_settled",
        {"model": "model.register_forward_hook(lambda module, inputs, outputs: outputs + outputs.mean(0))"},
    ),
    "two_minds": (
        "stubs_change_nothing",
        {
            "model": """
            if context.quantizable:
                model.register_forward_hook(lambda module, inputs, outputs: outputs * 2)
            """
        },
    ),
    "knows_nothing": (
        "knows_its_data",
        {"data": "data = evolve(data, targets={'labels': (data.targets['labels'] + 1) % 4})"},
    ),
    "borrows_w": ("needs_what_it_says", {"model": "import pytest"}),
    "mumbles_w": ("refuses_bad_options", {"record": f", {OPTION}", "model": REFUSAL}),
}

LOADER = """
from qx import Loader, hookimpl

@hookimpl
def describe():
    return Loader(name="{name}", summary="The kit's network.", imports=("torch",){record})

@hookimpl
def load(artifact, context):
    import torch
    from qx.testing.network import BenchNet
    torch.set_num_threads(context.threads)
{load}
    model = BenchNet()
    model.load_state_dict(torch.load(artifact.folder / "weights.pt", weights_only=True))
    return Subject(model.eval().requires_grad_(False))

class Subject:
    def __init__(self, model):
        self.model = model

    def prepare(self, arrays):
        import torch
{prepare}
        return torch.from_numpy(arrays["image"])

    def call(self, native):
        import torch
{call}
        return self.model(native)

    def outputs(self, native):
{outputs}
        return {{"output": native.numpy()}}

{more}
"""

LOADED = """
from qx import Artifact, Config, hookimpl

@hookimpl
def describe():
    return Config(name="{name}_config", summary="For a loader.", requires={requires})

@hookimpl
def convert(model, context):
    import torch
    torch.save(model.state_dict(), context.folder / "weights.pt")
    return Artifact(folder=context.folder, files=["weights.pt"], loader="{name}")
"""

#: A loader that looks inside; what it gives is to be filled in.
INSIDE = """
@hookimpl
def layer_outputs(artifact, reference, inputs, context):
    from torch import from_numpy
    pairs = [load(one, context).call(from_numpy(inputs["image"])) for one in (artifact, reference)]
    ours, theirs = (pair.numpy() for pair in pairs)
    {}
    return {{"classifier": (ours, theirs)}}
"""

LOADERS: dict[str, tuple[str, dict[str, str]]] = {
    "gives_lists": ("serves_batches", {"outputs": "return {'output': native.tolist()}"}),
    "gives_no_names": ("serves_batches", {"outputs": "return native.numpy()"}),
    "renames": (
        "serves_batches",
        {
            "outputs": """
            self.calls = getattr(self, "calls", 0) + 1
            return {f"output_{self.calls}": native.numpy()}
            """
        },
    ),
    "overwrites": ("leaves_inputs", {"prepare": "arrays['image'] *= 2"}),
    "noisy": ("deterministic", {"call": "return self.model(native) + torch.rand(1)"}),
    "forgets": ("serves_the_model", {"outputs": "return {'output': -native.numpy()}"}),
    "rebuilds_files": ("serves_batches", {"load": "context.rebuild()"}),
    "greedy": ("honours_threads", {"load": "torch.set_num_threads(2)"}),
    "late": ("names_its_imports", {"record": ", requires=['scikit-learn']", "load": "import sklearn"}),
    "borrows_l": ("needs_what_it_says", {"load": "import pytest"}),
    "clings": (
        "serves_without_qx",
        {
            "more": """
            @hookimpl
            def serving_code():
                from qx import ServingCode

                def load(files, details, threads):
                    from qx.testing.network import BenchNet
                    return BenchNet()

                def run(model, inputs):
                    return inputs

                return ServingCode.from_functions(load, run)
            """
        },
    ),
    "knows_other_layers": (
        "gives_layer_outputs",
        {"more": INSIDE.format("return {'node_7': (ours, theirs)}")},
    ),
    "sees_one_item": ("gives_layer_outputs", {"more": INSIDE.format("ours, theirs = ours[:1], theirs[:1]")}),
    "sees_no_number": ("gives_layer_outputs", {"more": INSIDE.format("ours = ours * float('nan')")}),
    "swaps": ("gives_layer_outputs", {"more": INSIDE.format("ours = ours[::-1]")}),
    "leaves_marks": (
        "gives_layer_outputs",
        {"more": INSIDE.format("(artifact.folder / 'weights.pt').write_bytes(b'')")},
    ),
    "warms_up": (
        "gives_layer_outputs",
        {
            "call": "if WARM: return self.model(native) * 1.01",
            "more": f"WARM = []\n{INSIDE.format('WARM.append(1)')}",
        },
    ),
}

#: Wrong plugins by kind.
KINDS = {"config": CONFIGS, "metric": METRICS, "workload": WORKLOADS, "loader": LOADERS}
WRONG = {
    **{name: (CONFIG, *wrong) for name, wrong in CONFIGS.items()},
    **{name: (METRIC, *wrong) for name, wrong in METRICS.items()},
    **{name: (WORKLOAD, *wrong) for name, wrong in WORKLOADS.items()},
    **{name: (LOADER, *wrong) for name, wrong in LOADERS.items()},
}
#: Wrong plugins of the fast tier: the quickest one for each check.
QUICK = {
    *(
        "no_line",
        "dynamic_int8",
        "talks",
        "raises",
        "claims_a_device",
        "patches_the_class",
        "treats_at_once",
        "sets_torch",
    ),
    *("spoils_batches", "litters", "keeps_it_to_itself", "gives_halves", "does_nothing", "claims_to_keep"),
    *("names_no_layer", "counts_too_few", "quantizes_what_is_named"),
    *("ignores_weight_bits", "ignores_activation_bits"),
    *("asks_too_much", "mumbles"),
    *("ignores_indices", "transposes", "drops", "never_alike", "upside_down"),
    *("grown", "mislabelled_without_weights", "leaks", "shuffles", "stumbles", "other_shapes", "gregarious"),
    *("two_minds", "knows_nothing"),
    *("gives_lists", "noisy", "forgets", "greedy", "late", "clings", "swaps"),
}
DEFAULTS = {
    "better": "higher",
    "samples": "per_item",
    "phase": "predictions",
    "hook": "measure(data, context)",
    "requires": "[]",
    "result": "model",
    "weights": '"qx.testing:testbench.pt"',
}


def _source(template: str, name: str, parts: dict[str, str]) -> str:
    """Return the source of a plugin: the template with its wrong lines, indented as their fields are."""
    blocks = ("body", "model", "data", "examples", "load", "prepare", "call", "outputs")
    depth = {
        "body": 4,
        "model": 4,
        "data": 4,
        "examples": 4,
        "load": 4,
        "prepare": 8,
        "call": 8,
        "outputs": 8,
    }
    filled = dict.fromkeys(("top", "record", "more", "arguments", *blocks), "") | DEFAULTS | {"name": name}
    for part, text in parts.items():
        filled[part] = indent(dedent(text).strip("\n"), " " * depth.get(part, 0))
    return template.format(**filled)


def names_of(*kinds: str) -> list[Any]:
    """Return the names of the wrong plugins of these kinds as parameters, with marks on the slow ones."""
    names = [name for kind in kinds for name in KINDS[kind]]
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def checking(paths: list[Path], folder: Path, shared: dict[str, Any]) -> Checking:
    """Open the checks of the plugin in the first of these files."""
    plugins = [str(path) for path in paths]
    entry = find_entry(Host.discover(plugins).entries, plugins[0])
    return Checking(open_bench(plugins, entry, folder, shared=shared))


def failed_checks(name: str, folder: Path, shared: dict[str, Any]) -> dict[str, str]:
    """Return the checks that a wrong plugin fails, each with its reason.

    The fast tier runs only the check that is meant for the plugin. A check is not run where another one, on
    which it depends, did not pass.
    """
    template, meant, parts = WRONG[name]
    paths = [folder / f"{name}.py"]
    paths[0].write_text(_source(template, name, parts))
    if (loader := f"{name}_loader") in paths[0].read_text():
        paths.append(folder / f"{loader}.py")
        paths[1].write_text(_source(LOADER, loader, {}))
    if template is LOADER:
        paths.append(folder / f"{name}_config.py")
        requires = "['scikit-learn']" if "requires" in parts.get("record", "") else "[]"
        paths[1].write_text(LOADED.format(name=name, requires=requires))
    checks = checking(paths, folder / "bench", shared)
    verdicts = checks.verdicts() if os.environ.get("QX_SLOW") else [checks.verdict(meant)]
    return {verdict.check: verdict.text for verdict in verdicts if verdict.state == "failed"}
