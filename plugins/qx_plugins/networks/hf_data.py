"""Data of models of transformers: tables of texts, class folders of images or sounds, or generated items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve
from PIL import Image

from qx import LABELS, Context, Data, DataError, UsageError
from qx_plugins.datasets import hf_processors, image_folder
from qx_plugins.datasets.described_inputs import (
    GENERATED,
    DescribedInput,
    draw_examples,
    draw_split,
    parse_inputs,
)
from qx_plugins.datasets.splits import set_aside
from qx_plugins.datasets.tables import SUFFIXES, Table, find_columns, is_tables, read_tables
from qx_plugins.networks.hf_decoders import is_decoder
from qx_plugins.networks.hf_models import Source, find_source, import_transformers
from qx_plugins.networks.hf_texts import example_texts, generate_texts, load_documents

#: Columns of texts by their usual names: a pair before a single one.
TEXTS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "context"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text", "text_pair"),
    *(("text",), ("sentence",), ("content",), ("review",), ("question",)),
)
#: Columns of words, and of the label of each word.
WORDS, TAGS = (("tokens",), ("words",)), (("tags",), ("ner_tags",), ("labels",), ("pos_tags",))
#: Columns of the label of an item.
LABEL_COLUMNS = (("label",), ("labels",), ("target",), ("score",))
#: Tokens of generated texts, where model and tokenizer take so many.
GENERATED_TOKENS = 128
#: Name of the only input of models of images, and of the arrays of models of texts.
IDS, MASK = "input_ids", "attention_mask"
#: Folders of class folders of each split.
FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}
#: Most labels that a message lists.
SHOWN = 12


def reads(place: Path | None) -> bool:
    """Return whether data at a path are read here: tables and class folders, or generated where none are."""
    return place is None or place.is_dir() or is_tables(place)


def load_transformers_data(split: str, context: Context) -> Data:
    """Return a split of the data of a model of transformers. Raises ``DataError`` or ``UsageError``."""
    source = find_source(str(context.options["model"]), context)
    task, place = source.task, context.data
    kind = _input_of(source)
    if is_decoder(source) and place is None:
        return generate_texts(source, split, context)
    if place is None:
        return evolve(_generate(source, kind, split, context), task=task, classes=_classes(source, ()))
    key = (source.target, str(place), *(str(context.options[name]) for name in ("text", "label", "tokens")))
    if key not in _loaded:
        if is_decoder(source) and is_tables(place):
            first = next(iter(read_tables(place).values()))
            names = _text_columns(first, context, in_words=False)
            _loaded[key] = load_documents(source, names, place, context)
        elif is_tables(place):
            _loaded[key] = _load_tables(source, kind, place, context)
        else:
            _loaded[key] = _load_folders(source, kind, place, context)
    return _loaded[key][split]


#: Splits that were loaded, since both have one length of texts.
_loaded: dict[tuple[str, ...], dict[str, Data]] = {}


def _input_of(source: Source) -> str:
    """Return the name of the main input: of texts, images or sounds. Raises ``UsageError`` for others."""
    from qx_plugins.networks.hf_models import _class_of

    return str(_class_of(source).main_input_name)  # type: ignore[attr-defined]


def is_of_images(name: str) -> bool:
    """Return whether the main input of a model is an image."""
    return name == "pixel_values"


def _classes(source: Source, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes, where outputs are scores of them."""
    if source.task in ("classification", "token_classification", "multi_label_classification"):
        return source.labels
    return source.labels if source.task == "segmentation" and targets else ()


# Tables -------------------------------------------------------------------------------------------


