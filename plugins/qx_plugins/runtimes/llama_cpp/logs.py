"""What llama.cpp says, of which only the last error is kept: it writes hundreds of lines about a file."""

from __future__ import annotations

from typing import Any

import llama_cpp

#: Level of llama.cpp's messages about errors.
ERROR = 4
_errors: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_error(level: int, text: bytes, _data: Any) -> None:
    if level == ERROR and (line := text.decode(errors="replace").strip()):
        _errors[:] = [line]


def silence() -> None:
    """Keep llama.cpp from writing to standard error."""
    llama_cpp.llama_log_set(_keep_error, None)


def last_line() -> str:
    """Return the last error; a few words where there was none."""
    return _errors[-1] if _errors else "it gives no reason"
