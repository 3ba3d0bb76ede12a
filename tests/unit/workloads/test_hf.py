"""Models of transformers: what a folder makes, what data become, and what is wrong with either."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hf_folders
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers", reason="the extra hf installs transformers")

from qx_plugins.datasets.hf_processors import IGNORED, most_tokens
from qx_plugins.networks import hf_models
from qx_plugins.networks.decoder_graphs import can_step, find_decoder_graph, no_step_reason
from qx_plugins.networks.hf_data import Classes, make_transformers_examples
from qx_plugins.networks.hf_decoders import make_decoder
from qx_plugins.networks.hf_models import PREFIX, find_source
from qx_plugins.networks.language_models import find_decoder
from qx_plugins.workloads import own_model

from qx import Context, Data, DataError, Unsupported, UsageError
from qx.worker.inspect import facts_of

DEFAULTS = {option.name: option.default for option in own_model.describe().options}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny BERT that classifies reviews."""
    return hf_folders.bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def context(folder: Path | str, data: Path | None = None, **options: object) -> Context:
    """Return the context of the hooks for a folder."""
    return Context(options={**DEFAULTS, "model": f"{PREFIX}{folder}", **options}, data=data, offline=True)


def change(folder: Path, **settings: object) -> Path:
    """Change the settings of a folder, None for none, and return the folder."""
    file = folder / "config.json"
    content = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return folder


def load(folder: Path, data: Path | None = None, **options: object) -> tuple[Data, Data]:
    """Return both splits of the data."""
    own = context(folder, data, **options)
    return own_model.load_data("train", own), own_model.load_data("test", own)


# The model ----------------------------------------------------------------------------------------


def test_a_model_has_the_weights_of_its_folder_and_counts_as_trained(folder: Path) -> None:
    """Its layers keep their names; settings of the model can be replaced, and decide builds."""
    model = own_model.make_model(context(folder))
    saved = __import__("safetensors.torch", fromlist=["load_file"]).load_file(folder / "model.safetensors")
    assert torch.equal(model.state_dict()["classifier.weight"], saved["classifier.weight"])
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    facts = facts_of(model)
    assert (facts.trained, facts.note) == (True, "")
    other = own_model.make_model(context(folder, model_args="{'hidden_act': 'relu'}"))
    assert facts_of(other).identity != facts.identity
    assert facts_of(own_model.make_model(context(folder))).identity == facts.identity
    with pytest.raises(UsageError, match=r"--model-args hidden: BertConfig has no setting of this name"):
        own_model.make_model(context(folder, model_args="{'hidden': 3}"))
    with pytest.raises(Unsupported, match="have no QuantStub"):
        hf_models.factory_of_transformers(f"{PREFIX}{folder}")(Context(), quantizable=True)  # type: ignore[misc]


def test_a_new_head_is_not_known_to_be_trained(copy: Path) -> None:
    """What the folder lacks is random, which is said; so is a model without any weights."""
    from transformers import BertModel

    BertModel.from_pretrained(copy).save_pretrained(copy)
    change(copy, architectures=["BertForSequenceClassification"])
    facts = facts_of(own_model.make_model(context(copy)))
    assert not facts.trained
    assert facts.note == "not among the weights of the folder, so random: classifier.bias, classifier.weight"
    (copy / "model.safetensors").unlink()
    assert facts_of(own_model.make_model(context(copy))).note == "the folder has no weights: they are random"


