"""An LSTM that tells how fast a noisy series swings."""

import torch
from torch import nn


class Swings(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 64, batch_first=True)
        self.classifier = nn.Linear(64, 5)

    def forward(self, series):
        return self.classifier(self.lstm(series)[0].mean(1))


def load_data(split):
    random = torch.Generator().manual_seed(len(split))
    labels = torch.arange(1000) % 5
    phases = 6.28 * torch.rand(1000, 1, generator=random)
    series = torch.sin(phases + torch.arange(60) * 0.1 * 1.5 ** labels[:, None])
    return (series + 0.5 * torch.randn(1000, 60, generator=random)).unsqueeze(2), labels


def make_model():
    return Swings()


def train(model, epochs=12):
    series, labels = map(torch.as_tensor, load_data("train"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(series[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model
