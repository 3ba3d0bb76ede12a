"""How a model takes inputs and returns outputs is found, and it gets a ``forward`` of tensors alone."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from qx.contract.structure import Structure, to_structure
from qx.errors import UsageError
from qx.worker.structure import adapt, find_structure, outputs_of

ONE, TWO = torch.ones(2, 3), torch.zeros(2, 4)
Pair = namedtuple("Pair", "boxes scores")


@dataclass
class Answer:
    """What a model may return."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None


@attrs.frozen
class Nested:
    """What a model may return."""

    answer: Answer


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (ONE, ["output"]),
        ((ONE, TWO), ["output_0", "output_1"]),
        ([ONE, (TWO, ONE)], ["output_0", "output_1.0", "output_1.1"]),
        (Pair(ONE, TWO), ["output_0", "output_1"]),
        (OrderedDict(logits=ONE, hidden=(ONE, TWO)), ["logits", "hidden.0", "hidden.1"]),
        ({"logits": ONE, "loss": None, "name": "text", "steps": 3}, ["logits"]),
        (Answer(ONE), ["logits"]),
        (Nested(Answer(ONE, TWO)), ["answer.logits", "answer.loss"]),
    ],
)
def test_every_tensor_is_an_output_with_a_name(returned: Any, names: list[str]) -> None:
    """Names are the keys, from the outside in; what is no tensor is no output."""
    structure = find_structure(nn.Identity(), (), returned)
    assert list(structure.outputs) == names
    assert all(isinstance(output, torch.Tensor) for output in outputs_of(structure, returned).values())
    assert to_structure(attrs.asdict(structure)) == structure
    assert structure.is_plain == (names == ["output"])


@pytest.mark.parametrize("returned", [None, 3, {}, {"loss": None}, "text", torch.Tensor])
def test_a_model_without_an_output_is_refused(returned: Any) -> None:
    """The message says what the model gave."""
    with pytest.raises(UsageError, match=r"^Identity gives (None|a .* without a tensor), expected a tensor"):
        find_structure(nn.Identity(), (), returned)


def test_two_outputs_of_one_name_are_refused() -> None:
    """Keys with dots may collide with nested ones."""
    with pytest.raises(UsageError, match=r"gives two tensors that are both called 'a\.b'"):
        find_structure(nn.Identity(), (), {"a.b": ONE, "a": {"b": TWO}})


class Encoder(nn.Module):
    """Takes inputs by name, and gives a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, tokens: Any, mask: Any = None, *, scale: float = 1.0) -> dict[str, Any]:
        hidden = self.table(tokens) * (1.0 if mask is None else mask[..., None])
        return {"logits": self.head(hidden.mean(1)) * scale, "hidden": hidden, "loss": None}


EXAMPLES = {"mask": torch.tensor([[1.0, 0.0]]), "tokens": torch.tensor([[1, 2]])}


def test_an_adapted_model_is_the_same_model_with_tensors_in_order() -> None:
    """Layers, names and weights stay; inputs come in the order of the examples, and outputs as a tuple."""
    model = Encoder().eval()
    expected = model(**EXAMPLES)
    structure = find_structure(model, tuple(EXAMPLES), expected)
    names = list(model.state_dict())
    adapted = adapt(model, structure)
    assert adapted is model
    assert isinstance(adapted, Encoder)
    assert type(adapted).__name__ == "Encoder"
    assert list(adapted.state_dict()) == names
    assert list(inspect.signature(adapted.forward).parameters) == ["mask", "tokens"]
    for form in (adapted, copy.deepcopy(adapted)):
        logits, hidden = form(*EXAMPLES.values())
        assert torch.equal(logits, expected["logits"])
        assert torch.equal(hidden, expected["hidden"])
    assert isinstance(Encoder()(**EXAMPLES), dict)


def test_an_adapted_model_can_be_exported_and_traced() -> None:
    """Both tracers see the outputs alone, in their order."""
    model = Encoder().eval()
    adapt(model, find_structure(model, tuple(EXAMPLES), model(**EXAMPLES)))
    inputs = tuple(torch.cat([value, value]) for value in EXAMPLES.values())
    expected = model(*inputs)
    for module in (torch.fx.symbolic_trace(model), torch.export.export(model, inputs).module()):
        assert all(map(torch.equal, module(*inputs), expected))


def test_positional_parameters_keep_their_defaults() -> None:
    """A model that takes its inputs in order keeps its signature; a single output is no tuple."""
    model = Encoder().eval()
    tokens = EXAMPLES["tokens"]
    structure = Structure(outputs=("logits",), paths=(("logits",),))
    adapted = adapt(model, structure)
    assert str(inspect.signature(adapted.forward)) == "(tokens, mask=None)"
    assert torch.equal(adapted(tokens), Encoder.forward(model, tokens)["logits"])

    class Loose(nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return inputs

    assert adapt(Loose(), find_structure(Loose(), (), (ONE, TWO)))(ONE, TWO) == (ONE, TWO)


@pytest.mark.filterwarnings("ignore")
def test_a_model_whose_class_cannot_change_is_refused() -> None:
    """TorchScript keeps its own ``forward``."""

    class Two(nn.Module):
        def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return values, values

    script = torch.jit.trace(Two(), ONE)
    with pytest.raises(UsageError, match=r"have its forward\(\) take tensors and return one"):
        adapt(script, find_structure(script, (), script(ONE)))
