"""Files of TOML that users write, read with bounds and refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

from qx.errors import UsageError
from qx.files import read_bounded
from qx.foreign import to_line
from qx.storage import strict_json
from qx.storage.strict_json import ROOM
from qx.values import JsonObject


def read_toml(place: Path, what: str, advice: str, most_bytes: int, most_depth: int) -> JsonObject:
    """Read the tables in a file. Raises ``UsageError``, also for tables nested too deep.

    ``what`` names the kind of file in messages, and ``advice`` says where one comes from.
    """
    try:
        text = read_bounded(place, most_bytes).decode("utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"there is no {what} {place}; {advice}") from error
    except OSError as error:
        raise UsageError(f"the {what} {place} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"the {what} {place} cannot be read: {error}") from error
    try:
        fields = _parse(text)
        # Numbers are checked by the code that knows which range each must be in.
        strict_json.check(fields, most_depth, numbers=False)
    except ValueError as error:
        raise UsageError(f"{place} is not TOML: {to_line(str(error), 3 * ROOM)}") from error
    except RecursionError as error:
        raise UsageError(f"{place} is not TOML: it is nested deeper than {most_depth} levels") from error
    return fields


def _parse(text: str) -> JsonObject:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)
