"""What the author of a plugin tells the conformance kit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import attrs
from attrs import Factory, field, frozen

from qx.values import JsonObject

#: The attribute of a plugin that holds what its author tells the conformance kit.
ATTRIBUTE = "conformance"
#: The name of the kit's own workload.
TESTBENCH = "testbench"


def _reasons(_: object, attribute: attrs.Attribute[Mapping[str, str]], value: Mapping[str, str]) -> None:
    for check, reason in value.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"{attribute.name}: the expected failure of {check!r} needs a reason")


@frozen(kw_only=True)
class Conformance:
    """What the kit cannot know by itself. All of it is optional."""

    #: Check -> the reason why it fails. Strict: such a check that passes is a failure.
    expected_failures: Mapping[str, str] = field(factory=dict, validator=_reasons)
    #: For a metric: a config whose artifact it must find worse than its subject, as ``-p`` takes it or by
    #: name. ``qx.testing.worse`` has some.
    worse: str | None = None
    #: For a metric or a loader: the config whose artifact is measured or served, as ``-p`` takes it or by
    #: name; else the baseline, and for a loader the first config whose artifacts name it.
    subject: str | None = None
    #: The workload to check with, by name or as ``-p`` takes it; else the kit's own, ``testbench``.
    workload: str | None = None
    #: Option -> values of the right type that the plugin is to refuse, naming the option.
    bad_options: Mapping[str, Sequence[object]] = Factory(dict)


def to_json(conformance: object) -> JsonObject:
    """The fields of a ``Conformance``, as JSON takes them. Raises ``TypeError`` for what is none."""
    if not isinstance(conformance, Conformance):
        raise TypeError(f"it must be a qx.testing.Conformance, not {type(conformance).__name__}")
    fields = {attribute.name: getattr(conformance, attribute.name) for attribute in attrs.fields(Conformance)}
    fields["expected_failures"] = dict(conformance.expected_failures)
    fields["bad_options"] = {name: list(values) for name, values in conformance.bad_options.items()}
    json.dumps(fields)
    return fields
