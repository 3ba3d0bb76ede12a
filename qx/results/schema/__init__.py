"""The JSON Schemas of the files that qx writes, and a check of files against them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from qx.foreign import to_line
from qx.storage.strict_json import ROOM, place
from qx.values import Json, JsonObject

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator


def load_schema(name: str) -> JsonObject:
    """Return the schema in ``NAME.schema.json``."""
    schema: JsonObject = json.loads((files(__name__) / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def find_flaw(
    value: object, name: str, definition: str | None = None, within: Sequence[str | int] = ()
) -> str | None:
    """Return one line that names a field that breaks the schema, what it must be and what it is, or None.

    With ``definition`` the value is checked against that definition of the schema alone. ``within`` is the
    path of the value in the file.
    """
    from jsonschema.exceptions import best_match

    validator = _validator(name)
    if definition is not None:
        definitions = validator.schema["$defs"]
        validator = validator.evolve(schema={"$ref": f"#/$defs/{definition}", "$defs": definitions})
    first = next(validator.iter_errors(value), None)
    if first is None:
        return None
    error = best_match([first])
    assert error is not None
    return f"{place([*within, *error.absolute_path])} {_in_words(error)}"


@cache
def _validator(name: str) -> Validator:
    """Make a validator that follows draft 2020-12 strictly where ``jsonschema`` is more lenient."""
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.validators import extend

    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    formats = FormatChecker(formats=())
    formats.checks("date-time", raises=ValueError)(_is_date_and_time)
    schema = load_schema(name)
    definitions: Any = schema.get("$defs", {})

    def check_reference(
        validator: Validator, reference: str, value: object, _: object
    ) -> Iterator[ValidationError]:
        # jsonschema would look each reference up anew for each value.
        yield from validator.descend(value, definitions[reference.removeprefix("#/$defs/")])

    keywords = {"pattern": _check_pattern, "$ref": check_reference}
    strict = extend(Draft202012Validator, keywords, type_checker=types)
    validator: Validator = strict(schema, format_checker=formats)
    return validator


def _is_date_and_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def _check_pattern(validator: Validator, pattern: str, value: object, _: object) -> Iterator[ValidationError]:
    """Match a pattern as JSON Schema does, where ``$`` never matches before a final line break."""
    from jsonschema.exceptions import ValidationError

    if validator.is_type(value, "string") and not re.search(pattern.replace("$", r"\Z"), str(value)):
        yield ValidationError("does not match")


#: Message for each keyword of a schema, from the value that the schema expects and the value in the file.
WORDS: Mapping[str, Callable[[Json, Json], str]] = {
    "const": lambda expected, value: f"must be {json.dumps(expected)}, not {_shown(value)}",
    "enum": lambda expected, value: f"must be one of {', '.join(map(str, expected))}, not {_shown(value)}",
    "exclusiveMinimum": lambda expected, value: f"must be above {expected}, not {_shown(value)}",
    "format": lambda expected, value: f"must be a {expected} with its time zone, not {_shown(value)}",
    "maximum": lambda expected, value: f"must be at most {expected:g}, not {_shown(value)}",
    "maxItems": lambda expected, value: f"must have at most {expected:,} items, not {len(value):,}",
    "maxLength": lambda expected, value: f"must have at most {expected:,} letters, not {len(value):,}",
    "minimum": lambda expected, value: f"must be at least {expected:g}, not {_shown(value)}",
    "minItems": lambda expected, value: f"must have at least {expected:,} items, not {len(value):,}",
    "minLength": lambda expected, value: f"must have at least {expected:,} letters, not {len(value):,}",
    "minProperties": lambda expected, value: f"must have at least {expected:,} fields, not {len(value):,}",
    "pattern": lambda expected, value: f"must match {expected}, not {_shown(value)}",
    "required": lambda expected, value: f"lacks {', '.join(name for name in expected if name not in value)}",
    "type": lambda expected, value: f"must be {_types(expected)}, not {_shown(value)}",
}
TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}


def _in_words(error: ValidationError) -> str:
    keyword = str(error.validator)
    if keyword == "additionalProperties":
        strange = next(name for name in error.instance if name not in error.schema["properties"])
        return f"has an unknown field, {_shown(strange)}"
    words = WORDS.get(keyword)
    return to_line(error.message, 3 * ROOM) if words is None else words(error.validator_value, error.instance)


def _types(expected: str | list[str]) -> str:
    return " or ".join(TYPES[name] for name in ([expected] if isinstance(expected, str) else expected))


def _shown(value: object) -> str:
    """Return a value as it stands in the file, cut short; for a list or an object only its type."""
    if isinstance(value, (dict, list)):
        return TYPES["object" if isinstance(value, dict) else "array"]
    text = value[: ROOM + 1] if isinstance(value, str) else value
    return to_line(json.dumps(text, ensure_ascii=False), ROOM)
