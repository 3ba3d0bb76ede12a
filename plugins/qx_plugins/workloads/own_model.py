"""The user's own model, without a plugin: MODEL on the command line.

The model comes from a factory, a library, or a file of functions named as the hooks of a workload. Its data
come from that file, from a tree of class folders (``--data``), or are generated. Without ``--weights`` it has
the weights that it is made with; accuracy is reported where ``--trained`` says that they are trained, or
where the file gives right answers. Model and data may also be objects of a Python session that has called
``qx.run``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qx import Context, Data, Option, UsageError, Workload, hookimpl

if TYPE_CHECKING:
    import torch


@hookimpl
def describe() -> Workload:
    return Workload(
        name="own_model",
        summary="Your own model, from a file, a factory or a library, on its data; see MODEL of qx run.",
        takes_model=True,
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
                name="images",
                default=1000,
                minimum=0,
                help="Test images that are evaluated, drawn evenly over the classes; 0 for all.",
            ),
            Option(
                name="items",
                default=10_000,
                minimum=0,
                help="Most items that are read of a Dataset, a DataLoader or an iterable; 0 for all.",
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
    if reference := context.options.get("data"):
        from qx_plugins.datasets.session_data import load_session_data

        return load_session_data(reference, split, context)
    from qx_plugins.networks.own_data import load_own_data

    return load_own_data(split, context)


@hookimpl
def example_inputs(
    batch_size: int, context: Context
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
        return make_transformers_examples(batch_size, context)

    return make_examples(batch_size, context)


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
