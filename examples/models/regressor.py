"""A network that predicts how far diabetes will have progressed in a year."""

import numpy
import torch
from sklearn.datasets import load_diabetes
from torch import nn


def load_data(split):
    measured, progress = load_diabetes(return_X_y=True)
    order = numpy.random.RandomState(0).permutation(442)
    chosen = order[:221] if split == "train" else order[221:]
    return (20 * measured[chosen]).astype("float32"), progress[chosen]


def make_model():
    torch.manual_seed(0)
    body, head = nn.Sequential(nn.Linear(10, 256), nn.GELU()), nn.Linear(256, 1)
    measured, progress = map(torch.tensor, load_data("train"))
    with torch.no_grad():  # the last layer, by least squares on random features: yours would be loaded
        features = body(measured)
        products = features.T @ features + 10 * torch.eye(256)
        head.bias.fill_(progress.mean())
        head.weight[0] = torch.linalg.solve(products, features.T @ (progress - progress.mean()).float())
    return nn.Sequential(body, head)


def score(outputs, targets):
    """Return R2, the share of the variance that is predicted, of all items together."""
    error = outputs["output"][:, 0] - targets["labels"]
    return 1 - error.var() / targets["labels"].var()