def _load_tables(source: Source, kind: str, place: Path, context: Context) -> dict[str, Data]:
    """Return both splits of tables of texts. Where there is one table, items are set aside from it."""
    if kind != IDS:
        raise DataError(
            f"--data {place.name}: a table has texts, and {source.architecture} takes {kind}: give a folder "
            f"{{train,test}}/<class>/<file>"
        )
    tables = read_tables(place)
    tokenizer = hf_processors.load_tokenizer(source.target, source.folder)
    limit = hf_processors.most_tokens(tokenizer, source.settings, int(context.options["tokens"]))
    in_words = source.task == "token_classification"
    names = _text_columns(next(iter(tables.values())), context, in_words=in_words)
    columns: list[list[Any]] = [
        [
            _text(row, name, where, in_words=in_words)
            for table in tables.values()
            for row, where in _rows(table)
        ]
        for name in names
    ]
    context.progress(0.2, "tokenizing texts")
    shown = [f"column {name!r}" for name in names]
    texts = hf_processors.encode_texts(tokenizer, columns, shown, limit=limit, in_words=in_words)
    inputs = _in_order(texts.arrays, source)
    parts, start = {}, 0
    for name, table in tables.items():
        rows = slice(start, start + len(table.rows))
        start = rows.stop
        words = None if texts.words is None else texts.words[rows]
        targets = _targets(source, table, words, context)
        parts[name] = Data(
            inputs={key: array[rows] for key, array in inputs.items()},
            targets=targets,
            classes=_classes(source, tuple(targets)),
            source=table.source,
            preprocessing=texts.preprocessing,
            task=source.task,
        )
    return set_aside(parts["all"]) if "all" in parts else parts


def _rows(table: Table) -> zip[tuple[Mapping[str, Any], str]]:
    return zip(table.rows, table.places, strict=True)


def _text_columns(table: Table, context: Context, *, in_words: bool) -> tuple[str, ...]:
    names = find_columns(
        table,
        str(context.options["text"]),
        WORDS if in_words else TEXTS,
        what="words" if in_words else "texts",
        option="text",
    )
    if len(names) > (1 if in_words else 2):
        raise UsageError(
            f"--set own_model.text={context.options['text']}: expected {'one column' if in_words else 'two'}"
        )
    return names


def _text(row: Mapping[str, Any], name: str, place: str, *, in_words: bool) -> str | list[str]:
    """Return a text, or its words, of a row. Raises ``DataError``."""
    value = row.get(name)
    if in_words:
        return [str(word) for word in _list_of(value, name, place)]
    if not isinstance(value, str):
        what = "nothing" if value is None else f"a {type(value).__name__}"
        raise DataError(f"{place}: {what} in column {name!r}; expected a text")
    return value


def _list_of(value: Any, name: str, place: str) -> list[Any]:
    """Return the words or tags of a row: a list, the JSON of one, or a text with spaces between them."""
    import json

    if isinstance(value, str):
        if not value.startswith("["):
            return value.split()
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{place}: column {name!r} holds no list ({error})") from error
    if not isinstance(value, list):
        raise DataError(f"{place}: column {name!r} holds {type(value).__name__}; expected a list of words")
    return value


def _in_order(arrays: Mapping[str, np.ndarray], source: Source) -> dict[str, np.ndarray]:
    """Return those arrays that the model takes, in the order of its arguments."""
    return {name: arrays[name] for name in source.forward if name in arrays}


# Labels -------------------------------------------------------------------------------------------


def _targets(
    source: Source, table: Table, words: np.ndarray | None, context: Context
) -> dict[str, np.ndarray]:
    """Return the right answers of a table, empty where it has none. Raises ``DataError``."""
    if source.task in ("language_modelling", "question_answering"):
        return {}
    usual = LABEL_COLUMNS if words is None else TAGS
    named = str(context.options["label"])
    columns = find_columns(table, named, usual, what="labels", option="label", required=False)
    if not columns:
        return {}
    if len(columns) > 1:
        raise UsageError(f"--set own_model.label={named}: expected one column")
    name = columns[0]
    if words is not None:
        tags = [
            _tags(row, name, place, marks, source)
            for (row, place), marks in zip(_rows(table), words, strict=True)
        ]
        return {LABELS: np.stack(tags)}
    read = _reader_of(source, table, name)
    values = [read(row.get(name), f"{place}, column {name!r}") for row, place in _rows(table)]
    return {LABELS: np.array(values)}


