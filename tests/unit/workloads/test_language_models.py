"""Decoders with a cache, texts in windows, and the training of ``stdlib_lm``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from qx_plugins.datasets import ngrams, stdlib_source
from qx_plugins.datasets.texts import window_arrays, windows
from qx_plugins.language_outputs import BYTES, COUNTED, DECODE, LOG_LIKELIHOODS, LOGITS, PREFILL
from qx_plugins.loaders.torch_eager import DecoderSubject, subject_of
from qx_plugins.networks.decoder_graphs import can_step, find_decoder_graph
from qx_plugins.networks.language_models import Scorer, continue_greedily, find_decoder
from qx_plugins.networks.llama import LlamaDecoder, LlamaShape
from qx_plugins.networks.lm_training import train_decoder
from qx_plugins.recipes.bfloat16 import Bfloat16
from qx_plugins.workloads import stdlib_lm
from torch import nn

from qx import LABELS, UNITS, Context, DataError, UsageError

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")

SHAPE = LlamaShape(vocabulary=50, positions=64, width=32, hidden=48, layers=2, heads=4, key_value_heads=2)


@pytest.fixture(scope="module")
def decoder() -> LlamaDecoder:
    """Return a small decoder with random weights, large enough for answers that differ."""
    torch.manual_seed(0)
    model = LlamaDecoder(SHAPE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10)
    return model


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    """Return 20 texts of 40 tokens."""
    return torch.randint(50, (20, 40), generator=torch.Generator().manual_seed(1))


# The decoder and its cache ------------------------------------------------------------------------


def test_the_cache_gives_what_the_whole_text_gives(decoder: LlamaDecoder, tokens: torch.Tensor) -> None:
    """Whether tokens are read at once, in parts or one by one, and after some were forgotten."""
    with torch.inference_mode():
        expected = decoder(tokens)
        cache = decoder.new_cache(len(tokens))
        for start, end in ((0, 10), (10, 11), (11, 25), (25, 26)):
            scores = decoder.extend(tokens[:, start:end], cache)
            torch.testing.assert_close(scores, expected[:, end - 1], rtol=1e-4, atol=1e-4)
        assert cache.length == 26
        cache.crop(12)
        scores = decoder.extend(tokens[:, 12:13], cache)
        torch.testing.assert_close(scores, expected[:, 12], rtol=1e-4, atol=1e-4)
        # Keys and values of 13 tokens: two layers, 20 texts, two heads of 8 numbers in 4 bytes.
        assert cache.nbytes == 2 * 2 * 20 * 2 * 13 * 8 * 4


def test_no_token_sees_those_after_it(decoder: LlamaDecoder, tokens: torch.Tensor) -> None:
    """Other tokens at the end leave the scores before them as they are."""
    other = tokens.clone()
    other[:, 30:] = 0
    with torch.inference_mode():
        torch.testing.assert_close(decoder(tokens)[:, :30], decoder(other)[:, :30])


def test_continuing_greedily_is_choosing_the_best_of_whole_texts(
    decoder: LlamaDecoder, tokens: torch.Tensor
) -> None:
    """With the cache the same tokens follow as by reading the whole text anew for each."""
    with torch.inference_mode():
        chosen = continue_greedily(decoder, tokens, 10)
        text = tokens
        for _ in range(10):
            text = torch.cat([text, decoder(text)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(chosen, text[:, tokens.shape[1] :])
    assert len(chosen.unique()) > 5


def test_a_scorer_gives_log_likelihoods_and_some_scores(decoder: LlamaDecoder, tokens: torch.Tensor) -> None:
    """They are what log_softmax says of the token after each, and the scores of every 16th position."""
    with torch.inference_mode():
        outputs = Scorer(decoder)(tokens)
        logs = decoder(tokens).log_softmax(dim=-1)
    expected = logs[:, :-1].gather(2, tokens[:, 1:, None]).squeeze(2)
    torch.testing.assert_close(outputs[LOG_LIKELIHOODS][:, :-1], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs[LOGITS].log_softmax(dim=-1), logs[:, [7, 23, 39]])


# Serving ------------------------------------------------------------------------------------------


def test_calls_of_a_kind_begin_from_one_state(decoder: LlamaDecoder, tokens: torch.Tensor) -> None:
    """A prompt is read into an empty cache, and a token with all those before it, call after call."""
    subject = subject_of(Scorer(decoder), (LOGITS, LOG_LIKELIHOODS))
    assert isinstance(subject, DecoderSubject)
    with torch.inference_mode():
        expected = decoder(tokens)[:, -1].numpy()
    for kind in (PREFILL, DECODE, DECODE, PREFILL, DECODE):
        native = (tokens,)
        subject.reset(native, kind)
        result = subject.kinds[kind](native)
        np.testing.assert_allclose(subject.outputs(result)[LOGITS], expected, rtol=1e-4, atol=1e-4)
        assert subject.cached.cache.length == tokens.shape[1]
    whole = subject.outputs(tuple(subject.call((tokens,)).values()))
    assert {name: array.shape for name, array in whole.items()} == {
        LOGITS: (20, 3, 50),
        LOG_LIKELIHOODS: (20, 40),
    }


def test_a_cache_is_filled_once_for_an_input(decoder: LlamaDecoder, tokens: torch.Tensor) -> None:
    """So that thousands of single tokens are timed after one prompt; another input has its own."""
    subject, read = subject_of(Scorer(decoder), (LOGITS, LOG_LIKELIHOODS)), []
    original = decoder.extend
    subject.cached.decoder = type(
        "Counting",
        (),
        {  # type: ignore[attr-defined]
            "new_cache": staticmethod(decoder.new_cache),
            "extend": staticmethod(lambda part, cache: read.append(part.shape[1]) or original(part, cache)),
        },
    )()
    natives = ((tokens,), (tokens[:, :20].contiguous(),))
    for native in (natives[0], natives[0], natives[1], natives[1]):
        subject.reset(native, DECODE)  # type: ignore[attr-defined]
        subject.cached.decode(native)  # type: ignore[attr-defined]
    assert read == [39, 1, 1, 19, 1, 1]


def test_the_interface_is_found_in_what_configs_make() -> None:
    """A wrapper around the model keeps it; a module without it is served as any other."""
    model = Bfloat16(Scorer(LlamaDecoder(SHAPE)))
    found = find_decoder(model)
    assert found is not None
    assert found.new_cache(1).keys.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert find_decoder(nn.Linear(2, 2)) is None
    assert not hasattr(subject_of(nn.Linear(2, 2)), "kinds")


def test_a_decoder_without_a_step_is_read_as_a_whole_with_the_reason() -> None:
    """In runtimes other than eager torch, where a note of the artifact has it; one with a step has none."""
    plain = Scorer(nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8)))
    assert find_decoder_graph(plain, None) == (
        None,
        ("no cache, so texts are read as a whole: Sequential has no step(tokens, kept, *past)",),
    )
    assert not can_step(plain)
    assert can_step(Scorer(LlamaDecoder(SHAPE)))
    assert find_decoder_graph(nn.Linear(2, 2), None) == (None, ())


# Windows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size", "stride"), [(100, 32, 16), (33, 32, 32), (20, 32, 8), (97, 32, 1)])
def test_each_token_counts_once_with_enough_before_it(count: int, size: int, stride: int) -> None:
    """Behind the first window at least a window less its stride; the first token alone does not count."""
    seen = []
    for start, end, first in windows(count, size, stride):
        assert end - start <= size
        if start:
            assert first - start >= size - stride
        seen += range(first, end)
    assert seen == list(range(1, count))


def test_targets_are_the_tokens_that_follow() -> None:
    """Where they count, with their bytes, and the document that a window is of."""
    documents = [list(range(1, 31)), [5, 6, 7]]
    sizes = np.arange(40)
    tokens, targets = window_arrays(documents, size=16, stride=8, token_bytes=sizes)
    assert targets[UNITS].tolist() == [0, 0, 0, 1]
    following = np.roll(tokens, -1, axis=1)
    assert following[targets[COUNTED] > 0].tolist() == [*range(2, 31), 6, 7]
    assert targets[BYTES].sum() == sum(range(2, 31)) + 6 + 7
    assert targets[LABELS].tolist() == [[9], [17], [25], [-1]]
    with pytest.raises(DataError, match="the text is too short for a window: 1 tokens; expected 2 or more"):
        window_arrays([[3]], size=16, stride=8)
    with pytest.raises(DataError, match="a stride of 17 tokens with windows of 16; expected 1 to 16"):
        window_arrays(documents, size=16, stride=17)


def test_counted_tokens_give_the_perplexity_of_witten_and_bell() -> None:
    """Held against the formula, token by token."""
    stream, document, vocabulary = [0, 1, 2, 1, 2, 3, 0, 1, 1, 2], [0, 1, 2, 3, 3], 4

    def probability(history: tuple[int, ...], token: int) -> float:
        places = [
            place
            for place in range(len(history), len(stream))
            if tuple(stream[place - len(history) : place]) == history
        ]
        followers = [stream[place] for place in places]
        lower = probability(history[1:], token) if history else 1 / vocabulary
        if not followers:
            return lower
        different = len(set(followers))
        return (followers.count(token) + different * lower) / (len(followers) + different)

    for order in (1, 2, 3):
        logs = [
            np.log(probability(tuple(document[max(0, place - order + 1) : place]), document[place]))
            for place in range(1, len(document))
        ]
        value = ngrams.perplexity(stream, [document], vocabulary=vocabulary, order=order)
        assert value == pytest.approx(np.exp(-np.mean(logs)))


# Training -----------------------------------------------------------------------------------------


def _library(folder: Path) -> Path:
    """Write a library of modules that differ, and two that are alike."""
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "test_os.py").write_text("left_out = 1\n")
    for name in ("os", *(f"module{number}" for number in range(12))):
        words = [hashlib.sha256(f"{name} {place}".encode()).hexdigest()[:6] for place in range(700)]
        (folder / f"{name}.py").write_text(" ".join(words))
    (folder / "copied.py").write_text((folder / "module3.py").read_text())
    return folder


def test_modules_that_are_alike_are_not_held_out(tmp_path: Path) -> None:
    """Neither of two copies is; tests are no part of the library; the choice is the same each time."""
    modules = stdlib_source.read_modules(_library(tmp_path / "lib"))
    assert "test/test_os.py" not in {module.name for module in modules}
    training, held_out = stdlib_source.split_modules(modules)
    names = {module.name for module in held_out}
    assert names == {"os.py", *(f"module{number}.py" for number in range(12) if number != 3)}
    assert {"module3.py", "copied.py"} == {module.name for module in training}
    with pytest.raises(DataError, match=r"is no standard library of Python: it has no os.py"):
        stdlib_source.read_modules(tmp_path)


def _options(**values: Any) -> dict[str, Any]:
    return {option.name: option.default for option in stdlib_lm.describe().options} | values


def _committed_files() -> dict[str, tuple[int, int]]:
    files = (path for path in stdlib_lm.weights_folder().iterdir() if path.is_file())
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_it_is_trained_on_what_is_not_evaluated(tmp_path: Path) -> None:
    """The tokens are those of the library's modules that the committed text lacks, under whatever name."""
    tokenizers = pytest.importorskip("tokenizers")
    before, library = _committed_files(), _library(tmp_path / "lib")
    evaluated = stdlib_lm.read_text().splits["test"][:2]
    (library / "moved.py").write_text(evaluated[0].text)
    (library / evaluated[1].name).parent.mkdir(exist_ok=True)
    (library / evaluated[1].name).write_text("changed = 1\n")
    stream = stdlib_lm.read_stream(Context(options=_options(library=str(library))))
    tokenizer = tokenizers.Tokenizer.from_file(str(stdlib_lm.weights_folder() / stdlib_lm.TOKENIZER))
    read = tokenizer.decode(stream, skip_special_tokens=False).split("<|document|>")[1:]
    names = ("copied", *(f"module{number}" for number in range(12)), "os")
    assert sorted(read) == sorted((library / f"{name}.py").read_text() for name in names)
    assert _committed_files() == before


