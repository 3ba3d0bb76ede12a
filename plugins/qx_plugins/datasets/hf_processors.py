"""Texts, images and sounds as models of transformers take them, by the processor that their folder has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from PIL import Image

from qx import DataError, UsageError, one_line

#: Files that a tokenizer may lie in, for messages.
TOKENIZER_FILES = "tokenizer.json, vocab.txt, vocab.json, spiece.model"
#: Label of tokens that are not judged.
IGNORED = -100
#: Most tokens of an item where neither tokenizer nor model has a limit: the longest item counts.
UNLIMITED = 1 << 20


def load_tokenizer(target: str, folder: Path) -> Any:
    """Return the tokenizer of a folder. Raises ``UsageError``."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # A file that is missing or damaged may raise anything.
    except Exception as error:
        files = TOKENIZER_FILES.split(", ")
        if any((folder / name).is_file() for name in files):
            raise UsageError(f"MODEL {target}: its tokenizer cannot be loaded: {one_line(error)}") from error
        raise UsageError(
            f"MODEL {target}: no tokenizer in this folder (looked for {TOKENIZER_FILES}): save it there"
        ) from error


def load_processor(target: str, folder: Path, *, is_image: bool) -> Any | None:
    """Return the image processor or the feature extractor of a folder; None without one.

    Raises ``UsageError``.
    """
    from transformers import AutoFeatureExtractor, AutoImageProcessor

    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        return None
    kind: Any = AutoImageProcessor if is_image else AutoFeatureExtractor
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise UsageError(f"MODEL {target}: its processor cannot be loaded: {one_line(error)}") from error


# Texts --------------------------------------------------------------------------------------------


@frozen
class Texts:
    """Texts as a model takes them: arrays ``[items, tokens]`` by name, and how they came about."""

    arrays: Mapping[str, np.ndarray]
    #: Place of the word of each token in its item, -1 where it has none ``[items, tokens]``; None where texts
    #: were not divided into words.
    words: np.ndarray | None
    #: How a text becomes inputs, in one sentence.
    preprocessing: str


def encode_texts(
    tokenizer: Any, columns: Sequence[Sequence[Any]], names: Sequence[str], *, limit: int, in_words: bool
) -> Texts:
    """Tokenize the texts of one column, or the pairs of two, and pad all to the length of the longest.

    ``limit`` is the most tokens of an item. ``in_words`` says that each text is a list of words. Raises
    ``DataError``.
    """
    if in_words and not tokenizer.is_fast:
        raise DataError(
            f"{type(tokenizer).__name__} does not say which word a token belongs to: save a fast tokenizer"
        )
    options = {"is_split_into_words": True} if in_words else {}
    padding = _padding_token(tokenizer)
    encoded = tokenizer(*map(list, columns), truncation=True, max_length=limit, **options)
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    length = int(lengths.max())
    if length == 0:
        raise DataError(f"{type(tokenizer).__name__} gives no tokens for any of {len(lengths):,} texts")
    cut = 0
    if length == limit:
        whole = tokenizer(*map(list, columns), truncation=False, **options)
        cut = sum(len(ids) > limit for ids in whole["input_ids"])
    padded = tokenizer.pad(
        {name: list(encoded[name]) for name in encoded},
        padding="max_length",
        max_length=length,
        return_attention_mask=True,
        return_tensors="np",
    )
    words = None
    if in_words:
        words = np.full((len(lengths), length), -1)
        for row, count in enumerate(lengths):
            start = length - count if tokenizer.padding_side == "left" else 0
            places = encoded.word_ids(row)
            words[row, start : start + count] = [-1 if place is None else place for place in places]
    listed = " and ".join(names)
    sentence = (
        f"{listed}, tokenized by {type(tokenizer).__name__}, padded on the {tokenizer.padding_side}{padding} "
        f"to {length} tokens, as many as the longest item has"
    )
    if cut:
        sentence += f" after {cut:,} of {len(lengths):,} items were cut"
    arrays = {name: np.asarray(array).astype(np.int64) for name, array in padded.items()}
    return Texts(arrays, words, sentence)


def _padding_token(tokenizer: Any) -> str:
    """Return which token pads, in words; nothing where it is the tokenizer's own."""
    if tokenizer.pad_token is not None:
        return ""
    if tokenizer.eos_token is None:
        raise DataError(f"{type(tokenizer).__name__} has no token that pads, and none that ends a text")
    tokenizer.pad_token = tokenizer.eos_token
    return f" with {tokenizer.eos_token}, since it has no token of its own for that,"


