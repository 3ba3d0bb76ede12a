"""What was seen of one aspect of the machine."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen
class Finding:
    """What the machine shows in one aspect, such as its frequency governor."""

    name: str
    state: Literal["good", "bad", "unknown"]
    #: What was seen, in words.
    found: str
    #: What to do about it; empty where nothing is wrong.
    advice: str = ""
