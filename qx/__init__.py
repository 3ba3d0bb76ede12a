"""qx: every way to quantize a PyTorch model, side by side, in numbers that survive being measured again."""

from typing import TYPE_CHECKING, Any

from qx.contract.devices import CallTimes, Device, DeviceMemory, DeviceProcess, DeviceReading
from qx.contract.figures import Figure, Point
from qx.contract.float_layers import FloatLayers, float_layers
from qx.contract.hookspecs import CONTRACT, hookimpl
from qx.contract.records import (
    LABELS,
    OUTPUT,
    UNITS,
    Arrays,
    Artifact,
    Batch,
    Block,
    Building,
    BuildStep,
    Config,
    Context,
    Converted,
    Data,
    Fresh,
    LayerRow,
    Loader,
    Mark,
    Metric,
    ModelFacts,
    Option,
    Predictions,
    Profile,
    ProfiledOperator,
    Recipe,
    Recorded,
    Samples,
    ServingCode,
    StoredWeight,
    Subject,
    Weights,
    Workload,
)
from qx.contract.references import import_file
from qx.contract.rounding import Rounding
from qx.contract.structure import Lengths
from qx.environment import cpu_flags
from qx.errors import DataError, PluginError, QxError, Unsupported, UsageError
from qx.foreign import one_line
from qx.leftovers import unfinished_folder

if TYPE_CHECKING:
    from qx.api.result import Result, load
    from qx.api.run import run
    from qx.api.search import search
    from qx.searching.report import SearchReport
    from qx.statistics.output_error import signal_and_noise
    from qx.storage.session_objects import session_object
    from qx.worker.arrays import draw_items

#: Names that are imported when they are first used, each with its module: a launch, which imports ``qx`` too,
#: is to import nothing that it does not need.
_LAZY = {
    "Result": "qx.api.result",
    "SearchReport": "qx.searching.report",
    "draw_items": "qx.worker.arrays",
    "load": "qx.api.result",
    "run": "qx.api.run",
    "search": "qx.api.search",
    "session_object": "qx.storage.session_objects",
    "signal_and_noise": "qx.statistics.output_error",
}

__all__ = [
    "CONTRACT",
    "LABELS",
    "OUTPUT",
    "UNITS",
    "Arrays",
    "Artifact",
    "Batch",
    "Block",
    "BuildStep",
    "Building",
    "CallTimes",
    "Config",
    "Context",
    "Converted",
    "Data",
    "DataError",
    "Device",
    "DeviceMemory",
    "DeviceProcess",
    "DeviceReading",
    "Figure",
    "FloatLayers",
    "Fresh",
    "LayerRow",
    "Lengths",
    "Loader",
    "Mark",
    "Metric",
    "ModelFacts",
    "Option",
    "PluginError",
    "Point",
    "Predictions",
    "Profile",
    "ProfiledOperator",
    "QxError",
    "Recipe",
    "Recorded",
    "Result",
    "Rounding",
    "Samples",
    "SearchReport",
    "ServingCode",
    "StoredWeight",
    "Subject",
    "Unsupported",
    "UsageError",
    "Weights",
    "Workload",
    "cpu_flags",
    "draw_items",
    "float_layers",
    "hookimpl",
    "import_file",
    "load",
    "one_line",
    "run",
    "search",
    "session_object",
    "signal_and_noise",
    "unfinished_folder",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_LAZY]
