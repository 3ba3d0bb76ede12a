"""qx: every way to quantize a PyTorch model, side by side, in numbers that survive being measured again."""

from qx.contract.figures import Figure, Point
from qx.contract.hookspecs import CONTRACT, hookimpl
from qx.contract.records import (
    LABELS,
    OUTPUT,
    Arrays,
    Artifact,
    Batch,
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
from qx.contract.references import import_file
from qx.environment import cpu_flags
from qx.errors import DataError, PluginError, QxError, Unsupported, UsageError
from qx.foreign import one_line
from qx.leftovers import unfinished_folder

__all__ = [
    "CONTRACT",
    "LABELS",
    "OUTPUT",
    "Arrays",
    "Artifact",
    "Batch",
    "Block",
    "Config",
    "Context",
    "Data",
    "DataError",
    "Figure",
    "Fresh",
    "Loader",
    "Mark",
    "Metric",
    "Option",
    "PluginError",
    "Point",
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
    "import_file",
    "one_line",
    "unfinished_folder",
]
