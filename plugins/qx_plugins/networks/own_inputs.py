"""A model of the user's own, and the inputs that it takes: from its file, from options, or from itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from qx import Context, ModelFacts, UsageError
from qx_plugins.datasets.data_files import is_file
from qx_plugins.datasets.described_inputs import DescribedInput, draw_examples, lengths_of, parse_inputs
from qx_plugins.datasets.user_data import INPUT
from qx_plugins.networks.factory import make_from_factory, read_arguments, read_metadata
from qx_plugins.networks.graph_files import described_by_graph, inputs_of_graph, is_graph_file
from qx_plugins.networks.hf_models import find_source, is_transformers
from qx_plugins.networks.hf_texts import lengths_of_transformers
from qx_plugins.networks.libraries import is_in_library
from qx_plugins.networks.model_file import ModelFile, arguments_of

#: Name of the only input of a model on images.
IMAGE = "image"
#: Arguments of the forward methods of models that were made in this process, by what made them.
_forward_arguments: dict[tuple[str, str], tuple[str, ...]] = {}


def make_own_model(context: Context) -> nn.Module:
    """Make the model that the options name. Raises ``UsageError`` and ``Unsupported`` as its factory does."""
    model = make_from_factory(
        target_of(context), arguments(context), quantizable=context.quantizable, context=context
    )
    _forward_arguments[_key(context)] = tuple(arguments_of(model.forward))
    file = ModelFile.of(target_of(context))
    if file is not None and file.has("train") and not hasattr(model, "qx_facts"):
        # Whoever writes down how to train starts from weights that are not trained.
        model.qx_facts = ModelFacts(trained=False)  # type: ignore[assignment]
    return model


def target_of(context: Context) -> str:
    """Return what makes the model. Raises ``UsageError`` where nothing does."""
    target = str(context.options["model"])
    if not target:
        raise UsageError("MODEL is missing: this workload runs a model of your own")
    return target


def arguments(context: Context) -> dict[str, Any]:
    """Return the keyword arguments of what makes the model."""
    return read_arguments(str(context.options["model_args"]))


def _key(context: Context) -> tuple[str, str]:
    return target_of(context), str(context.options["model_args"])


def metadata_of(context: Context) -> Mapping[str, Any]:
    """Return what the model says of its inputs, by timm's names; empty where it says nothing."""
    return read_metadata(target_of(context), arguments(context))


# Example inputs -----------------------------------------------------------------------------------


def make_examples(batch_size: int, context: Context, length: int | None = None) -> tuple[torch.Tensor, ...]:
    """Return example inputs in the model's order; none where only the data can say what inputs are.

    ``length`` is that of their free dimension; None for the largest.
    """
    file = ModelFile.of(target_of(context))
    if file is not None and file.has("example_inputs"):
        return tuple(examples_of_file(file, batch_size, context, length=length).values())
    has_data = file is not None and file.has("load_data")
    if (has_data or (context.data is not None and is_file(context.data))) and not says_inputs(context):
        return ()
    drawn = draw_examples(described_inputs(context), batch_size, length)
    return tuple(map(torch.from_numpy, drawn))


def find_input_lengths(context: Context) -> tuple[int, int] | None:
    """Return the smallest and the largest length of the inputs, as the file or ``--example`` says them."""
    file = ModelFile.of(target_of(context))
    if file is not None and (file.lengths is not None or file.has("example_inputs")):
        return file.lengths
    text = str(context.options["example"])
    if text:
        return lengths_of(parse_inputs(text))
    return lengths_of_transformers(context) if is_transformers(target_of(context)) else None


def says_inputs(context: Context) -> bool:
    """Whether an option says what inputs are."""
    return bool(context.options["example"] or context.options["input_shape"])


def examples_of_file(
    file: ModelFile,
    batch_size: int,
    context: Context,
    seed: int | None = None,
    length: int | None = None,
) -> dict[str, torch.Tensor]:
    """Return what ``example_inputs`` of a file gives, by name in the model's order. Raises ``UsageError``."""
    if says_inputs(context):
        option = "--example" if context.options["example"] else "--input-shape"
        raise UsageError(f"{file.source} has example_inputs(): leave {option} out")
    lengths = {} if file.lengths is None else {"length": length or file.lengths[1]}
    with _seeded(context.seed if seed is None else seed):
        value = file.call("example_inputs", batch_size=batch_size, context=context, **lengths)
    where = f"{file.source}: example_inputs({batch_size})"
    named = _named_tensors(value, where)
    for name, tensor in named.items():
        if tensor.ndim == 0 or len(tensor) != batch_size:
            raise UsageError(
                f"{where} gives {name} of shape {list(tensor.shape)}; expected [{batch_size}, ...]"
            )
    return {name: named[name] for name in in_order_of_forward(list(named), context)}


