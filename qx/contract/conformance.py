"""The record in which the author of a plugin gives hints to the conformance kit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import attrs
from attrs import Factory, field, frozen

from qx.values import JsonObject

#: Attribute of a plugin that holds its author's hints to the conformance kit.
ATTRIBUTE = "conformance"
#: Name of the kit's own workload.
TESTBENCH = "testbench"


def _reasons(_: object, attribute: attrs.Attribute[Mapping[str, str]], value: Mapping[str, str]) -> None:
    for check, reason in value.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"{attribute.name}: the expected failure of {check!r} needs a reason")


@frozen(kw_only=True)
class Conformance:
    """Hints to the conformance kit, which cannot know them by itself. All of them are optional."""

    #: Reasons for checks that fail, by the name of the check. Strict: such a check that passes is a failure.
    expected_failures: Mapping[str, str] = field(factory=dict, validator=_reasons)
    #: For a metric: a config whose artifact the metric must find worse than its subject, as a name or in the
    #: form of ``-p``. ``qx.testing.worse`` has some.
    worse: str | None = None
    #: For a metric or a loader: the config whose artifact is measured or served, as a name or in the form of
    #: ``-p``. The default is the baseline, and for a loader the first config whose artifacts name it.
    subject: str | None = None
    #: Workload to check with, as a name or in the form of ``-p``; by default the kit's own ``testbench``.
    workload: str | None = None
    #: Values of the right type that the plugin must refuse with the name of the option, by option.
    bad_options: Mapping[str, Sequence[object]] = Factory(dict)


def to_json(conformance: object) -> JsonObject:
    """Return the fields of a ``Conformance`` for JSON. Raises ``TypeError`` for any other object."""
    if not isinstance(conformance, Conformance):
        raise TypeError(f"it must be a qx.testing.Conformance, not {type(conformance).__name__}")
    fields = {attribute.name: getattr(conformance, attribute.name) for attribute in attrs.fields(Conformance)}
    fields["expected_failures"] = dict(conformance.expected_failures)
    fields["bad_options"] = {name: list(values) for name, values in conformance.bad_options.items()}
    json.dumps(fields)
    return fields
