"""The runner: it plans cells, has them built, evaluated and measured, each in processes of its own."""

from qx.runner.request import Reporter, Request
from qx.runner.run import run

__all__ = ["Reporter", "Request", "run"]