def _named_tensors(value: Any, where: str) -> dict[str, torch.Tensor]:
    parts: Mapping[Any, Any] = {INPUT: value}
    if isinstance(value, Mapping):
        parts = value
    elif isinstance(value, (tuple, list)):
        parts = {INPUT if len(value) == 1 else f"{INPUT}_{index}": part for index, part in enumerate(value)}
    tensors = {
        str(name): torch.from_numpy(part) if isinstance(part, np.ndarray) else part
        for name, part in parts.items()
    }
    wrong = [type(part).__name__ for part in tensors.values() if not isinstance(part, torch.Tensor)]
    if wrong or not tensors:
        raise UsageError(
            f"{where} gives {wrong[0] if wrong else 'nothing'}; expected a tensor, or a tuple or dict of "
            f"tensors"
        )
    return tensors


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all generators for a while, so that what is drawn is the same in each process."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def in_order_of_forward(names: Sequence[str], context: Context) -> list[str]:
    """Return names of inputs in the order of the arguments of ``forward``, where they are its arguments.

    Inputs are passed by position. Raises ``UsageError`` where the names leave out an argument between.
    """
    if len(names) < 2:
        return list(names)
    if is_transformers(target_of(context)):
        # These get their inputs by name, so gaps do not matter.
        parameters = find_source(target_of(context), context).forward
        return sorted(names, key=lambda name: parameters.index(name) if name in parameters else len(names))
    if is_graph_file(target_of(context)):
        parameters = tuple(entry.name for entry in inputs_of_graph(target_of(context)))
    else:
        if _key(context) not in _forward_arguments:
            make_own_model(context)
        parameters = _forward_arguments[_key(context)]
    if not set(names) & set(parameters):
        return list(names)
    if unknown := [name for name in names if name not in parameters]:
        raise UsageError(
            f"MODEL {target_of(context)}: forward() has no argument {unknown[0]!r}; it takes "
            f"{', '.join(parameters)}"
        )
    ordered = [parameter for parameter in parameters if parameter in names]
    if tuple(ordered) != parameters[: len(ordered)]:
        left_out = next(name for name in parameters if name not in names)
        raise UsageError(
            f"MODEL {target_of(context)}: forward() takes {', '.join(parameters)} in this order, and the "
            f"inputs {', '.join(ordered)} leave out {left_out}: wrap the model in one that takes just these"
        )
    return ordered


# Inputs as options, or the model, describe them ---------------------------------------------------


def described_inputs(context: Context) -> tuple[DescribedInput, ...]:
    """Return the inputs that the options, or else the model, describe. Raises ``UsageError``."""
    if text := str(context.options["example"]):
        if context.options["input_shape"]:
            raise UsageError("give --example or --input-shape, not both")
        return parse_inputs(text)
    target = target_of(context)
    if is_graph_file(target) and not context.options["input_shape"]:
        return described_by_graph(target)
    if shape := image_size(context):
        return (DescribedInput(IMAGE, "float32", shape),)
    hint = "" if is_in_library(target) else ", or a FILE.py that has example_inputs() or load_data()"
    raise UsageError(
        f"nothing says what inputs {target} takes: give --example, such as 'images:float32[1,3,32,32]', "
        f"--input-shape C,H,W{hint}"
    )


def image_size(context: Context) -> tuple[int, int, int] | None:
    """Return channels, height and width of ``--input-shape``, or else of the model's metadata, if any."""
    if text := str(context.options["input_shape"]):
        return _parse_shape(text)
    if is_graph_file(target_of(context)):
        return None
    size = metadata_of(context).get("input_size")
    if size is None or len(size) != 3:
        return None
    channels, height, width = (int(number) for number in size)
    # A model for images of another number of channels says so in its own arguments.
    return int(arguments(context).get("in_chans", channels)), height, width


def _parse_shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"--input-shape {text}: expected channels, height and width, such as 3,224,224")
    channels, height, width = (int(part) for part in parts)
    if channels not in (1, 3) or not (height and width):
        raise UsageError(f"--input-shape {text}: images have 1 or 3 channels and some pixels")
    return channels, height, width