def _reader_of(source: Source, table: Table, name: str) -> Callable[[Any, str], Any]:
    """Return what reads the label of an item, by the task."""
    if source.task == "regression":
        return _amount
    if source.task == "embedding":
        # Items of one label belong together, whatever the model knows.
        names = sorted({str(row.get(name)) for row in table.rows})
        numbers = {label: index for index, label in enumerate(names)}
        return lambda value, _: numbers[str(value)]
    classes = Classes(source)
    return classes.several if source.task == "multi_label_classification" else classes.number


def _amount(value: Any, place: str) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = float("nan")
    if not np.isfinite(amount):
        raise DataError(f"{place}: {value!r:.80} is no number")
    return amount


class Classes:
    """The classes of a model, by which labels become numbers."""

    def __init__(self, source: Source) -> None:
        self._count = len(source.labels)
        own = source.settings.get("label2id") or {}
        self._numbers = {name: index for index, name in enumerate(source.labels)}
        self._numbers |= {str(name): int(index) for name, index in own.items()}
        lower = [name.casefold() for name in self._numbers]
        self._folded = {
            name.casefold(): index
            for name, index in self._numbers.items()
            if lower.count(name.casefold()) == 1
        }

    def find(self, value: Any) -> int | None:
        """Return the number of a class by its name or its number; None where the model has no such class."""
        text = str(value).strip()
        for names, word in ((self._numbers, text), (self._folded, text.casefold())):
            if isinstance(value, str) and word in names:
                return names[word]
        if isinstance(value, (str, int, float)):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                return None
            return int(number) if number.is_integer() and 0 <= number < self._count else None
        return None

    def number(self, value: Any, place: str) -> int:
        """Return the number of a class. Raises ``DataError`` where the model has no such class."""
        number = self.find(value)
        if number is None:
            names = list(self._numbers)
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise DataError(
                f"{place}: label {value!r:.80} is none of the model's: {', '.join(names[:SHOWN])}{more}, or "
                f"0 to {self._count - 1}"
            )
        return number

    def several(self, value: Any, place: str) -> list[int]:
        """Return 1 for each class that a list of labels names, or a list of zeros and ones as it is."""
        labels = _list_of(value, "labels", place)
        if len(labels) == self._count and all(label in (0, 1) for label in labels):
            return [int(label) for label in labels]
        chosen = {self.number(label, place) for label in labels}
        return [int(index in chosen) for index in range(self._count)]


def _tags(row: Mapping[str, Any], name: str, place: str, marks: np.ndarray, source: Source) -> np.ndarray:
    """Return the class of each token: that of its word for the first token of a word, else not judged."""
    classes = Classes(source)
    where = f"{place}, column {name!r}"
    numbers = [classes.number(tag, where) for tag in _list_of(row.get(name), name, place)]
    labels = np.full(len(marks), hf_processors.IGNORED)
    previous = -1
    for index, word in enumerate(marks.tolist()):
        if word >= 0 and word != previous:
            if word >= len(numbers):
                raise DataError(f"{where}: {len(numbers)} labels, and more words than that")
            labels[index] = numbers[word]
        previous = word
    return labels


# Class folders ------------------------------------------------------------------------------------


