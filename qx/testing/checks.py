"""The checks of each kind of plugin, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Mapping

from qx.contract.records import Kind
from qx.testing import for_all, for_configs, for_loaders, for_metrics, for_workloads
from qx.testing.check import Check

CHECKS: Mapping[Kind, tuple[Check, ...]] = {
    "config": (*for_all.CHECKS, *for_configs.CHECKS),
    "metric": (*for_all.CHECKS, *for_metrics.CHECKS),
    "workload": (*for_all.CHECKS, *for_workloads.CHECKS),
    "loader": (*for_all.CHECKS, *for_loaders.CHECKS),
}


def checks_of(kind: Kind | None) -> tuple[Check, ...]:
    """Return the checks of a kind in their order; for a plugin of unknown kind those of every plugin."""
    return for_all.CHECKS if kind is None else CHECKS[kind]
