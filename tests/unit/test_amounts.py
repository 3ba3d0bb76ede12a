"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest

from qx.amounts import duration_in_words, size_in_words, to_bytes, to_seconds
from qx.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("600", 600),
        ("600s", 600),
        ("10m", 600),
        ("1h", 3600),
        ("1.5h", 5400),
        (" 2 D ", 172800),
        ("4w", 2419200),
        ("0", 0),
        (600, 600),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_read_in_each_unit(text: str | float, seconds: float) -> None:
    """A number is in seconds, and a letter behind it names another unit."""
    assert to_seconds(text, "--max-time") == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "ten", "10x", "10 minutes", "-5", "+5", "1e3", "inf", "nan", "1,5h", "5m5", "\0", "٣m", True],
)
def test_what_is_no_duration_is_refused_in_a_line(text: str) -> None:
    """The line names the option, quotes the text and says what is expected."""
    with pytest.raises(UsageError) as caught:
        to_seconds(text, "--max-time")
    line = str(caught.value)
    assert line.startswith("--max-time: ") and "is not a duration; expected" in line
    assert line.isprintable() and len(line) < 200


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_duration_is_finite(value: float) -> None:
    """A number that is no time is refused too."""
    with pytest.raises(UsageError, match="is not a duration"):
        to_seconds(value, "max_time")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("500M", 5e8),
        ("2G", 2e9),
        ("2GB", 2e9),
        ("2GiB", 2**31),
        ("1.5 k", 1500),
        ("1T", 1e12),
    ],
)
def test_a_size_is_read_in_each_unit(text: str, size: float) -> None:
    """A number is in bytes; units of 1,000 and of 1,024 differ as usual."""
    assert to_bytes(text, "--max-size") == size


@pytest.mark.parametrize("text", ["", "G", "2Q", "-1", "2 gigs", "0x10"])
def test_what_is_no_size_is_refused_in_a_line(text: str) -> None:
    """The line names the option and says what is expected."""
    with pytest.raises(UsageError, match=r"--max-size: .* is not a size; expected"):
        to_bytes(text, "--max-size")


def test_amounts_are_written_as_they_are_read() -> None:
    """Durations in their largest whole unit, sizes with three digits."""
    assert [duration_in_words(seconds) for seconds in (600, 90, 5.5, 3600, 2592000)] == [
        *("10m", "90s", "5.5s", "1h", "30d"),
    ]
    assert [size_in_words(size) for size in (0, 999, 1000, 28_100_000, 999_600_000, 1.204e12)] == [
        *("0 B", "999 B", "1.00 kB", "28.1 MB", "1.00 GB", "1,204 GB"),
    ]
