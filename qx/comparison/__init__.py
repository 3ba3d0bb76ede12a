"""Compare runs from different environments, machines or days: what changed between them."""

from qx.comparison.compare import compare
from qx.comparison.records import Change, RunComparison, Side
from qx.comparison.sources import Source, how_made, read, refusal, with_labels

__all__ = [
    "Change",
    "RunComparison",
    "Side",
    "Source",
    "compare",
    "how_made",
    "read",
    "refusal",
    "with_labels",
]
