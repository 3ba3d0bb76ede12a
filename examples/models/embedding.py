"""A network that puts images of the same digit near each other."""

import torch
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

TASK = "embedding"


def load_data(split):
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 1, 8, 8).astype("float32")
    return (images[:1297], labels[:1297]) if split == "train" else (images[1297:], labels[1297:])


def make_model():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 32, 3), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten())
    head = nn.Linear(288, 9)
    images, labels = load_data("train")
    with torch.no_grad():  # the last layer, in closed form: yours would be loaded
        features = body(torch.tensor(images))
        analysis = LinearDiscriminantAnalysis("eigen", shrinkage=0.1).fit(features.numpy(), labels)
        head.weight.copy_(torch.tensor(analysis.scalings_[:, :9].T))
        head.bias.copy_(-head.weight @ features.mean(0))
    return nn.Sequential(body, head)
