"""Names of devices, and what records say of them."""

from __future__ import annotations

from typing import Any

import pytest

from qx import Config, Loader, Metric, UsageError
from qx.contract.devices import index_of, kind_of, to_device
from qx.results.cells import CellId
from qx.runner import Request


@pytest.mark.parametrize(
    ("text", "name"), [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:12", "cuda:12")]
)
def test_a_device_has_one_name(text: str, name: str) -> None:
    """``cuda`` and ``cuda:0`` are the same device, and cells have one name for it."""
    assert to_device(text) == name
    assert Request(device=text).device == name
    assert (kind_of(name), index_of(name)) == (name.partition(":")[0], int(name.partition(":")[2] or 0))


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "cuda:01", "CUDA", "cpu:0", "cuda:0\n", ""])
def test_other_names_are_refused(text: str) -> None:
    """What is no device is refused in one line with the forms that there are."""
    with pytest.raises(UsageError, match=r"^--device .*: expected cpu, cuda or cuda:N$"):
        to_device(text)


def test_rows_name_the_device_only_where_it_is_not_the_cpu() -> None:
    """Cells of two devices are in two places, and only one on a device has it in its row."""
    cell = CellId(workload="cnn", config="bf16")
    on_device = CellId(workload="cnn", config="bf16", device="cuda:1")
    assert (cell.row, on_device.row) == ("bf16", "bf16@cuda:1")
    assert cell.place != on_device.place


METRIC = {
    "name": "it",
    "summary": "It.",
    "unit": "ms",
    "better": "lower",
    "samples": "per_block",
    "compare": "ratio",
    "phase": "block",
}


def test_records_are_for_the_cpu_unless_they_say_otherwise() -> None:
    """A plugin that does not know of devices is for the CPU, and a metric for any."""
    metric: Any = Metric
    assert Config(name="it", summary="It.").devices == ("cpu",)
    assert Loader(name="it", summary="It.").devices == ("cpu",)
    assert metric(**METRIC).devices == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"devices": ["gpu"]}, "'devices' must be of cpu, cuda, not 'gpu'"),
        ({"devices": []}, "'devices' must name a device"),
        ({"devices": ["cuda", "cuda"]}, "has a device twice"),
        ({"devices": "cuda"}, "expected a list of texts"),
        ({"devices": ["cuda"], "compute_capability": "9"}, "a compute capability is written as '8.9'"),
        ({"compute_capability": "8.9"}, "'devices' must have 'cuda'"),
    ],
)
def test_wrong_devices_of_a_record_are_refused(fields: dict[str, Any], message: str) -> None:
    """A record that names a device wrongly breaks the contract, with what was expected."""
    with pytest.raises((TypeError, ValueError), match=message):
        Config(name="it", summary="It.", **fields)
