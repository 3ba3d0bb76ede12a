"""Texts for decoders of transformers: documents in windows of tokens, or tokens that are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import evolve

from qx import Context, Data, DataError, UsageError
from qx_plugins.datasets import hf_processors
from qx_plugins.datasets.described_inputs import GENERATED, DescribedInput, draw_examples, draw_split
from qx_plugins.datasets.splits import indices_aside
from qx_plugins.datasets.tables import read_tables
from qx_plugins.datasets.texts import window_arrays
from qx_plugins.networks.hf_decoders import SHORTEST, WINDOW, is_decoder
from qx_plugins.networks.hf_models import Source, find_source

#: Name of the only input of a decoder.
TOKENS = "tokens"


def positions_of(source: Source) -> int | None:
    """Return the largest number of tokens of a text; None where the settings do not say."""
    settings = source.settings
    positions = settings.get("max_position_embeddings") or settings.get("n_positions")
    return int(positions) if positions else None


def window_of(source: Source, context: Context) -> int:
    """Return the number of tokens of a window. Raises ``UsageError`` where the model has fewer positions."""
    asked, positions = int(context.options["tokens"]), positions_of(source)
    if positions is not None and asked > positions:
        raise UsageError(f"--set own_model.tokens={asked}: the model has {positions:,} positions")
    return asked or min(WINDOW, positions or WINDOW)


def lengths_of(source: Source, context: Context) -> tuple[int, int] | None:
    """Return the smallest and the largest length of the inputs; None for a window that is too short."""
    window = window_of(source, context)
    return (SHORTEST, window) if window >= 2 * SHORTEST else None


def load_documents(source: Source, columns: Sequence[str], place: Path, context: Context) -> dict[str, Data]:
    """Return both splits of tables with a document in each row. Of a single table, documents are set aside.

    ``columns`` has the name of the column with texts. Raises ``DataError`` and ``UsageError``.
    """
    tokenizer = hf_processors.load_tokenizer(source.target, source.folder)
    _check_tokenizer(source, tokenizer)
    tables = read_tables(place)
    documents: dict[str, list[list[int]]] = {}
    for split, table in tables.items():
        texts = [_text(row, columns[0], where) for row, where in zip(table.rows, table.places, strict=True)]
        documents[split] = _tokens(tokenizer, texts)
    name = next(iter(tables.values())).source
    if "all" in documents:
        calibration, rest = indices_aside(None, len(documents["all"]), None)
        whole = documents["all"]
        documents = {
            "train": [whole[index] for index in calibration],
            "test": [whole[index] for index in rest],
        }
    window = window_of(source, context)
    stride = max(1, window // 2)
    return {
        split: _windows(part, window, stride, f"{name}: {len(part):,} documents", tokenizer)
        for split, part in documents.items()
    }


def _check_tokenizer(source: Source, tokenizer: Any) -> None:
    rows = source.settings.get("vocab_size")
    if rows is not None and len(tokenizer) > int(rows):
        raise UsageError(
            f"MODEL {source.target}: the tokenizer has {len(tokenizer):,} tokens, and the model's embedding "
            f"{int(rows):,}: they do not belong together"
        )


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{place}: a {type(value).__name__} in column {name!r}; expected a text")
    return value


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text, after the one that begins a text where the tokenizer has one."""
    encoded = tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
    begin = tokenizer.bos_token_id
    if begin is None:
        return [list(tokens) for tokens in encoded]
    return [list(tokens) if tokens[:1] == [begin] else [begin, *tokens] for tokens in encoded]


def _windows(
    documents: Sequence[Sequence[int]], window: int, stride: int, source: str, tokenizer: Any
) -> Data:
    try:
        tokens, targets = window_arrays(documents, size=window, stride=stride)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    return Data(
        inputs={TOKENS: tokens},
        targets=targets,
        source=f"{source}, windows of {window} tokens, stride {stride}",
        preprocessing=f"numbers of tokens by {type(tokenizer).__name__}, in windows of {window}",
        task="language_modelling",
    )


def generate_texts(source: Source, split: str, context: Context) -> Data:
    """Return tokens that are drawn evenly, in windows. Nothing says which should follow."""
    drawn = draw_split(_described(source, context), split)
    return Data(inputs=drawn, source=GENERATED, task="language_modelling")


def _described(source: Source, context: Context) -> tuple[DescribedInput, ...]:
    last = int(source.settings.get("vocab_size") or 2) - 1
    described = DescribedInput(TOKENS, "int64", (window_of(source, context),), (0, last))
    return (evolve(described, free=0),)


def example_texts(
    source: Source, batch_size: int, length: int | None, context: Context
) -> dict[str, torch.Tensor]:
    """Return example inputs by name."""
    (drawn,) = draw_examples(_described(source, context), batch_size, length)
    return {TOKENS: torch.from_numpy(drawn)}


def lengths_of_transformers(context: Context) -> tuple[int, int] | None:
    """Return the lengths of the inputs of the decoder that the options name; None for another model."""
    source = find_source(str(context.options["model"]), context)
    return lengths_of(source, context) if is_decoder(source) else None
