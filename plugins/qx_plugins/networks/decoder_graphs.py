"""Decoders as graphs for other runtimes: one that reads a prompt or a token, and passes its cache on.

A decoder can become such a graph where it has ``step(tokens, kept, *past)`` and ``cache_shape`` beside its
cache interface, see ``qx_plugins.networks.llama``. The same graph evaluates texts, reads prompts and decodes,
so that its weights are there once: ``kept`` says at which positions scores are wanted, since those of all
positions would take as long as a layer where one is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import nn
from torch.export import Dim, ExportedProgram, export

from qx import Lengths, Unsupported
from qx_plugins.language_outputs import KEPT, TOKENS
from qx_plugins.networks.language_models import Scorer
from qx_plugins.recipes.bfloat16 import unwrap
from qx_plugins.recipes.fidelity import Reference, run_model
from qx_plugins.recipes.tracing import explain_errors

if TYPE_CHECKING:
    import numpy

    from qx import Batch

#: Numbers of tokens in the example: the batch, those that are read, those in the cache, those with scores.
BATCH, READ, PAST, WANTED = 2, 5, 3, 4
#: Largest number of tokens of a decoder that names none.
LONGEST = 1 << 20


class DecoderGraph(nn.Module):
    """A decoder without a state, with the names of its layers within a ``Scorer``."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, tokens: torch.Tensor, kept: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the scores at the positions ``kept``, in float32, and the cache with these tokens in it."""
        scores, *present = self.decoder.step(tokens, kept, *past)  # type: ignore[operator]
        return scores.float(), *present


@frozen(kw_only=True)
class ExportedDecoder:
    """A decoder as an exported program, with the names of its inputs and outputs in their order."""

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    #: Number of layers, of heads of keys and values in each, and the width of a head.
    cache_shape: tuple[int, int, int]
    #: Type of the numbers in the cache.
    cache_type: torch.dtype

    @property
    def details(self) -> dict[str, Any]:
        """What a loader must know of it, as JSON."""
        kind = str(self.cache_type).removeprefix("torch.")
        return {"decoder": {"cache_shape": list(self.cache_shape), "cache_type": kind}}


def can_step(model: nn.Module) -> bool:
    """Return whether a model is a decoder that can become a graph that passes its cache on."""
    return isinstance(unwrap(model), Scorer) and not no_step_reason(model)


def no_step_reason(model: nn.Module) -> str:
    """Return why a decoder has no graph that passes its cache on; empty where it has one.

    It is empty for models that are no decoders, too.
    """
    model = unwrap(model)
    if not isinstance(model, Scorer):
        return ""
    if reason := getattr(model.decoder, "no_step", ""):
        return str(reason)
    if callable(getattr(model.decoder, "step", None)):
        return ""
    return f"{type(model.decoder).__name__} has no step(tokens, kept, *past)"


def find_decoder_graph(
    model: nn.Module, lengths: Lengths | None
) -> tuple[ExportedDecoder | None, tuple[str, ...]]:
    """Return a decoder as a graph that passes its cache on; None for other models, and where there is none.

    Beside it is a note that says why a decoder has no such graph.
    """
    reason = no_step_reason(model)
    if not reason and can_step(model):
        try:
            return export_decoder(model, lengths), ()
        except Unsupported as error:
            reason = str(error)
    return None, (no_cache_note(reason),) if reason else ()


def no_cache_note(reason: str) -> str:
    """Return the note of an artifact of a decoder without a cache."""
    return f"no cache, so texts are read as a whole: {reason}"


def export_decoder(model: nn.Module, lengths: Lengths | None) -> ExportedDecoder:
    """Export a model for which ``can_step`` is true. Raises ``Unsupported`` with the layer and the reason."""
    decoder: Any = unwrap(model).decoder
    layers, heads, width = decoder.cache_shape
    kind = _cache_type(decoder)
    longest = int(decoder.positions or (lengths.highest if lengths else LONGEST))
    batch = Dim("batch", min=1)
    read, past = Dim("read", min=1, max=longest), Dim("past", min=0, max=longest)
    inputs = (
        torch.zeros(BATCH, READ, dtype=torch.int64),
        torch.arange(WANTED),
        *(torch.zeros(BATCH, heads, PAST, width, dtype=kind) for _ in range(2 * layers)),
    )
    shapes = (
        {0: batch, 1: read},
        {0: Dim("kept", min=1, max=longest)},
        ({0: batch, 2: past},) * (2 * layers),
    )
    graph = DecoderGraph(decoder).eval()
    with torch.no_grad(), explain_errors(model, "cannot be exported with its cache"):
        program = export(graph, inputs, dynamic_shapes=shapes, strict=False)
    names = [f"{kind}_{layer}" for layer in range(layers) for kind in ("keys", "values")]
    return ExportedDecoder(
        program=program,
        inputs=(TOKENS, KEPT, *(f"past_{name}" for name in names)),
        outputs=("scores", *(f"present_{name}" for name in names)),
        cache_shape=(layers, heads, width),
        cache_type=kind,
    )


def decoder_references(model: nn.Module, example: torch.Tensor) -> tuple[Reference, Reference]:
    """Return what a decoder gives for a prompt, and for one token with that prompt in its cache.

    ``example`` are tokens ``[batch, length]``. These are the two forms in which its graph is run: with an
    empty cache, and with a single token.
    """
    decoder: Any = unwrap(model).decoder
    layers, heads, width = decoder.cache_shape
    graph, tokens = DecoderGraph(decoder).eval(), example[:1, : READ + PAST].repeat(BATCH, 1)
    empty = torch.zeros(BATCH, heads, 0, width, dtype=_cache_type(decoder))
    # Compiled graphs take inputs without gaps in memory alone.
    prompt = (tokens[:, :-1].contiguous(), torch.arange(WANTED), *(empty for _ in range(2 * layers)))
    read = run_model(graph, prompt)
    token = (tokens[:, -1:].contiguous(), torch.zeros(1, dtype=torch.int64), *read[1:])
    return Reference(prompt, read), Reference(token, run_model(graph, token))


def graph_inputs(model: nn.Module, batches: Sequence[Batch], count: int) -> list[list[numpy.ndarray]]:
    """Return the inputs of a model's graph for each item of the batches, one item at a time.

    ``count`` is the number of inputs of the graph that was made. That of a decoder with a cache takes the
    tokens, the positions with scores, which are all, and an empty cache; without one it takes the tokens.
    """
    items = [
        [array[index : index + 1] for array in batch.inputs.values()]
        for batch in batches
        for index in range(len(next(iter(batch.inputs.values()))))
    ]
    if not items or len(items[0]) == count:
        return items
    decoder: Any = unwrap(model).decoder
    layers, heads, width = decoder.cache_shape
    empty = [torch.zeros(1, heads, 0, width, dtype=_cache_type(decoder)).numpy()] * (2 * layers)
    return [[tokens, torch.arange(tokens.shape[1]).numpy(), *empty] for (tokens,) in items]


def _cache_type(decoder: nn.Module) -> torch.dtype:
    """Return the type of keys and values: that of the first weights, which is the type of features."""
    return next(weight.dtype for weight in decoder.parameters() if weight.is_floating_point())
