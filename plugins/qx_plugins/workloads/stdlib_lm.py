"""A small decoder of the Llama shape that has learnt the source of Python's standard library.

Its text is real, and every installation has it. The modules that are held out, with their tokens, lie beside
the weights, so that every version of Python measures on the same text, and none needs a tokenizer.
"""

from __future__ import annotations

import hashlib
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qx import Context, Data, Option, Unsupported, UsageError, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from qx_plugins.datasets.stdlib_source import Module
    from qx_plugins.datasets.tokenized_text import TokenizedText

#: Number of tokens, and of those that the model takes at once.
VOCABULARY, POSITIONS = 4_096, 512
#: Smallest length of an input: the shortest at which exported programs have scores at two positions.
SHORTEST = 32
#: Length of the prompts and contexts that are timed where the user names none.
TIMED_LENGTH = 128
#: Number of windows that a first look evaluates.
QUICK_ITEMS = 32
#: Files beside the weights, in the package ``qx_weights``.
TEXT, TOKENIZER, LICENCE = "stdlib_lm_text.json.gz", "stdlib_lm_tokenizer.json", "stdlib_lm_LICENSE.txt"
#: Number of documents for calibration, out of what the model was trained on, and tokens of each.
CALIBRATION, CALIBRATION_TOKENS = 64, 1_024


