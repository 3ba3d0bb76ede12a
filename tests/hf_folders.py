"""Tiny models of transformers in folders, for tests: from settings, with tokenizers of a few words."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Words of the tokenizer; those of praise and blame decide the class of a review.
WORDS = (*SPECIAL, "the", "film", "was", "good", "bad", "fine", "dull", "##s")
LABELS = ("negative", "positive")
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def bert(folder: Path, architecture: str = "BertForSequenceClassification", **settings: Any) -> Path:
    """Save a tiny BERT with its tokenizer, and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=32, id2label=dict(enumerate(LABELS)), **SIZES
    )
    config.label2id = {name: index for index, name in enumerate(LABELS)}
    for name, value in settings.items():
        setattr(config, name, value)
    getattr(transformers, architecture)(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Save a tokenizer of these words."""
    from transformers import BertTokenizerFast

    vocabulary = {word: place for place, word in enumerate(WORDS)}
    BertTokenizerFast(vocab=vocabulary, model_max_length=32).save_pretrained(folder)


def llama(folder: Path, **settings: Any) -> Path:
    """Save a tiny Llama with a tokenizer of the same words, and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": len(WORDS)}
    config = transformers.LlamaConfig(**(SIZES | sizes | settings))
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def gpt(folder: Path) -> Path:
    """Save a tiny GPT-2 with a tokenizer of the same words, and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=len(WORDS), n_positions=128, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def vit(folder: Path, **settings: Any) -> Path:
    """Save a tiny vision transformer for images of 16x16 pixels with its processor, and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=16, patch_size=8, id2label=dict(enumerate(LABELS)), **SIZES)
    for name, value in settings.items():
        setattr(config, name, value)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def wav2vec2(folder: Path) -> Path:
    """Save a tiny model of sounds with its feature extractor, and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        conv_dim=(8, 8),
        conv_stride=(4, 4),
        conv_kernel=(8, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        id2label=dict(enumerate(LABELS)),
        **SIZES,
    )
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, return_attention_mask=False)
    extractor.save_pretrained(folder)
    return folder


def reviews(path: Path, count: int = 40) -> Path:
    """Write a table of reviews, and return its path."""
    texts = ("the film was bad", "the film was good", "dull", "the film was fine the film was fine")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([texts[index % 4], LABELS[index % 2]] for index in range(count))
    return path
