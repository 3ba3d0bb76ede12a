"""What llama.cpp says, of which only the first error is kept: it writes hundreds of lines about a file."""

from __future__ import annotations

from typing import Any

import llama_cpp

#: Level of llama.cpp's messages about errors.
ERROR = 4
_errors: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_error(level: int, text: bytes, _data: Any) -> None:
    if level == ERROR and (line := text.decode(errors="replace").strip()):
        _errors.append(line)


def silence() -> None:
    """Keep llama.cpp from writing to standard error."""
    llama_cpp.llama_log_set(_keep_error, None)


def forget() -> None:
    """Forget the errors so far, before something is tried."""
    _errors.clear()


def reason() -> str:
    """Return the first error since ``forget``; a few words where there was none. Later ones say less."""
    return _errors[0] if _errors else "it gives no reason"
