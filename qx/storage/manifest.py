"""The manifest: the files of an artifact, the name of the loader that serves it, and its origin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from attrs import asdict, field, frozen
from attrs.validators import instance_of, optional

from qx.contract.fields import STRINGS, text_field, to_strings
from qx.contract.records import LayerRow, to_rows
from qx.storage.digests import Damaged, FileDigest, digest_of, is_inside, read_json, to_digest
from qx.values import JsonMapping, JsonObject

FILE = "manifest.json"
#: Version of the format, increased when manifests of an earlier version could be misread.
VERSION = 2


def _to_files(value: object) -> dict[str, FileDigest]:
    if not isinstance(value, Mapping) or not all(map(is_inside, value)):
        raise Damaged(f"{FILE} does not name files inside its folder")
    return {name: to_digest(digest) for name, digest in value.items()}


def _to_object(value: JsonMapping) -> JsonObject:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected an object with names and values, not {type(value).__name__}")
    return dict(value)


@frozen(kw_only=True)
class Manifest:
    """The manifest, a file beside the shipped files and not one of them.

    It holds nothing that qx imports: the job that serves an artifact names the plugins.
    """

    version: int = VERSION
    #: Name of the loader.
    loader: str = text_field()
    #: Digests of the shipped files, in the order of the config's artifact.
    files: Mapping[str, FileDigest] = field(converter=_to_files)
    details: JsonMapping = field(factory=dict, converter=_to_object)
    notes: tuple[str, ...] = field(default=(), converter=to_strings, validator=STRINGS)
    #: Table by layer, as in ``Artifact``.
    layers: tuple[LayerRow, ...] = field(default=(), converter=to_rows)
    #: Number of elements of the fp32 model's weights, as in ``Artifact``.
    weight_elements: int | None = field(default=None, validator=optional(instance_of(int)))
    #: Origin, for people who receive the artifact: config and workload with their versions and options, the
    #: seed and torch's quantized engine.
    origin: JsonMapping = field(factory=dict, converter=_to_object)

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each shipped file in bytes."""
        return {name: digest.size for name, digest in self.files.items()}

    @property
    def content(self) -> tuple[str, dict[str, FileDigest], JsonObject]:
        """What makes two artifacts equal for whoever serves them: loader, files and details."""
        return self.loader, dict(self.files), dict(self.details)

    def copy(self, artifact: Path, folder: Path) -> None:
        """Copy the files of an artifact and this manifest into another folder.

        Raises ``Damaged`` where a copy does not have its digest.
        """
        for name, digest in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / name, folder / name)
            if digest_of(folder, name) != digest:
                raise Damaged(f"{name} was changed while it was copied")
        self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of the artifact."""
        # Not sorted: a loader may depend on the order of the files.
        text = json.dumps(asdict(self), indent=2)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of the artifact in this folder. Raises ``Damaged``."""
        values = read_json(folder, FILE)
        if not isinstance(values, dict) or values.get("version") != VERSION:
            raise Damaged(f"{FILE} is not of version {VERSION}")
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise Damaged(f"{FILE} does not have the fields of a manifest: {error.args[0]}") from error