def most_tokens(tokenizer: Any, settings: Mapping[str, Any], asked: int) -> int:
    """Return the most tokens of an item that tokenizer and model take, or those asked for if fewer.

    Raises ``UsageError``.
    """
    limits = [int(tokenizer.model_max_length)]
    positions = settings.get("max_position_embeddings") or settings.get("n_positions")
    if positions:
        # Models like RoBERTa number positions from behind that of the padding.
        kind = str(settings.get("model_type"))
        has_offset = "roberta" in kind or kind in ("camembert", "mpnet", "longformer", "ibert", "esm")
        limits.append(int(positions) - (int(settings.get("pad_token_id") or 1) + 1 if has_offset else 0))
    limit = min(UNLIMITED, *limits)
    if asked > limit:
        raise UsageError(f"--set own_model.tokens={asked}: model and tokenizer take {limit} at most")
    return asked or limit


# Images -------------------------------------------------------------------------------------------


class ProcessedImages:
    """Image files indexed like an array ``[n, channels, height, width]``, processed when they are indexed."""

    def __init__(self, paths: Sequence[Path], processor: Any, name: str) -> None:
        self._paths, self._processor, self._name = np.array(list(map(str, paths)), object), processor, name
        first = self._process(str(paths[0]))
        self.shape: tuple[int, ...] = (len(paths), *first.shape)
        self.dtype, self.ndim = first.dtype, first.ndim + 1

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return one item for an integer, ``[k, ...]`` for a slice or an array. Raises ``DataError``."""
        chosen = self._paths[key]
        if isinstance(chosen, str):
            return self._process(chosen)
        items = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for index, path in enumerate(chosen.tolist()):
            item = self._process(path)
            if item.shape != self.shape[1:]:
                raise DataError(
                    f"{path}: {type(self._processor).__name__} gives {list(item.shape)}, and of the first "
                    f"image {list(self.shape[1:])}: all items must have one shape"
                )
            items[index] = item
        return items

    def _process(self, path: str) -> np.ndarray:
        try:
            with Image.open(path) as image:
                return process_image(self._processor, image.convert("RGB"), self._name)
        except MemoryError:
            raise
        except Exception as error:  # A damaged file can make a decoder raise anything.
            raise DataError(f"{path} cannot be used: {one_line(error)}") from error


def process_image(processor: Any, image: Image.Image, name: str) -> np.ndarray:
    """Return an image as the processor gives it to the model under a name, float32."""
    item = processor(images=image, return_tensors="pt")[name][0]
    return np.asarray(item.numpy(), dtype=np.float32)


# Sounds -------------------------------------------------------------------------------------------


def read_sound(path: Path, rate: int) -> tuple[np.ndarray, int]:
    """Return a ``.wav`` file as float32 ``[samples]`` at a rate, and the rate of the file.

    Channels are averaged. Raises ``DataError``.
    """
    import warnings

    from scipy.io import wavfile
    from scipy.signal import resample_poly

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own, samples = wavfile.read(path)
    # A damaged file may raise anything.
    except Exception as error:
        raise DataError(f"{path} is no .wav file that can be read: {one_line(error)}") from error
    if samples.dtype.kind in "iu":
        span = np.iinfo(samples.dtype)
        middle = 128.0 if samples.dtype == np.uint8 else 0.0
        samples = (samples - middle) / (span.max - middle)
    sound = np.asarray(samples, dtype=np.float32)
    if sound.ndim == 2:
        sound = sound.mean(1)
    if not len(sound):
        raise DataError(f"{path} is empty")
    if own != rate:
        ratio = Fraction(rate, own)
        sound = resample_poly(sound, ratio.numerator, ratio.denominator).astype(np.float32)
    return sound, int(own)


def extract_features(extractor: Any, sounds: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return sounds as the model takes them, padded to the longest: arrays ``[items, ...]`` by name."""
    encoded = extractor(
        list(sounds), sampling_rate=extractor.sampling_rate, padding=True, return_tensors="np"
    )
    return {
        name: np.asarray(array).astype(np.float32 if np.asarray(array).dtype.kind == "f" else np.int64)
        for name, array in encoded.items()
    }
