"""Options of every config that fine-tunes. Light: it is imported whenever plugins are listed."""

from __future__ import annotations

from qx import Option

OPTIONS = (
    Option(name="epochs", default=1, help="Passes over the training split."),
    Option(name="learning_rate", default=1e-3, help="Of SGD, at the first step; it falls to nothing."),
    Option(
        name="loss",
        default="teacher",
        choices=("teacher", "labels"),
        help="Learn the answers of the fp32 model, or the labels.",
    ),
)