@pytest.mark.parametrize(
    ("architecture", "settings", "task"),
    [
        ("BertForSequenceClassification", {}, "classification"),
        ("BertForSequenceClassification", {"id2label": {"0": "amount"}}, "regression"),
        ("BertForSequenceClassification", {"problem_type": "regression"}, "regression"),
        (
            *("BertForSequenceClassification", {"problem_type": "multi_label_classification"}),
            "multi_label_classification",
        ),
        ("BertForTokenClassification", {}, "token_classification"),
        ("ViTForImageClassification", {}, "classification"),
        ("SegformerForSemanticSegmentation", {}, "segmentation"),
        ("YolosForObjectDetection", {}, "detection"),
        ("BertForMaskedLM", {}, "language_modelling"),
        ("GPT2LMHeadModel", {}, "language_modelling"),
        ("LlamaForCausalLM", {}, "language_modelling"),
        ("BertModel", {}, "embedding"),
    ],
)
def test_the_architecture_says_the_task(
    copy: Path, architecture: str, settings: dict[str, object], task: str
) -> None:
    """And for classifiers of texts, whether they give one class, several, or an amount."""
    change(copy, architectures=[architecture], **settings)
    assert find_source(f"{PREFIX}{copy}", Context(offline=True)).task == task


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architectures": ["BertForTea"]}, r"the architecture BertForTea is not taken; expected ...ForSeq"),
        ({"architectures": None}, "config.json must name one architecture; it names none"),
        ({"architectures": ["MyModel"]}, "has no architecture MyModel"),
        (
            {"architectures": ["MyModel"], "auto_map": {"AutoModel": "code.MyModel"}},
            r"MyModel needs code of its own \(auto_map\), which is never run",
        ),
        ({"model_type": None}, "it has no model_type"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantized already \(gptq\)"),
        ({"is_encoder_decoder": True}, "has an encoder and a decoder"),
        ({"hidden_size": "wide"}, "config.json: "),
        ({"hidden_size": 64}, "model.safetensors does not fit BertForSequenceClassification"),
    ],
)
def test_settings_that_make_no_model_are_one_line(copy: Path, settings: dict[str, Any], words: str) -> None:
    """The message names the folder and what is wrong in it."""
    with pytest.raises(UsageError, match=words) as error:
        own_model.make_model(context(change(copy, **settings)))
    assert str(error.value).startswith(f"MODEL hf:{copy}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": None}, r"no config.json in this folder \(it has model.safetensors"),
        ({"config.json": b"{"}, "config.json cannot be read"),
        ({"config.json": b"[]"}, "config.json is not that of transformers"),
        ({"adapter_config.json": b"{}"}, "this folder holds an adapter"),
        ({"model.safetensors": b"damaged"}, "model.safetensors does not fit"),
        ({"model.safetensors": None, "tf_model.h5": b"x"}, "tf_model.h5 holds weights for TensorFlow"),
        ({"model.safetensors": None, "other.bin": b"x"}, "no model.safetensors or pytorch_model.bin in this"),
    ],
)
def test_a_damaged_folder_is_one_line(copy: Path, files: dict[str, bytes | None], words: str) -> None:
    """Whatever is missing or damaged is named."""
    for name, content in files.items():
        if content is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(content)
    with pytest.raises(UsageError, match=words) as error:
        own_model.make_model(context(copy))
    assert "\n" not in str(error.value)


class Evil:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("run"),)  # type: ignore[return-value]


def test_pickles_are_read_as_tensors_alone(copy: Path) -> None:
    """A pickle of tensors is taken, and one that holds more is refused before anything of it runs."""
    state = own_model.make_model(context(copy)).state_dict()
    (copy / "model.safetensors").unlink()
    torch.save(state, copy / "pytorch_model.bin")
    model = own_model.make_model(context(copy))
    assert facts_of(model).trained
    assert torch.equal(model.state_dict()["classifier.weight"], state["classifier.weight"])
    torch.save({**state, "extra": Evil()}, copy / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"pytorch_model.bin holds more than tensors, and loading it could"):
        own_model.make_model(context(copy))
    assert not Path("run").exists()
    (copy / "pytorch_model.bin").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"pytorch_model.bin cannot be read"):
        own_model.make_model(context(copy))