@hookimpl
def describe() -> Workload:
    return Workload(
        name="stdlib_lm",
        summary="A decoder of 6.2 million parameters on 128 modules of Python's standard library.",
        weights="qx_weights:stdlib_lm.pt",
        batch_sizes=(1,),
        lengths=(TIMED_LENGTH,),
        quick_items=QUICK_ITEMS,
        metrics=("kl_divergence",),
        options=(
            Option(
                name="stride",
                default=256,
                minimum=1,
                maximum=POSITIONS,
                help="Tokens from one window of a document to the next; windows have 512.",
            ),
            Option(
                name="document_tokens",
                default=POSITIONS,
                minimum=SHORTEST,
                help="Tokens of each document that are evaluated, from its beginning.",
            ),
            Option(name="epochs", default=4, help="Passes over the training text, for `qx train`."),
            Option(
                name="steps",
                default=0,
                minimum=0,
                help="Steps of 8 windows, for `qx train`, in place of epochs; 0 for these.",
            ),
            Option(
                name="library",
                default="",
                help="Folder of the standard library to train on; empty for that of this Python.",
            ),
            Option(
                name="text_folder",
                default="",
                help="Folder of tokenizer and text, which `qx train` makes; empty for the committed ones.",
            ),
        ),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.language_models import Scorer
    from qx_plugins.networks.llama import LlamaDecoder, LlamaShape

    if context.quantizable:
        raise Unsupported(
            "LlamaDecoder has no form with quantize and dequantize stubs: eager mode has no static 8-bit "
            "normalisation (decoder.layers.0.norm_attention, RMSNorm)"
        )
    return Scorer(LlamaDecoder(LlamaShape(vocabulary=VOCABULARY, positions=POSITIONS)))


@hookimpl
def load_data(split: str, context: Context) -> Data:
    from qx_plugins.datasets.texts import window_arrays

    folder = str(context.options["text_folder"])
    text, limit = read_text(Path(folder) if folder else None), context.options["document_tokens"]
    documents = [document.tokens[:limit] for document in text.splits[split]]
    stride = context.options["stride"]
    tokens, targets = window_arrays(documents, size=POSITIONS, stride=stride, token_bytes=text.token_bytes)
    return Data(
        inputs={"tokens": tokens},
        targets=targets,
        source=f"{text.source}: {len(documents)} modules, windows of {POSITIONS} tokens, stride {stride}",
        preprocessing="numbers of tokens, the first of a document is 0; tokens as the tokenizer gives them",
        task="language_modelling",
    )


@hookimpl
def example_inputs(batch_size: int, length: int | None, context: Context) -> Mapping[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    size = (batch_size, length or POSITIONS)
    return {"tokens": torch.randint(VOCABULARY, size, generator=generator)}


@hookimpl
def input_lengths() -> tuple[int, int]:
    return SHORTEST, POSITIONS


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    import numpy as np

    from qx_plugins.networks.lm_training import train_decoder

    stream = np.asarray(make_text(context) if context.options["text_folder"] else read_stream(context))
    digest = hashlib.sha256(stream.astype("<i8").tobytes()).hexdigest()[:16]
    with tempfile.TemporaryDirectory(prefix="qx-") as temporary:
        train_decoder(
            model.decoder,  # type: ignore[arg-type]
            stream,
            length=POSITIONS,
            epochs=context.options["epochs"],
            seed=context.seed,
            progress=lambda done, words: context.progress(0.05 + 0.95 * done, words),
            steps=context.options["steps"],
            checkpoint=(context.cache or Path(temporary)) / f"stdlib_lm-{digest}-{context.seed}.pt",
        )
    return model.half()


def weights_folder() -> Path:
    """Return the folder of the package that has the weights."""
    import qx_weights

    return Path(next(iter(qx_weights.__path__)))


@cache
def read_text(folder: Path | None = None) -> TokenizedText:
    """Return the text of a folder: the modules that are held out, and some of those for training.

    Without a folder it is the committed one. Raises ``UsageError`` where there is none.
    """
    from qx_plugins.datasets.tokenized_text import TokenizedText

    path = (folder or weights_folder()) / TEXT
    if folder is not None and not path.is_file():
        raise UsageError(
            f"--set stdlib_lm.text_folder={folder}: it has no {TEXT}; "
            f"`qx train stdlib_lm`, with the same option, makes it"
        )
    return TokenizedText.read(path)


def read_stream(context: Context) -> list[int]:
    """Return the tokens to train on: of the modules of the library that are not in the committed text.

    They are those of the committed tokenizer, so that what is trained on them can be evaluated on that text.
    """
    from qx_plugins.datasets import stdlib_source, tokenized_text

    tokenizer = tokenized_text.read_tokenizer(weights_folder() / TOKENIZER)
    evaluated = [stdlib_source.Module(part.name, part.text) for part in read_text().splits["test"]]
    modules = stdlib_source.modules_without(_read_library(context), evaluated)
    context.progress(0.02, f"reading the tokens of {len(modules):,} modules")
    documents = (tokenized_text.tokenized(tokenizer, module.name, module.text) for module in modules)
    return [token for document in documents for token in document.tokens]


def make_text(context: Context) -> list[int]:
    """Write tokenizer and text into the option's folder, and return the tokens to train on.

    The tokenizer sees the modules for training alone. Of these the text has some, cut, for calibration.
    """
    from qx_plugins.datasets import ngrams, stdlib_source, tokenized_text

    folder, library = Path(str(context.options["text_folder"])), _library_folder(context)
    folder.mkdir(parents=True, exist_ok=True)
    modules, held_out = stdlib_source.split_modules(_read_library(context))
    context.progress(0.02, f"making a tokenizer from {len(modules):,} modules")
    tokenizer = tokenized_text.train_tokenizer((module.text for module in modules), VOCABULARY)

    training, evaluation = (
        [tokenized_text.tokenized(tokenizer, module.name, module.text) for module in part]
        for part in (modules, held_out)
    )
    stream = [token for document in training for token in document.tokens]
    limit = int(context.options["document_tokens"])
    evaluated = [document.tokens[:limit] for document in evaluation]
    longer = [document for document in training if len(document.tokens) > CALIBRATION_TOKENS]
    chosen = longer[:: max(1, len(longer) // CALIBRATION)][:CALIBRATION]
    text = tokenized_text.TokenizedText(
        source=f"the standard library of {library.name}",
        token_bytes=tokenized_text.bytes_of_tokens(tokenizer),
        baselines={
            name: ngrams.perplexity(stream, evaluated, vocabulary=VOCABULARY, order=order)
            for name, order in (("unigram", 1), ("bigram", 2), ("trigram", 3))
        },
        splits={
            "train": tuple(tokenized_text.cut(tokenizer, part, CALIBRATION_TOKENS) for part in chosen),
            "test": tuple(evaluation),
        },
    )
    tokenizer.save(str(folder / TOKENIZER))
    text.write(folder / TEXT)
    return stream


def _library_folder(context: Context) -> Path:
    return Path(str(context.options["library"]) or sysconfig.get_paths()["stdlib"])


def _read_library(context: Context) -> list[Module]:
    from qx_plugins.datasets import stdlib_source

    library = _library_folder(context)
    context.progress(0.01, f"reading {library}")
    return stdlib_source.read_modules(library)
