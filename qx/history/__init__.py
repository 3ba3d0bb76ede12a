"""Figures over many runs: a series for each cell and metric, and the steps in it with their commits."""

from qx.history.series import History, Series, collect, of_cells, read_runs

__all__ = ["History", "Series", "collect", "of_cells", "read_runs"]
