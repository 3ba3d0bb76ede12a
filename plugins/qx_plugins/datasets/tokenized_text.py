"""A file of documents with their tokens, so that whoever measures needs no tokenizer; and what makes one."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, frozen

from qx import DataError, UsageError

#: The token that begins a document, and its number.
BEGIN, BEGIN_ID = "<|document|>", 0


@frozen(kw_only=True)
class Document:
    """A text and its tokens, of which the first begins a document."""

    name: str
    text: str
    tokens: tuple[int, ...]


@frozen(kw_only=True)
class TokenizedText:
    """Documents by split, and the number of bytes of each token ``[vocabulary]``."""

    source: str
    token_bytes: np.ndarray
    splits: Mapping[str, tuple[Document, ...]]
    #: Perplexities of models that count tokens, by name, on the text that is evaluated.
    baselines: Mapping[str, float] = Factory(dict)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that there are."""
        return len(self.token_bytes)

    def write(self, path: Path) -> None:
        """Write the file: compressed JSON, the same bytes for the same documents."""
        content = {
            "source": self.source,
            "token_bytes": self.token_bytes.tolist(),
            "baselines": dict(self.baselines),
            "splits": {
                split: [
                    {"name": document.name, "text": document.text, "tokens": _packed(document.tokens)}
                    for document in documents
                ]
                for split, documents in self.splits.items()
            },
        }
        data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        path.write_bytes(gzip.compress(data, 9, mtime=0))

    @classmethod
    def read(cls, path: Path) -> TokenizedText:
        """Read the file that ``write`` has written. Raises ``DataError``."""
        try:
            content = json.loads(gzip.decompress(path.read_bytes()))
            splits = {
                split: tuple(
                    Document(name=part["name"], text=part["text"], tokens=_unpacked(part["tokens"]))
                    for part in documents
                )
                for split, documents in content["splits"].items()
            }
            baselines = {name: float(value) for name, value in content["baselines"].items()}
            token_bytes = np.array(content["token_bytes"], dtype=np.int64)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged ({type(error).__name__}): install the package again"
            ) from error
        return cls(source=str(content["source"]), token_bytes=token_bytes, splits=splits, baselines=baselines)


def _packed(tokens: Sequence[int]) -> str:
    return base64.b64encode(np.asarray(tokens, dtype="<u2").tobytes()).decode("ascii")


def _unpacked(text: str) -> tuple[int, ...]:
    return tuple(np.frombuffer(base64.b64decode(text), dtype="<u2").tolist())


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Return a byte-level tokenizer of byte pairs (Sennrich et al., 2016) with ``vocabulary`` tokens.

    Whatever bytes a text has, its tokens give the text again. Raises ``UsageError`` where the library
    tokenizers is not installed.
    """
    tokenizers = _import_tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BEGIN],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def read_tokenizer(path: Path) -> Any:
    """Return the tokenizer in a file. Raises ``UsageError`` where the library tokenizers is not installed."""
    return _import_tokenizers().Tokenizer.from_file(str(path))


def _import_tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UsageError("training needs the library tokenizers: pip install tokenizers") from error
    return tokenizers


def bytes_of_tokens(tokenizer: Any) -> np.ndarray:
    """Return the number of bytes of each token ``[vocabulary]``; that which begins a document has none.

    A byte-level tokenizer has a letter for each byte.
    """
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for token, number in tokenizer.get_vocab().items():
        lengths[number] = 0 if token == BEGIN else len(token)
    return lengths


def tokenized(tokenizer: Any, name: str, text: str) -> Document:
    """Return a text as a document."""
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    return Document(name=name, text=text, tokens=(BEGIN_ID, *tokens))


def cut(tokenizer: Any, document: Document, count: int) -> Document:
    """Return the beginning of a document, of ``count`` tokens."""
    tokens = document.tokens[:count]
    return Document(name=document.name, text=tokenizer.decode(list(tokens[1:])), tokens=tokens)