def _load_folders(source: Source, kind: str, root: Path, context: Context) -> dict[str, Data]:
    """Return both splits of a tree ``{train,test}/<class>/<file>`` of images or sounds."""
    if kind == IDS:
        raise DataError(
            f"--data {root}: {source.architecture} takes texts; expected a table ({', '.join(SUFFIXES)}), "
            f"or a folder with train and test in that form"
        )
    if source.task not in ("classification", "embedding"):
        raise DataError(
            f"--data {root}: class folders are for classification, and the task of {source.architecture} is "
            f"{source.task}"
        )
    is_image = is_of_images(kind)
    processor = hf_processors.load_processor(source.target, source.folder, is_image=is_image)
    if processor is None:
        raise UsageError(
            f"MODEL {source.target}: no preprocessor_config.json in this folder, which says how "
            f"{'images' if is_image else 'sounds'} become inputs: save it there"
        )
    folders = {split: _folder_of(root, names) for split, names in FOLDERS.items()}
    names = {split: image_folder.classes_of(folder) for split, folder in folders.items()}
    if unmatched := sorted({*names["train"]} ^ {*names["test"]}):
        raise DataError(f"{root}: class folder {unmatched[0]!r} is in only one of the splits")
    numbers, note = _numbers_of_folders(source, names["test"], root)
    files = {
        split: [
            (path, numbers[name]) for name in names[split] for path in image_folder.images_of(folder / name)
        ]
        for split, folder in folders.items()
    }
    if empty := next((split for split, paths in files.items() if not paths), None):
        raise DataError(f"{folders[empty]} has no files in its class folders")
    files["test"] = _evenly(files["test"], int(context.options.get("images", 0)))
    load = _images if is_image else _sounds
    inputs, sentence = load(processor, kind, files, source, context)
    return {
        split: Data(
            inputs=inputs[split],
            targets={LABELS: np.array([label for _, label in files[split]], dtype=np.int64)},
            classes=_classes(source, ()),
            source=f"{root.resolve().name}{note}",
            preprocessing=sentence,
            task=source.task,
        )
        for split in folders
    }


