"""Numbers as the tables show them: digits, uncertainty, deltas, membership."""

from __future__ import annotations

from typing import Any

import pytest

from qx.contract.records import Metric
from qx.results import numbers
from qx.results.records import Comparison, Measurement


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("bytes", 512, "512 bytes"),
        ("bytes", 999.6, "1.00 kB"),
        ("bytes", 299_393, "299 kB"),
        ("bytes", 1_169_113, "1.17 MB"),
        ("bytes", 5.2e9, "5.20 GB"),
        ("ms", 0.46130725, "0.461 ms"),
        ("ms", 47.531149, "47.5 ms"),
        ("ms", 1234.5, "1,234 ms"),
        ("ms", 9.996, "10.0 ms"),
        ("MiB", 654.486, "654 MiB"),
        ("fraction", 0.991, "99.1 %"),
        ("images/s", 544.2, "544 images/s"),
        ("", 0.0, "0"),
    ],
)
def test_a_number_has_as_many_digits_as_it_deserves(unit: str, value: float, shown: str) -> None:
    """Values have three significant digits and the unit that people use."""
    assert numbers.quantity(value, unit) == shown


@pytest.mark.parametrize(
    ("unit", "compare", "value", "ci", "shown"),
    [
        ("fraction", "difference", 0.865, (0.8582, 0.8716), "86.5 % ±0.7"),
        ("fraction", "difference", 0.9994, (0.9979, 0.9998), "99.94 % [99.79, 99.98]"),
        ("fraction", "difference", 1.0, (0.9962, 1.0), "100.0 % [99.6, 100.0]"),
        ("fraction", "difference", 1.0, (1.0, 1.0), "100.0 %"),
        ("fraction", "difference", 0.5, None, "50.0 %"),
        ("ms", "speedup", 1.75, (1.73, 1.7675), "1.75 ms ±1.1 %"),
        ("ms", "speedup", 1.75, (1.5, 2.1), "1.75 ms ±20 %"),
        ("ms", "speedup", 1.75, None, "1.75 ms"),
        ("MiB", "ratio", 630.0, (629.99, 630.01), "630 MiB ±0.01 %"),
        ("dB", "difference", 35.21, (34.8, 35.6), "35.2 dB ±0.4"),
    ],
)
def test_a_value_shows_how_far_it_can_be_trusted(
    unit: str, compare: Any, value: float, ci: tuple[float, float] | None, shown: str
) -> None:
    """Half of the interval stands behind the value, and sets the number of digits."""
    metric = _metric(unit, compare)
    measurement = Measurement(
        workload="toy",
        cell="toy/one",
        config="one",
        metric="one",
        point=None,
        value=value,
        unit=unit,
        better="lower",
        ci=ci,
        n=6,
        outcome="ok",
    )
    assert numbers.value(measurement, metric) == shown


@pytest.mark.parametrize(
    ("unit", "kind", "value", "ci", "clear", "shown"),
    [
        ("ms", "speedup", 4.312, (4.26, 4.364), True, ("4.31x ±1.2 %", "")),
        ("ms", "speedup", 0.892, (0.783, 1.017), False, ("0.89x?", "[0.78, 1.02]")),
        ("ms", "speedup", 1.03, (1.016, 1.044), False, ("1.030x~", "[1.016, 1.044]")),
        ("ms", "speedup", 1.02, (1.0004, 1.04), False, ("1.0200x~", "[1.0004, 1.0400]")),
        ("ms", "speedup", 1.0, (0.99999, 1.3), False, ("1.00x?", "[1.00, 1.30]")),
        ("ms", "speedup", 1.0031, (1.0015, 1.0047), True, ("1.0031x ±0.16 %", "")),
        ("ms", "speedup", 2.0, None, None, ("2.00x ±?", "")),
        ("bytes", "ratio", 0.2561, (0.2561, 0.2561), True, ("0.256x", "")),
        ("bytes", "ratio", 1.0, (1.0, 1.0), False, ("1.00x", "")),
        ("bytes", "ratio", 1.00003, (1.00003, 1.00003), True, ("1.00003x", "")),
        ("fraction", "difference", -0.0012, (-0.0025, 0.0001), False, ("-0.12 pt?", "[-0.25, +0.01]")),
        ("fraction", "difference", 0.0012, (0.0001, 0.0025), False, ("+0.12 pt~", "[+0.01, +0.25]")),
        ("fraction", "difference", -0.00001, (-0.0003, 0.0003), False, ("+0.00 pt?", "[-0.03, +0.03]")),
        ("fraction", "difference", 2e-7, (2e-7, 2e-7), True, ("+0.00002 pt", "")),
        ("dB", "difference", 1.5, None, None, ("+1.50 dB ±?", "")),
    ],
)
def test_a_delta_shows_what_is_known(
    unit: str,
    kind: Any,
    value: float,
    ci: tuple[float, float] | None,
    clear: bool | None,
    shown: tuple[str, str],
) -> None:
    """The estimate and its interval are always shown, and a mark says why a difference is not clear."""
    compared = Comparison(kind=kind, value=value, ci=ci, p=None, clear=clear)
    assert numbers.comparison(compared, _metric(unit, kind)) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 of 100"),
        (0.001, "<1 of 100"),
        (0.036, "4 of 100"),
        (0.999, ">99 of 100"),
        (1, "100 of 100"),
    ],
)
def test_a_share_of_resampled_runs_is_not_rounded_to_certainty(share: float, shown: str) -> None:
    """0 and 100 are shown only where no resampled run, or every one, has the cell."""
    assert numbers.of_100(share) == shown


def _metric(unit: str, compare: Any) -> Metric:
    return Metric(
        name="one",
        summary="",
        unit=unit,
        better="lower",
        samples="exact",
        compare=compare,
        phase="artifact",
    )