def test_a_folder_gets_a_text_of_its_own(tmp_path: Path) -> None:
    """Tokenizer and text are made there; the rest is trained on, and that text is evaluated."""
    pytest.importorskip("tokenizers")
    before, folder = _committed_files(), tmp_path / "texts"
    options = _options(library=str(_library(tmp_path / "lib")), text_folder=str(folder), document_tokens=40)
    with pytest.raises(UsageError, match=r"text_folder=.*: it has no stdlib_lm_text\.json\.gz; `qx train"):
        stdlib_lm.load_data("test", Context(options=options))
    stream = stdlib_lm.make_text(Context(options=options))
    assert stream.count(0) == 2, "module3 and its copy"
    assert {path.name for path in folder.iterdir()} == {stdlib_lm.TEXT, stdlib_lm.TOKENIZER}
    data = stdlib_lm.load_data("test", Context(options=options))
    assert data.source.startswith("the standard library of lib: 12 modules")
    assert _committed_files() == before


@needs_muon
def test_nothing_of_a_training_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the package nor in the current folder; in the cache a checkpoint lies while it lasts."""
    pytest.importorskip("tokenizers")
    monkeypatch.setattr("qx_plugins.networks.lm_training.STEPS_PER_CHECKPOINT", 1)
    library, cache, before = _library(tmp_path / "lib"), tmp_path / "cache", _committed_files()
    options = _options(library=str(library), steps=2)
    monkeypatch.setattr(stdlib_lm, "POSITIONS", 32)
    monkeypatch.chdir(tmp_path)
    files: list[list[str]] = []

    def train(**fields: Any) -> None:
        files.clear()
        shape = evolve(SHAPE, vocabulary=stdlib_lm.VOCABULARY)
        stdlib_lm.train(Scorer(LlamaDecoder(shape)), Context(options=options, **fields))

    def look(done: float, text: str) -> None:
        files.append([path.name for path in cache.glob("*")])

    train(cache=cache, progress=look)
    assert [len(names) for names in files][-1] == 1
    train()
    assert not list(cache.iterdir())
    assert _committed_files() == before
    assert {path.name for path in tmp_path.iterdir()} == {"lib", "cache"}


@needs_muon
def test_an_interrupted_training_ends_as_one_without_a_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from its last checkpoint, which is gone in the end."""
    monkeypatch.setattr("qx_plugins.networks.lm_training.STEPS_PER_CHECKPOINT", 2)
    stream = np.random.default_rng(0).integers(0, 50, 400)

    class Stop(Exception):
        pass

    def train(path: Path, stop_at: float = 2.0) -> dict[str, Any]:
        torch.manual_seed(3)

        def progress(done: float, _text: str) -> None:
            if done >= stop_at:
                raise Stop

        model = train_decoder(
            LlamaDecoder(SHAPE),
            stream,
            length=16,
            epochs=1,
            seed=0,
            progress=progress,
            checkpoint=path,
            batch_size=4,
        )
        return model.state_dict()

    whole = train(tmp_path / "whole.pt")
    with pytest.raises(Stop):
        train(tmp_path / "part.pt", stop_at=0.5)
    resumed = train(tmp_path / "part.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="epochs must be at least 1, not 0"):
        train_decoder(
            LlamaDecoder(SHAPE),
            stream,
            length=16,
            epochs=0,
            seed=0,
            progress=print,
            checkpoint=tmp_path / "x",
        )


# The committed text -------------------------------------------------------------------------------

CONTEXT = Context(options=_options())


def test_the_text_has_whole_modules_with_their_tokens() -> None:
    """At least 100 documents, each a unit, of which none is among those for calibration."""
    text = stdlib_lm.read_text()
    names = {split: {document.name for document in part} for split, part in text.splits.items()}
    assert len(names["test"]) == stdlib_source.HELD_OUT >= 100
    assert not names["test"] & names["train"]
    assert text.vocabulary == stdlib_lm.VOCABULARY
    for document in text.splits["test"]:
        assert text.token_bytes[list(document.tokens)].sum() == len(document.text.encode())
    data = stdlib_lm.load_data("test", CONTEXT)
    assert len(np.unique(data.targets[UNITS])) == len(names["test"])
    assert "stride 256" in data.source


def test_the_tokens_are_those_of_the_tokenizer() -> None:
    """Where the library of the tokenizer is installed, which measuring does not need."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(stdlib_lm.weights_folder() / stdlib_lm.TOKENIZER))
    for document in stdlib_lm.read_text().splits["test"][:10]:
        assert tokenizer.encode(document.text).ids == list(document.tokens[1:])
        assert tokenizer.decode(list(document.tokens[1:])) == document.text


def test_all_files_are_small() -> None:
    """Weights, text and tokenizer are below 25 MB together, and the licence lies beside them."""
    files = [path for path in stdlib_lm.weights_folder().iterdir() if path.name.startswith("stdlib_lm")]
    assert {stdlib_lm.TEXT, stdlib_lm.TOKENIZER, stdlib_lm.LICENCE, "stdlib_lm.pt"} == {
        path.name for path in files
    }
    assert sum(path.stat().st_size for path in files) < 25_000_000
