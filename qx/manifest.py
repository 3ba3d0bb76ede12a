"""The manifest: what an artifact is, who made it, and which loader serves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import Factory, asdict, field, frozen

from qx.catalogue import Reference, to_reference
from qx.fields import to_strings
from qx.records import Artifact

FILE = "manifest.json"
#: Raised when a manifest of an earlier version could be misread.
VERSION = 1


@frozen(kw_only=True)
class Manifest:
    """Lies beside the files that would be shipped, and is not one of them."""

    version: int = VERSION
    config: Reference = field(converter=to_reference)
    config_options: Mapping[str, Any] = Factory(dict)
    workload: Reference = field(converter=to_reference)
    workload_options: Mapping[str, Any] = Factory(dict)
    loader: Reference = field(converter=to_reference)
    #: The runtime's modules, from the loader's record: a launch imports them before any plugin.
    imports: tuple[str, ...] = field(converter=to_strings)
    #: The model was made with quantize and dequantize stubs.
    quantizable: bool
    seed: int
    engine: str | None
    #: Shipped files -> bytes.
    files: Mapping[str, int]
    details: Mapping[str, Any] = Factory(dict)
    notes: tuple[str, ...] = field(default=(), converter=to_strings)
    #: As in ``Artifact``.
    weight_elements: int | None = None

    def write(self, folder: Path) -> None:
        """Write it into the folder of the artifact."""
        # Not sorted: a loader may go by the order of the files.
        text = json.dumps(asdict(self), indent=2)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the artifact in this folder."""
        fields = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if fields.get("version") != VERSION:
            raise ValueError(f"{folder / FILE} has version {fields.get('version')}, this qx reads {VERSION}")
        return cls(**fields)

    def artifact(self, folder: Path) -> Artifact:
        """What a loader is given."""
        return Artifact(
            folder=folder,
            loader=self.loader.name,
            files=tuple(self.files),
            details=self.details,
            notes=self.notes,
            weight_elements=self.weight_elements,
        )
