"""A model of the user's own: the functions of its file, and the order and source of its inputs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.workloads import own_model

from qx import Context, UsageError
from qx.worker.inspect import facts_of

DEFAULTS = {option.name: option.default for option in own_model.describe().options}
NUMBERS = count()

TWO_INPUTS = """
    import torch

    class Two(torch.nn.Module):
        def forward(self, left, right, scale=1.0):
            return torch.cat([left.float(), right], 1) * scale

    def make_model():
        return Two()
"""


def context(source: str, data: Path | None = None, **options: object) -> Context:
    """Write a file of a model, which no other test has imported, and return the context of its hooks."""
    file = Path(f"net{next(NUMBERS)}.py").resolve()
    file.write_text(dedent(source))
    return Context(options={**DEFAULTS, "model": str(file), **options}, data=data)


def test_functions_take_the_arguments_that_they_name() -> None:
    """``context``, keyword arguments of ``--model-args``, or none."""
    source = """
        from torch import nn

        def make_model(width, context, depth=1):
            return nn.Linear(width, depth + context.seed)
    """
    model = own_model.make_model(context(source, model_args="{'width': 3}"))
    assert (model.in_features, model.out_features) == (3, 1)
    with pytest.raises(UsageError, match=r"the factory needs width; add --model-args width=VALUE"):
        own_model.make_model(context(source))


def test_a_file_without_make_model_is_told_what_it_has() -> None:
    """The functions of the file are named, and the way to name one of them."""
    source = "def net(): ...\ndef other(): ..."
    with pytest.raises(UsageError, match=r"has no make_model\(\) \(it has net, other\); name what makes"):
        own_model.make_model(context(source))


def test_inputs_by_name_come_in_the_order_of_forward() -> None:
    """Whatever the order of a dict; a name that forward does not have, or a gap, is refused."""
    source = (
        TWO_INPUTS
        + """
    def example_inputs(batch_size):
        return {"right": torch.zeros(batch_size, 2), "left": torch.ones(batch_size, 3, dtype=torch.int64)}

    def load_data(split):
        return {"right": torch.zeros(9, 2).numpy(), "left": torch.ones(9, 3).long().numpy()}, None
    """
    )
    own = context(source)
    assert [tuple(example.shape) for example in own_model.example_inputs(4, None, own)] == [(4, 3), (4, 2)]
    assert list(own_model.load_data("test", own).inputs) == ["left", "right"]
    for name, words in (("middle", "has no argument 'middle'"), ("scale", "leave out right")):
        with pytest.raises(UsageError, match=words):
            own_model.example_inputs(4, None, context(source.replace('"right"', f'"{name}"')))


def test_inputs_come_from_the_data_where_nothing_else_says_them() -> None:
    """Then the file gives no examples, and the option that qx sets from the data does."""
    own = context(TWO_INPUTS + "\n    def load_data(split):\n        return torch.zeros(3, 2), [0, 1, 0]")
    assert own_model.example_inputs(1, None, own) == ()
    options = {**own.options, "example": "left:int64[1,3]=0..5;right:float32[1,2]"}
    examples = own_model.example_inputs(2, None, Context(options=options))
    assert [(str(example.dtype), tuple(example.shape)) for example in examples] == [
        ("torch.int64", (2, 3)),
        ("torch.float32", (2, 2)),
    ]


def test_without_data_inputs_are_generated_and_results_say_so() -> None:
    """From examples of the file or of an option, without right answers, and the same in each process."""
    own = context(TWO_INPUTS, example="left:int64[1,3]=0..5;right:float32[1,2]")
    drawn = own_model.load_data("train", own)
    assert list(drawn.inputs) == ["left", "right"] and not drawn.targets
    assert drawn.source == "generated inputs, since no data were given"
    file = "\n    TASK = 'regression'\n    def example_inputs(batch_size):\n"
    file += "        return torch.rand(batch_size, 3), torch.rand(batch_size, 2)"
    own = context(TWO_INPUTS + file)
    first, again = (own_model.load_data("test", own) for _ in range(2))
    assert first.task == "regression"
    assert np.array_equal(first.inputs["input_0"], again.inputs["input_0"])
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    own_model.example_inputs(2, None, own)
    assert torch.equal(state, torch.random.get_rng_state())


def test_data_that_are_given_together_are_divided() -> None:
    """Where ``load_data`` takes no split, some items calibrate, and none of them is evaluated."""
    source = (
        TWO_INPUTS
        + """
    def load_data():
        return torch.arange(100.0).reshape(-1, 1), [0, 1] * 50
    """
    )
    own = context(source)
    splits = [own_model.load_data(split, own) for split in ("train", "test")]
    items = [set(np.asarray(data.inputs["input"]).reshape(-1).tolist()) for data in splits]
    assert not items[0] & items[1] and len(items[0] | items[1]) == 100
    assert "set aside for calibration" in splits[0].source


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("", {}, "nothing says what inputs .* takes: give --example"),
        ("", {"example": "x:float32[1]", "input_shape": "3,8,8"}, "--example or --input-shape, not both"),
        ("def example_inputs(batch_size): return 5", {}, "gives int; expected a tensor, or a tuple or dict"),
        (
            "def example_inputs(batch_size): return torch.zeros(1, 3)",
            {},
            r"shape \[1, 3\]; expected \[2, ...",
        ),
        ("def example_inputs(size): ...", {}, r"example_inputs\(\) needs size"),
        (
            "def example_inputs(batch_size): return torch.zeros(batch_size)",
            {"example": "x:float32[1]"},
            r"has example_inputs\(\): leave --example out",
        ),
        ("def load_data(split): ...", {"mean": "0.5"}, r"has load_data\(\), so --mean has no effect"),
        (
            "TASK = 5\n    def load_data(split): return torch.zeros(2, 3)",
            {},
            "TASK is of type int; expected a text",
        ),
        ("", {"data": Path(), "example": "x:float32[1,6,128]"}, "a folder of images gives one input"),
    ],
)
def test_a_mistake_is_named(source: str, options: dict[str, Any], words: str) -> None:
    """One line names the file, what is wrong with it, and what to do."""
    own = context(f"{TWO_INPUTS}\n    {source}\n", **options)

    def call_hooks() -> None:
        own_model.load_data("test", own)
        own_model.example_inputs(2, None, own)

    with pytest.raises(UsageError, match=words):
        call_hooks()


def test_a_file_is_trained_by_its_own_function() -> None:
    """It gets ``epochs`` where it takes them; of a file without ``train`` the message says what it has."""
    source = (
        TWO_INPUTS + "\n    def train(model, epochs=1):\n        model.epochs = epochs\n        return model"
    )
    for options, epochs in (({}, 1), ({"epochs": 3}, 3)):
        own = context(source, **options)
        assert own_model.train(own_model.make_model(own), own).epochs == epochs
    own = context(source.replace(", epochs=1", "").replace("= epochs", "= 1"), epochs=3)
    with pytest.raises(UsageError, match=r"train\(\) takes no epochs: leave --epochs out"):
        own_model.train(own_model.make_model(own), own)
    own = context(TWO_INPUTS)
    with pytest.raises(UsageError, match=r"has no train\(\) \(it has Two, make_model\)"):
        own_model.train(own_model.make_model(own), own)


def test_models_of_a_library_are_known_by_their_names() -> None:
    """They come with random weights, the size of their inputs and the number of their classes."""
    name = "torchvision:squeezenet1_1"
    own = Context(options={**DEFAULTS, "model": name, "model_args": "{'num_classes': 7}"})
    assert own_model.make_model(own).num_classes == 7
    assert [tuple(example.shape) for example in own_model.example_inputs(2, None, own)] == [(2, 3, 224, 224)]
    data = own_model.load_data("test", own)
    assert len(data.classes) == 7 and not data.targets
    with pytest.raises(
        UsageError, match="torchvision has no model of this name; similar ones are squeezenet"
    ):
        own_model.make_model(Context(options={**DEFAULTS, "model": "torchvision:squeezenet"}))


def test_a_quantizable_form_of_torchvision_is_found() -> None:
    """resnet18 has one with the same state dict; squeezenet has none, which is said."""
    from qx import Unsupported

    own = Context(options={**DEFAULTS, "model": "torchvision:resnet18"}, quantizable=True)
    plain = own_model.make_model(Context(options=own.options))
    own_model.make_model(own).load_state_dict(plain.state_dict(), strict=True)
    other = Context(options={**DEFAULTS, "model": "torchvision:squeezenet1_1"}, quantizable=True)
    with pytest.raises(Unsupported, match="no form of squeezenet1_1"):
        own_model.make_model(other)


def test_a_file_states_the_lengths_of_its_inputs() -> None:
    """``LENGTHS`` is the range, and ``example_inputs`` gives inputs of any length in it, else the longest."""
    source = """
        import torch

        LENGTHS = (4, 32)

        def make_model():
            return torch.nn.Identity()

        def example_inputs(batch_size, length):
            return torch.zeros(batch_size, length)
    """
    own = context(source)
    assert own_model.input_lengths(own) == (4, 32)
    shapes = [tuple(own_model.example_inputs(2, length, own)[0].shape) for length in (7, None)]
    assert shapes == [(2, 7), (2, 32)]
    with pytest.raises(UsageError, match=r"has LENGTHS, and so needs example_inputs\(batch_size, length\)"):
        own_model.input_lengths(context(source.replace(", length)", ", size=3)")))
    with pytest.raises(UsageError, match=r"LENGTHS is \(32, 4\); expected the smallest and the largest"):
        own_model.input_lengths(context(source.replace("(4, 32)", "(32, 4)")))


def test_an_example_on_the_command_line_states_the_lengths() -> None:
    """``--example`` with a range does, with data of the file's own too; without one nothing is free."""
    source = """
        import torch

        def make_model():
            return torch.nn.Identity()

        def load_data():
            return torch.zeros(9, 16)
    """
    assert own_model.input_lengths(context(source)) is None
    own = context(source, example="x:float32[1,4..32]")
    assert own_model.input_lengths(own) == (4, 32)
    assert tuple(own_model.example_inputs(2, 5, own)[0].shape) == (2, 5)


def test_a_file_that_trains_makes_an_untrained_model() -> None:
    """Unless its model says otherwise; a file without ``train`` says nothing."""
    source = """
        from torch import nn
        from qx import ModelFacts

        def make_model():
            return nn.Linear(2, 2)
    """
    train = """
        def train(model):
            return model
    """
    says = """
        def make_model():
            model = nn.Linear(2, 2)
            model.qx_facts = ModelFacts(trained=True)
            return model
    """
    assert not hasattr(own_model.make_model(context(source)), "qx_facts")
    untrained = own_model.make_model(context(source + train))
    assert hasattr(untrained, "qx_facts")
    assert not facts_of(untrained).trained
    assert facts_of(own_model.make_model(context(source + train + says))).trained
