"""What changed between runs: of other environments, of other machines, of other days."""

from qx.comparison.compare import compare
from qx.comparison.records import Change, Compared, Side
from qx.comparison.sources import Source, named, read, refusal

__all__ = ["Change", "Compared", "Side", "Source", "compare", "named", "read", "refusal"]
