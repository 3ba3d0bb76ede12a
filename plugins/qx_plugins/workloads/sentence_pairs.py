"""Pairs of sentences of six made-up languages: are both of one language? Generated, so it needs no download.

The sentences are drawn as those of ``languages_encoder``, in other languages, and have 12 to 24 syllables.
The probability that both are of one language can be computed exactly, so the best possible accuracy is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Unsupported, Workload, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import torch

LANGUAGES, SYLLABLES = 6, 24
#: Least and largest number of syllables of a sentence. Shorter ones are filled up with 0, ``PADDING``.
LENGTHS = (12, 24)
PADDING = 0
PAIRS = {"train": 24_000, "test": 2_000}
#: Largest factors between two languages, as of ``draw_transitions``.
FAVOURED, FAVOURED_AFTER = 10, 8
FIRST, SECOND = "first", "second"


@hookimpl
def describe() -> Workload:
    return Workload(
        name="sentence_pairs",
        summary="A transformer of 70,146 parameters on 2,000 pairs of sentences of made-up languages.",
        weights="qx_weights:sentence_pairs.pt",
        options=(Option(name="epochs", default=4, help="Passes over the training data, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.pair_encoder import PairEncoder

    if context.quantizable:
        raise Unsupported(
            "PairEncoder has no form with quantize and dequantize stubs: eager mode has no static 8-bit "
            "attention (attention, MaskedAttention)"
        )
    return PairEncoder(vocabulary=SYLLABLES + 1, length=LENGTHS[1], padding=PADDING)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    first, second, labels, _ = generate_pairs()[split]
    return Data(
        inputs={FIRST: first, SECOND: second},
        targets={LABELS: labels},
        classes=("two languages", "one language"),
        source="generated pairs of sentences",
        preprocessing=f"numbers of the syllables of each sentence, from 1 to {SYLLABLES}, filled up with "
        f"{PADDING} to {LENGTHS[1]}",
        task="classification",
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> dict[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    examples = {}
    for name in (FIRST, SECOND):
        tokens = torch.randint(1, SYLLABLES + 1, (batch_size, LENGTHS[1]), generator=generator)
        lengths = torch.randint(LENGTHS[0], LENGTHS[1] + 1, (batch_size, 1), generator=generator)
        examples[name] = torch.where(torch.arange(LENGTHS[1]) < lengths, tokens, PADDING)
    return examples


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from torch.nn.functional import cross_entropy

    from qx_plugins.networks.training import train_by_adamw

    data = load_data("train", context)
    return train_by_adamw(
        model,
        data,
        lambda outputs, targets: cross_entropy(outputs, targets[LABELS]),
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
        learning_rate=3e-3,
    )


def transition_counts() -> np.ndarray:
    """Return counts of pairs of syllables, int64 ``[LANGUAGES, SYLLABLES, SYLLABLES]``: first, then next."""
    import numpy as np

    from qx_plugins.datasets.made_up_languages import draw_transitions

    return draw_transitions(
        np.random.RandomState(2),
        languages=LANGUAGES,
        syllables=SYLLABLES,
        favoured=FAVOURED,
        favoured_after=FAVOURED_AFTER,
    )


def generate_pairs() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Return both sentences int64 ``[n, 24]``, labels ``[n]`` and languages ``[n, 2]`` by split.

    A label is 1 where both sentences are of one language. They are the same for every seed.
    """
    import numpy as np

    from qx_plugins.datasets.made_up_languages import draw_sentences

    random = np.random.RandomState(3)
    transitions, count = transition_counts(), sum(PAIRS.values())
    labels = random.randint(2, size=count)
    first = random.randint(LANGUAGES, size=count)
    other = (first + random.randint(1, LANGUAGES, size=count)) % LANGUAGES
    languages = np.stack([first, np.where(labels == 1, first, other)], axis=1)
    sentences = []
    for language in languages.T:
        tokens = 1 + draw_sentences(random, transitions, language, LENGTHS[1])
        lengths = random.randint(LENGTHS[0], LENGTHS[1] + 1, (count, 1))
        sentences.append(np.where(np.arange(LENGTHS[1]) < lengths, tokens, PADDING))
    ends = np.cumsum([0, *PAIRS.values()])
    return {
        split: (
            sentences[0][start:end],
            sentences[1][start:end],
            labels[start:end].astype(np.int64),
            languages[start:end],
        )
        for split, start, end in zip(PAIRS, ends[:-1], ends[1:], strict=True)
    }


def most_probable(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the more probable label of each pair ``[n]``: no model can be right more often."""
    import numpy as np

    from qx_plugins.datasets.made_up_languages import log_likelihoods

    likelihoods = []
    for sentences in (first, second):
        lengths = (sentences != PADDING).sum(axis=1)
        logarithms = log_likelihoods(transition_counts(), np.maximum(sentences - 1, 0), lengths)
        likelihoods.append(np.exp(logarithms - logarithms.max(axis=0)))
    same = (likelihoods[0] * likelihoods[1]).sum(axis=0)
    different = likelihoods[0].sum(axis=0) * likelihoods[1].sum(axis=0) - same
    label: np.ndarray = (same / LANGUAGES > different / (LANGUAGES * (LANGUAGES - 1))).astype(np.int64)
    return label
