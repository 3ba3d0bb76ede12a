"""Ten made-up languages, classified by a small transformer encoder: generated, so it needs no download.

A language is a Markov chain over 32 syllables, and a sentence has 32 syllables. The most probable language of
a sentence can be computed exactly, so the best possible accuracy is known. Nearly all of the network's
arithmetic is in linear layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Unsupported, Workload, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import torch

LANGUAGES, SYLLABLES, LENGTH = 10, 32, 32
SENTENCES = {"train": 36_000, "test": 5_000}
#: Largest factors between two languages: of the frequency of a syllable, and of its frequency after a certain
#: other syllable.
FAVOURED, FAVOURED_AFTER = 3, 8


@hookimpl
def describe() -> Workload:
    return Workload(
        name="languages_encoder",
        summary="A transformer encoder of 682,570 parameters on 5,000 sentences of made-up languages.",
        weights="qx_weights:languages_encoder.pt",
        options=(Option(name="epochs", default=3, help="Passes over the training data, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.text_encoder import TextEncoder

    if context.quantizable:
        raise Unsupported(
            "TextEncoder has no form with quantize and dequantize stubs: eager mode has no static 8-bit "
            "attention (layers.0, EncoderLayer)"
        )
    return TextEncoder(vocabulary=SYLLABLES, length=LENGTH, num_classes=LANGUAGES)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    tokens, labels = generate_sentences()[split]
    return Data(
        inputs={"tokens": tokens},
        targets={LABELS: labels},
        classes=tuple(f"language {number}" for number in range(LANGUAGES)),
        source="generated sentences",
        preprocessing=f"numbers of the {LENGTH} syllables of a sentence, from 0 to {SYLLABLES - 1}",
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    return (torch.randint(SYLLABLES, (batch_size, LENGTH), generator=generator),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from qx_plugins.networks.training import train_token_classifier

    data = load_data("train", context)
    return train_token_classifier(
        model,
        data.inputs["tokens"],
        data.targets[LABELS],
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
    )


def transition_counts() -> np.ndarray:
    """Return counts of pairs of syllables, int64 ``[LANGUAGES, SYLLABLES, SYLLABLES]``: first, then next."""
    import numpy as np

    from qx_plugins.datasets.made_up_languages import draw_transitions

    return draw_transitions(
        np.random.RandomState(0),
        languages=LANGUAGES,
        syllables=SYLLABLES,
        favoured=FAVOURED,
        favoured_after=FAVOURED_AFTER,
    )


def generate_sentences() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return tokens int64 ``[n, LENGTH]`` and languages int64 ``[n]`` by split, the same for every seed."""
    import numpy as np

    from qx_plugins.datasets.made_up_languages import draw_sentences

    random = np.random.RandomState(1)
    languages = random.randint(LANGUAGES, size=sum(SENTENCES.values()))
    tokens = draw_sentences(random, transition_counts(), languages, LENGTH)
    ends = np.cumsum([0, *SENTENCES.values()])
    return {
        split: (tokens[start:end], languages[start:end].astype(np.int64))
        for split, start, end in zip(SENTENCES, ends[:-1], ends[1:], strict=True)
    }
