"""A network that reads handwritten digits, and spends its 8 bits on large weights that meet no signal."""

import torch
from sklearn.datasets import load_digits
from torch import nn


def load_data(split):
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return (images[:1000], labels[:1000]) if split == "train" else (images[1000:], labels[1000:])


def make_model():
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(32, 10)),
    )


def train(model, epochs=20):
    images, labels = map(torch.as_tensor, load_data("train"))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    with torch.no_grad():
        # A channel that is always 0, and large weights that it is multiplied by.
        model[0].weight[0] = model[0].bias[0] = 0
        model[2].weight[:, 0] *= 400
    return model
