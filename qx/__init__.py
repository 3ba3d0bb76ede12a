"""qx: every way to quantize a PyTorch model, side by side, in numbers that survive being measured again."""

from qx.contract.hookspecs import CONTRACT, hookimpl
from qx.contract.records import (
    Arrays,
    Artifact,
    Block,
    Config,
    Context,
    Data,
    Fresh,
    Loader,
    Mark,
    Metric,
    Option,
    Predictions,
    Recorded,
    Samples,
    StoredWeight,
    Subject,
    Weights,
    Workload,
)
from qx.environment import cpu_flags
from qx.errors import DataError, PluginError, QxError, Unsupported, UsageError
from qx.leftovers import unfinished_folder

__all__ = [
    "CONTRACT",
    "Arrays",
    "Artifact",
    "Block",
    "Config",
    "Context",
    "Data",
    "DataError",
    "Fresh",
    "Loader",
    "Mark",
    "Metric",
    "Option",
    "PluginError",
    "Predictions",
    "QxError",
    "Recorded",
    "Samples",
    "StoredWeight",
    "Subject",
    "Unsupported",
    "UsageError",
    "Weights",
    "Workload",
    "cpu_flags",
    "hookimpl",
    "unfinished_folder",
]
