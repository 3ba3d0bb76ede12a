"""The user's own model, without a plugin: MODEL on the command line.

The model comes from a factory, a library, a file of functions named as the hooks of a workload, or a file of
a graph with its weights. Its data come from the file of functions, from ``--data``,
or are generated. Without ``--weights`` it has the weights that it is made with; accuracy is reported where
``--trained`` or the model itself says that they are trained, where they are in a graph's file, or where the
file of functions gives right answers and has no ``train``. Model and data may also be objects of a Python
session that has called ``qx.run``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qx import Context, Data, Option, UsageError, Workload, hookimpl

if TYPE_CHECKING:
    import torch

    from qx import Arrays


@hookimpl
def describe() -> Workload:
    return Workload(
        name="own_model",
        summary="Your own model, from a file, a factory or a library, on its data; see MODEL of qx run.",
        takes_model=True,
        reads_any_data=True,
        random_weights=True,
        options=(
            Option(name="model", default="", help="What makes the model, as MODEL on the command line."),
            Option(
                name="example",
                default="",
                help="Inputs as --example has them, with semicolons between; else model or data say them.",
            ),
            Option(name="data", default="", help="Set by `qx.run`: the arrays of a session, not --data."),
            Option(name="examples", default="", help="Set by `qx.run`: inputs out of these arrays."),
            Option(
                name="model_args",
                default="",
                help="Keyword arguments of the factory, a dict as in Python: {'num_classes': 10}.",
            ),
            Option(name="input_shape", default="", help="Channels, height and width: 3,224,224."),
            Option(
                name="mean", default="", help="Of each channel, 0 to 1; else the model's metadata say it."
            ),
            Option(name="std", default="", help="Of each channel, 0 to 1; else the model's metadata say it."),
            Option(
                name="crop",
                default=0.0,
                minimum=0.0,
                maximum=1.0,
                help="Share of the shorter side that is cut out; 0 for what the metadata say, else 0.875.",
            ),
            Option(
                name="text",
                default="",
                help="Of hf: models, the column of --data with texts, or two with a plus between them.",
            ),
            Option(name="label", default="", help="Of hf: models, the column of --data with labels."),
            Option(
                name="tokens",
                default=0,
                minimum=0,
                help="Of hf: models, the most tokens of a text; 0 for what tokenizer and model take.",
            ),
            Option(
                name="epochs",
                default=0,
                minimum=0,
                help="Passes over the training data, for `qx train`; 0 for what train() does by itself.",
            ),
        ),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.own_inputs import make_own_model

    return make_own_model(context)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    if str(context.options["model"]).endswith(".pt2"):
        from qx_plugins.networks.graph_files import check_batches

        check_batches(str(context.options["model"]))
    from qx_plugins.networks.own_data import load_own_calibration, load_own_data

    if not (reference := context.options.get("data")):
        return load_own_data(split, context)
    if split == "train" and context.calibration_data is not None:
        return load_own_calibration(context)
    from qx_plugins.datasets.session_data import load_session_data

    return load_session_data(reference, split, context)


@hookimpl
def example_inputs(
    batch_size: int, length: int | None, context: Context
) -> tuple[torch.Tensor, ...] | Mapping[str, torch.Tensor]:
    if reference := context.options.get("examples"):
        import torch

        from qx_plugins.datasets.session_data import example_arrays

        return tuple(map(torch.from_numpy, example_arrays(reference, batch_size)))
    from qx_plugins.networks.hf_models import is_transformers
    from qx_plugins.networks.own_inputs import make_examples

    if is_transformers(str(context.options["model"])):
        from qx_plugins.networks.hf_data import make_transformers_examples

        # A mapping without tensors says, as an empty tuple does, that the data have to say what inputs are.
        return make_transformers_examples(batch_size, context, length)

    return make_examples(batch_size, context, length)


@hookimpl
def input_lengths(context: Context) -> tuple[int, int] | None:
    if context.options.get("examples"):
        return None
    from qx_plugins.networks.own_inputs import find_input_lengths

    return find_input_lengths(context)


@hookimpl
def postprocess(outputs: Arrays, context: Context) -> Arrays | None:
    result: Arrays | None = _call_of_file("postprocess", context, outputs=outputs)
    return result


@hookimpl
def score(outputs: Arrays, targets: Arrays, context: Context) -> Any:
    return _call_of_file("score", context, outputs=outputs, targets=targets)


def _call_of_file(name: str, context: Context, **arguments: Any) -> Any:
    """Call a function of the model's file where it has it; the file is imported only then."""
    from qx_plugins.networks.model_file import ModelFile, defines

    target = str(context.options["model"])
    # Processes that evaluate a runtime without torch should not import it for nothing.
    file = ModelFile.of(target) if defines(target, name) else None
    return file.call(name, context=context, **arguments) if file is not None and file.has(name) else None


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from qx_plugins.networks.model_file import ModelFile

    target, epochs = str(context.options["model"]), context.options["epochs"]
    file = ModelFile.of(target)
    if file is None:
        raise UsageError(f"MODEL {target} cannot be trained: give a FILE.py that has train(model)")
    if epochs and file.has("train") and not file.takes("train", "epochs"):
        raise UsageError(f"{target}: train() takes no epochs: leave --epochs out")
    arguments = {"epochs": epochs} if epochs else {}
    trained: torch.nn.Module = file.call("train", model=model, context=context, **arguments)
    return trained
