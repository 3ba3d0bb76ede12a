"""A BERT of transformers that says which of four topics a text is about, from two inputs."""

import torch
from transformers import BertConfig, BertForSequenceClassification


def load_data(split):
    random = torch.Generator().manual_seed(len(split))
    labels = torch.arange(600) % 4
    words = torch.randint(100, 1000, (600, 32), generator=random)
    on_topic = torch.randint(0, 100, (600, 32), generator=random) // 4 * 4 + labels[:, None]
    words = torch.where(torch.rand(600, 32, generator=random) < 0.25, on_topic, words)
    mask = torch.arange(32) < torch.randint(8, 33, (600, 1), generator=random)
    return {"input_ids": words * mask, "attention_mask": mask.long()}, labels


def make_model():
    sizes = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertForSequenceClassification(BertConfig(**sizes, intermediate_size=128, num_labels=4))


def train(model, epochs=10):
    inputs, labels = load_data("train")
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            model(
                **{name: part[chosen] for name, part in inputs.items()}, labels=labels[chosen]
            ).loss.backward()
            optimizer.step()
    return model
