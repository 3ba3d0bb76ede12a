"""qx: every way to quantize a PyTorch model, side by side, in numbers that survive being measured again."""

from qx.environment import cpu_flags
from qx.errors import DataError, PluginError, QxError, Unsupported, UsageError
from qx.hookspecs import CONTRACT, hookimpl
from qx.leftovers import unfinished_folder
from qx.records import (
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
    Subject,
    Workload,
)

__all__ = [
    "CONTRACT",
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
    "Subject",
    "Unsupported",
    "UsageError",
    "Workload",
    "cpu_flags",
    "hookimpl",
    "unfinished_folder",
]