def test_an_id_is_looked_for_in_the_cache_of_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there is taken without a network; what does not is one line."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UsageError, match=r"no folder 'them/tea' here, .* and --offline is set"):
        own_model.make_model(context("them/tea"))
    home = tmp_path / "hub" / "models--them--bert"
    shutil.copytree(folder, home / "snapshots" / ("0" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    assert facts_of(own_model.make_model(context("them/bert"))).trained


def test_an_id_is_fetched_once_where_there_is_a_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Safetensors are asked for, and pickles only where there are none; errors of the hub are one line."""
    import huggingface_hub

    calls: list[tuple[bool, list[str]]] = []

    def fetch(name: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        calls.append((local_files_only, allow_patterns))
        if local_files_only or name == "them/gone":
            raise OSError("no\nsuch model")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    online = Context(options={**DEFAULTS, "model": "hf:them/other"})
    for _ in range(2):
        assert facts_of(own_model.make_model(online)).trained
    assert [is_local for is_local, _ in calls] == [True, False]
    assert "*.bin" not in calls[1][1]
    gone = Context(options={**DEFAULTS, "model": "hf:them/gone"})
    with pytest.raises(UsageError, match=r"cannot be had from the hub: (OSError: )?no") as error:
        own_model.make_model(gone)
    assert "\n" not in str(error.value)


def test_transformers_that_is_not_installed_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what installs it."""
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r"transformers is not installed: pip install transformers"):
        own_model.make_model(context(folder))


# Texts --------------------------------------------------------------------------------------------


def test_a_table_becomes_the_inputs_of_the_model(folder: Path, tmp_path: Path) -> None:
    """All texts have the length of the longest; some items are set aside, and no item is in both."""
    train, test = load(folder, hf_folders.reviews(tmp_path / "reviews.csv"))
    assert list(test.inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    assert {array.shape[1:] for part in (train, test) for array in part.inputs.values()} == {(10,)}
    assert len(train.targets["labels"]) + len(test.targets["labels"]) == 40
    assert (test.classes, test.task) == (hf_folders.LABELS, "classification")
    words = hf_folders.WORDS
    texts = [
        " ".join(words[token] for token in row if token > 4) for row in test.inputs["input_ids"].tolist()
    ]
    assert dict(zip(texts, test.targets["labels"].tolist(), strict=True)) == {
        "the film was bad": 0,
        "the film was good": 1,
        "dull": 0,
        "the film was fine the film was fine": 1,
    }
    assert (test.inputs["attention_mask"] == (test.inputs["input_ids"] > 0)).all()
    assert "column 'text', tokenized by BertTokenizer, padded on the right to 10 tokens" in test.preprocessing


def test_splits_of_a_folder_have_one_length_and_longer_texts_are_cut(folder: Path, tmp_path: Path) -> None:
    """A pair of columns is one input; ``tokens`` limits its length, which is said."""
    for name, text in (("train", "good"), ("test", "the film was the film")):
        row = {"sentence1": text, "sentence2": "bad", "label": 1}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    train, test = load(folder, tmp_path)
    assert train.inputs["input_ids"].shape == test.inputs["input_ids"].shape == (1, 9)
    assert train.inputs["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0, 0, 0]]
    _, test = load(folder, tmp_path, tokens=6)
    assert test.inputs["input_ids"].shape == (1, 6)
    assert "6 tokens, as many as the longest item has after 1 of 2 items were cut" in test.preprocessing
    with pytest.raises(UsageError, match=r"own_model.tokens=33: model and tokenizer take 32 at most"):
        load(folder, tmp_path, tokens=33)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (
            "body,label\ngood,1\n",
            {},
            r"reviews.csv has no column of texts .* it has body, label: name it with",
        ),
        ("body,label\ngood,1\n", {"text": "bode"}, "reviews.csv has no column 'bode'; it has body, label"),
        (
            "text,label\ngood,1\nbad,great\n",
            {},
            "line 3, column 'label': label 'great' is none of .*: negative",
        ),
        (
            "text,label\ngood,1\nbad,2\n",
            {},
            "label '2' is none of the model's: negative, positive, or 0 to 1",
        ),
        ("text,label\ngood,1\nbad,\n", {}, "line 3, column 'label': label '' is none of"),
        ("text,label\ngood\n", {}, "line 2: 1 values"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(
    folder: Path, tmp_path: Path, text: str, options: dict[str, str], words: str
) -> None:
    """The columns that it has are named, the labels that the model knows, and the line."""
    (tmp_path / "reviews.csv").write_text(text)
    with pytest.raises(DataError, match=words) as error:
        load(folder, tmp_path / "reviews.csv", **options)
    assert "\n" not in str(error.value)


def test_labels_are_names_or_numbers_of_the_model(copy: Path) -> None:
    """Whatever their case; a name goes before a number that looks like it."""
    change(copy, id2label={"0": "Bad", "1": "1", "2": "GOOD"}, label2id=None)
    classes = Classes(find_source(f"{PREFIX}{copy}", Context(offline=True)))
    assert [classes.find(value) for value in ("Bad", "good", "1", "0", 2, 2.0, True, "2")] == [
        *(0, 2, 1, 0, 2, 2, 1, 2)
    ]
    assert [classes.find(value) for value in ("ugly", 3, -1, 0.5, None, [0])] == [None] * 6
    assert classes.several(["GOOD", 0], "line 2") == [1, 0, 1]
    assert classes.several([0, 1, 1], "line 2") == [0, 1, 1]


def test_amounts_vectors_and_several_labels_have_targets_of_their_own(folder: Path, copy: Path) -> None:
    """By the task: floats, numbers of groups, or a row of zeros and ones."""
    Path("a.jsonl").write_text(
        "".join(
            json.dumps({"text": text, "label": label}) + "\n"
            for text, label in (("good", 0.5), ("bad", 2), ("the", 0.5), ("film", 7))
        )
    )
    change(copy, problem_type="regression")
    train, test = load(copy, Path("a.jsonl"))
    assert sorted([*train.targets["labels"], *test.targets["labels"]]) == [0.5, 0.5, 2.0, 7.0]
    assert (test.task, test.classes) == ("regression", ())
    change(copy, architectures=["BertModel"], problem_type=None)
    train, test = load(copy, Path("a.jsonl"), label="label")
    assert sorted([*train.targets["labels"], *test.targets["labels"]]) == [0, 0, 1, 2]
    Path("b.jsonl").write_text('{"text": "good", "labels": ["positive"]}\n' * 2)
    change(copy, architectures=["BertForSequenceClassification"], problem_type="multi_label_classification")
    train, test = load(copy, Path("b.jsonl"))
    assert test.targets["labels"].tolist() == [[0, 1]]


def test_tags_belong_to_the_first_token_of_each_word(tmp_path: Path) -> None:
    """Other tokens are not judged; the column holds lists, or words with spaces between them."""
    folder = hf_folders.bert(tmp_path / "tags", "BertForTokenClassification")
    rows = [
        {"tokens": ["the", "goods", "film"], "tags": ["negative", "positive", 0]},
        {"tokens": "film was", "tags": "1 0"},
    ]
    path = tmp_path / "tags.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    parts = load(folder, path)
    labels = {tuple(row) for part in parts for row in part.targets["labels"].tolist()}
    skip = IGNORED
    assert labels == {(skip, 0, 1, skip, 0, skip), (skip, 1, 0, skip, skip, skip)}
    assert (parts[1].task, parts[1].classes) == ("token_classification", hf_folders.LABELS)
    path.write_text(json.dumps({"tokens": ["the", "film"], "tags": [0]}))
    with pytest.raises(DataError, match=r"tags.jsonl, line 1, column 'tags': 1 labels, and more words"):
        load(folder, Path(shutil.copy(path, tmp_path / "short.tags.jsonl")), text="tokens")


@pytest.mark.parametrize("kind", ["llama", "gpt"])
def test_a_decoder_reads_documents_in_windows(kind: str, tmp_path: Path) -> None:
    """It gives log-likelihoods and some scores, and its cache gives what the whole text gives."""
    folder = getattr(hf_folders, kind)(tmp_path / kind)
    _, test = load(folder, hf_folders.reviews(tmp_path / "reviews.csv"), tokens=16)
    assert test.task == "language_modelling"
    assert "windows of 16 tokens, stride 8" in test.source
    assert set(test.targets) == {"labels", "counted", "units"}
    model = own_model.make_model(context(folder)).eval()
    tokens = torch.from_numpy(np.asarray(test.inputs["tokens"])[:2])
    with torch.inference_mode():
        outputs = model(tokens=tokens)
        expected = model.decoder(tokens)
        cache = (decoder := find_decoder(model)).new_cache(2)
        for start, end in ((0, 10), (10, 11), (11, 16)):
            scores = decoder.extend(tokens[:, start:end], cache)
            torch.testing.assert_close(scores, expected[:, end - 1])
        cache.crop(12)
        torch.testing.assert_close(decoder.extend(tokens[:, 12:13], cache), expected[:, 12])
    assert cache.length == 13
    # Keys and values of 13 tokens of two texts: one layer, two heads of 8 numbers in 4 bytes.
    assert cache.nbytes == 2 * 2 * 13 * 2 * 8 * 4
    assert {name: tuple(array.shape) for name, array in outputs.items()} == {
        "logits": (2, 1, len(hf_folders.WORDS)),
        "log_likelihoods": (2, 16),
    }


def test_a_decoder_reads_a_text_in_parts_without_a_state(tmp_path: Path) -> None:
    """Its keys and values go in and come out, as its own cache has them, and no state is left behind."""
    model = own_model.make_model(context(hf_folders.llama(tmp_path / "llama", num_hidden_layers=2))).eval()
    decoder, tokens = model.decoder, torch.arange(16).reshape(2, 8) % len(hf_folders.WORDS)
    assert (can_step(model), no_step_reason(model), decoder.cache_shape) == (True, "", (2, 2, 8))
    past: list[torch.Tensor] = [torch.zeros(2, 2, 0, 8)] * 4
    with torch.inference_mode():
        expected, cache = decoder(tokens), decoder.new_cache(2)
        decoder.extend(tokens, cache)
        for start, end in ((0, 4), (4, 5), (5, 8)):
            last = torch.tensor([end - start - 1])
            scores, *past = decoder.step(tokens[:, start:end], last, *past)
            torch.testing.assert_close(scores, expected[:, end - 1 : end])
    held = [part for layer in cache.states.layers for part in (layer.keys, layer.values)]
    for ours, theirs in zip(past, held, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_decoder_without_such_a_cache_says_why() -> None:
    """Where layers keep a state, or keys and values of two widths, or the graph cannot be recorded."""
    import transformers

    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 16}
    state = make_decoder(transformers.MambaForCausalLM(transformers.MambaConfig(**sizes, state_size=4)))
    assert not can_step(state)
    assert no_step_reason(state).startswith(
        "layer 0 of its cache is a LinearAttentionLayer, which keeps other"
    )
    latent = {
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 6,
    }
    config = transformers.DeepseekV3Config(
        **sizes, **heads, **latent, first_k_dense_replace=1, max_position_embeddings=32
    )
    widths = make_decoder(transformers.DeepseekV3ForCausalLM(config)).eval()
    assert no_step_reason(widths) == "its keys and values differ in heads x width: 1 x 4 and 1 x 8"
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    config = transformers.LlamaConfig(**sizes, **heads, max_position_embeddings=64, rope_parameters=rope)
    grows = make_decoder(transformers.LlamaForCausalLM(config)).eval()
    assert can_step(grows)
    graph, (note,) = find_decoder_graph(grows, None)
    assert graph is None
    assert note.startswith(
        "no cache, so texts are read as a whole: cannot be exported with its cache: layer "
    )
    assert "rotary_emb" in note
    assert find_decoder_graph(torch.nn.Linear(2, 2), None) == (None, ())


def test_what_a_decoder_cannot_read_is_said_in_a_line(tmp_path: Path) -> None:
    """A tokenizer with more tokens than the embedding, and windows that are longer than the positions."""
    import tokenizers
    import transformers

    table = hf_folders.reviews(tmp_path / "reviews.csv")
    small = hf_folders.llama(tmp_path / "small", vocab_size=9)
    count = len(hf_folders.WORDS)
    with pytest.raises(UsageError, match=rf"has {count} tokens, and the model's embedding 9: they do not"):
        load(small, table)
    llama = hf_folders.llama(tmp_path / "llama")
    with pytest.raises(UsageError, match=r"own_model.tokens=999: the model has 128 positions"):
        load(llama, table, tokens=999)
    # A tokenizer that puts nothing around a text, so that a text of a word is one token.
    words = {word: place for place, word in enumerate(hf_folders.WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(llama)
    (tmp_path / "short.jsonl").write_text('{"text": "film"}\n' * 4)
    with pytest.raises(
        DataError, match=r"short.jsonl: . documents: the text is too short for a window: 1 tokens; expected 2"
    ):
        load(llama, tmp_path / "short.jsonl")


def test_a_decoder_without_data_reads_drawn_tokens(tmp_path: Path) -> None:
    """They have no targets, and a free length."""
    folder = hf_folders.llama(tmp_path / "llama")
    _, test = load(folder)
    assert (dict(test.targets), test.inputs["tokens"].shape) == ({}, (128, 128))
    assert own_model.input_lengths(context(folder)) == (32, 128)
    assert own_model.example_inputs(3, 40, context(folder))["tokens"].shape == (3, 40)


def test_generated_texts_have_numbers_of_tokens(folder: Path) -> None:
    """They differ between the splits, take all of the length, and hide nothing."""
    train, test = load(folder)
    assert test.source == "generated inputs, since no data were given"
    assert test.inputs["input_ids"].shape == (128, 32)
    ids = np.asarray(test.inputs["input_ids"])
    assert (ids.min(), ids.max()) == (0, len(hf_folders.WORDS) - 1)
    assert not np.array_equal(ids, np.asarray(train.inputs["input_ids"])[:128])
    assert np.asarray(test.inputs["attention_mask"]).min() == 1
    assert not dict(test.targets)


def test_examples_are_like_the_data_with_padding(folder: Path) -> None:
    """Without data yet there are none; a mask has ones first, and zeros."""
    assert not make_transformers_examples(2, context(folder))
    text = "input_ids:int64[1,8]=0..11; attention_mask:int64[1,8]=1"
    examples = own_model.example_inputs(2, None, context(folder, example=text))
    assert isinstance(examples, dict)
    assert examples["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]] * 2
    assert examples["input_ids"].shape == (2, 8)


def test_limits_are_those_of_tokenizer_and_model() -> None:
    """The smaller counts, and positions that padding takes do not."""
    tokenizer = type("Tokenizer", (), {"model_max_length": 10**30})
    assert most_tokens(tokenizer, {"max_position_embeddings": 40}, 0) == 40
    roberta = {"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}
    assert most_tokens(tokenizer, roberta, 0) == 512
    assert most_tokens(tokenizer, roberta, 100) == 100


def test_vectors_are_pooled_as_the_folder_says(tmp_path: Path) -> None:
    """The mean over tokens that are not padding, unless sentence-transformers left another way."""
    folder = hf_folders.bert(tmp_path / "vectors", "BertModel")
    text = "input_ids:int64[1,8]=0..11; attention_mask:int64[1,8]=1"
    inputs = own_model.example_inputs(2, None, context(folder, example=text))
    assert isinstance(inputs, dict)
    model = own_model.make_model(context(folder)).eval()
    tokens = model.model(**inputs).last_hidden_state
    assert torch.allclose(model(**inputs)["embedding"], tokens[:, :6].mean(1), atol=1e-6)
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    steps = [{"path": "1_Pooling", "type": "st.models.Pooling"}, {"path": "", "type": "st.models.Normalize"}]
    (folder / "modules.json").write_text(json.dumps(steps))
    vectors = own_model.make_model(context(folder)).eval()(**inputs)["embedding"]
    assert torch.allclose(vectors, torch.nn.functional.normalize(tokens[:, 0], dim=-1), atol=1e-6)
    (folder / "modules.json").write_text(json.dumps([*steps, {"path": "2", "type": "st.models.Dense"}]))
    with pytest.raises(UsageError, match="the step Dense of sentence-transformers is not taken"):
        own_model.make_model(context(folder))


# Images and sounds --------------------------------------------------------------------------------


def images(root: Path, names: tuple[str, ...]) -> Path:
    """Write a tree of class folders with two images in each, and return its path."""
    for split in ("train", "test"):
        for level, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((20 + number, 30, 3), 255 * level // max(1, len(names) - 1), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def test_images_go_through_the_processor_of_the_model(tmp_path: Path) -> None:
    """Folders are named as the model's classes, or else stand for them in their order, which is said."""
    folder = hf_folders.vit(tmp_path / "vit")
    _, test = load(folder, images(tmp_path / "named", ("positive", "negative")))
    pixels = test.inputs["pixel_values"]
    assert (pixels.shape, pixels.dtype) == ((4, 3, 16, 16), np.float32)
    assert test.targets["labels"].tolist() == [0, 0, 1, 1]
    assert [array.mean().round() for array in pixels[:]] == [1, 1, -1, -1]
    assert "ViTImageProcessor" in test.preprocessing
    examples = own_model.example_inputs(2, None, context(folder))
    assert isinstance(examples, dict)
    assert own_model.make_model(context(folder)).eval()(**examples).logits.shape == (2, 2)
    _, test = load(folder, images(tmp_path / "others", ("n01", "n02")))
    assert test.source == "others, classes in the order of the folders' names"
    with pytest.raises(DataError, match=r"class folder 'a' is none of the model's classes \(negative, posi"):
        load(folder, images(tmp_path / "three", ("a", "b", "c")))
    (tmp_path / "others" / "test" / "n01" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0.png cannot be used"):
        load(folder, Path(shutil.copytree(tmp_path / "others", tmp_path / "damaged")))
    with pytest.raises(DataError, match=r"reviews.csv: a table has texts, and ViTFor.* takes pixel_values"):
        load(folder, hf_folders.reviews(tmp_path / "reviews.csv"))


def test_texts_in_class_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    """The message says what is expected of a model of texts."""
    with pytest.raises(DataError, match=r"takes texts; expected a table \(.csv, .tsv, .jsonl, .parquet\)"):
        load(folder, images(tmp_path / "images", ("a", "b")))


def test_sounds_are_resampled_and_padded(tmp_path: Path) -> None:
    """All to the length of the longest, at the rate of the model, which is said."""
    from scipy.io import wavfile

    folder = hf_folders.wav2vec2(tmp_path / "sounds")
    root = tmp_path / "waves"
    for split in ("train", "test"):
        for name, seconds in (("negative", 0.05), ("positive", 0.1)):
            (root / split / name).mkdir(parents=True)
            samples = (1000 * np.sin(np.arange(int(16000 * seconds)))).astype(np.int16)
            wavfile.write(root / split / name / "a.wav", 16000, samples)
    _, test = load(folder, root)
    assert test.inputs["input_values"].shape == (2, 800)
    assert test.targets["labels"].tolist() == [0, 1]
    assert "resampled to 8,000 Hz, goes through Wav2Vec2FeatureExtractor" in test.preprocessing
    inputs = torch.from_numpy(test.inputs["input_values"])
    assert own_model.make_model(context(folder)).eval()(inputs).logits.shape == (2, 2)
    _, generated = load(folder)
    assert generated.inputs["input_values"].shape == (128, 8000)
    (root / "test" / "negative" / "a.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"a.wav is no .wav file that can be read"):
        load(folder, Path(shutil.copytree(root, tmp_path / "damaged")))
