"""Check the results of a run against rules, decided on intervals."""

from qx.gate.decide import Decision, Ruling, decide
from qx.gate.rules import Rule, Rules, read_rules

__all__ = ["Decision", "Rule", "Rules", "Ruling", "decide", "read_rules"]