def _folder_of(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has no folder {' or '.join(map(repr, names))}; expected {{train,test}}/<class>")


def _numbers_of_folders(source: Source, names: Sequence[str], root: Path) -> tuple[dict[str, int], str]:
    """Return the class of each folder: by its name, else by its place in alphabetical order, and a note."""
    if source.task == "embedding":
        return {name: index for index, name in enumerate(names)}, ""
    classes = Classes(source)
    numbers = {name: classes.find(name) for name in names}
    if None not in numbers.values():
        return {name: number for name, number in numbers.items() if number is not None}, ""
    if len(names) == len(source.labels):
        return {
            name: index for index, name in enumerate(names)
        }, ", classes in the order of the folders' names"
    unknown = next(name for name, number in numbers.items() if number is None)
    raise DataError(
        f"{root}: class folder {unknown!r} is none of the model's classes ({', '.join(source.labels[:SHOWN])}"
        f"{', ...' if len(source.labels) > SHOWN else ''}), and there are {len(names)} folders for its "
        f"{len(source.labels)} classes"
    )


def _evenly(files: list[tuple[Path, int]], count: int) -> list[tuple[Path, int]]:
    """Return so many of files that are sorted by class, each class by its share; all for 0."""
    if not count or count >= len(files):
        return files
    return [files[index] for index in np.linspace(0, len(files) - 1, count).round().astype(int)]


Loaded = tuple[dict[str, dict[str, Any]], str]


def _images(
    processor: Any,
    name: str,
    files: Mapping[str, Sequence[tuple[Path, int]]],
    source: Source,
    context: Context,
) -> Loaded:
    arrays = {
        split: {name: hf_processors.ProcessedImages([path for path, _ in pairs], processor, name)}
        for split, pairs in files.items()
    }
    shape = list(arrays["test"][name].shape[1:])
    return arrays, f"the image, as RGB, goes through {type(processor).__name__} of the model, and is {shape}"


def _sounds(
    processor: Any,
    name: str,
    files: Mapping[str, Sequence[tuple[Path, int]]],
    source: Source,
    context: Context,
) -> Loaded:
    rate = int(processor.sampling_rate)
    pairs = [pair for split in files.values() for pair in split]
    sounds, rates = [], set()
    for index, (path, _) in enumerate(pairs):
        sound, own = hf_processors.read_sound(path, rate)
        sounds.append(sound)
        rates.add(own)
        context.progress(index / len(pairs), f"reading sound {index + 1:,} of {len(pairs):,}")
    whole = _in_order(hf_processors.extract_features(processor, sounds), source)
    parts, start = {}, 0
    for split, part in files.items():
        parts[split] = {key: array[start : start + len(part)] for key, array in whole.items()}
        start += len(part)
    resampled = "" if rates == {rate} else f", resampled to {rate:,} Hz"
    return parts, (
        f"the sound, its channels averaged{resampled}, goes through {type(processor).__name__} of the model, "
        f"padded to {list(whole[name].shape[1:])}"
    )


# Generated ----------------------------------------------------------------------------------------


def _generate(source: Source, kind: str, split: str, context: Context) -> Data:
    """Return generated inputs without right answers: two draws for the two splits."""
    if text := str(context.options["example"]):
        described = parse_inputs(text)
    elif kind == IDS:
        described = _describe_texts(source, context)
    else:
        described = (_describe_media(source, kind),)
    return Data(inputs=draw_split(described, split), source=GENERATED)


def _describe_texts(source: Source, context: Context) -> tuple[DescribedInput, ...]:
    """Return inputs like those of texts without padding: numbers of tokens, drawn evenly."""
    tokenizer = hf_processors.load_tokenizer(source.target, source.folder)
    limit = hf_processors.most_tokens(tokenizer, source.settings, int(context.options["tokens"]))
    length = limit if context.options["tokens"] else min(limit, GENERATED_TOKENS)
    names = [name for name in source.forward if name in (*tokenizer.model_input_names, MASK)]
    last = int(source.settings.get("vocab_size") or len(tokenizer)) - 1
    extents = {IDS: (0, last), MASK: (1, 1)}
    return tuple(DescribedInput(name, "int64", (length,), extents.get(name, (0, 0))) for name in names)


def _describe_media(source: Source, kind: str) -> DescribedInput:
    """Return an input like that of an image or a sound, of normal numbers. Raises ``UsageError``."""
    is_image = is_of_images(kind)
    processor = hf_processors.load_processor(source.target, source.folder, is_image=is_image)
    if is_image and processor is not None:
        noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        shape = hf_processors.process_image(processor, Image.fromarray(noise), kind).shape
        return DescribedInput(kind, "float32", tuple(shape))
    if is_image and (size := source.settings.get("image_size")):
        height, width = size if isinstance(size, list) else (size, size)
        return DescribedInput(kind, "float32", (int(source.settings.get("num_channels", 3)), height, width))
    if processor is not None:
        second = np.random.default_rng(0).standard_normal(int(processor.sampling_rate)).astype(np.float32)
        return DescribedInput(
            kind, "float32", hf_processors.extract_features(processor, [second])[kind].shape[1:]
        )
    raise UsageError(
        f"MODEL {source.target}: nothing says what inputs it takes: save its preprocessor_config.json in the "
        f"folder, or give --example, such as '{kind}:float32[1,16000]'"
    )


# Example inputs -----------------------------------------------------------------------------------


def make_transformers_examples(
    batch_size: int, context: Context, length: int | None = None
) -> Mapping[str, torch.Tensor]:
    """Return example inputs by name; none where only the data can say how long they are.

    ``length`` is that of the inputs of a decoder; None for the largest.
    """
    text = str(context.options["example"])
    if not text and is_decoder(source := find_source(str(context.options["model"]), context)):
        return example_texts(source, batch_size, length, context)
    if text:
        described = parse_inputs(text)
    else:
        source = find_source(str(context.options["model"]), context)
        import_transformers(source.target)
        kind = _input_of(source)
        if not is_of_images(kind):
            return {}
        described = (_describe_media(source, kind),)
    drawn = draw_examples(described, batch_size)
    arrays = {part.name: array for part, array in zip(described, drawn, strict=True)}
    if MASK in arrays and arrays[MASK].ndim == 2 and arrays[MASK].dtype.kind in "iub":
        # As tokenizers pad: without zeros a mask may be left out of the graph, without ones nothing is seen.
        length = arrays[MASK].shape[1]
        arrays[MASK][:] = np.arange(length) < max(1, length - length // 4)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
