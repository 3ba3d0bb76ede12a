"""The text of ``README.md`` beside an artifact: what it is, what it needs, and what goes in and comes out."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence

from attrs import frozen

from qx.foreign import to_code, to_code_cell, to_markdown
from qx.host.host import Entry
from qx.processes.job_answers import Arrangement, ShipAnswer
from qx.shipping.program import EXAMPLE_INPUTS, EXAMPLE_OUTPUTS, SERVE
from qx.storage.manifest import FILE as MANIFEST
from qx.storage.manifest import Manifest

#: How the artifact is loaded with qx, where its loader gives no serving code.
_WITH_QX = """\
    import inspect, json
    from pathlib import Path
    import numpy as np
    from qx import Artifact, Context
    {imports}

    folder = Path(__file__).parent
    manifest = json.loads((folder / "manifest.json").read_text())
    artifact = Artifact(
        folder=folder, loader=manifest["loader"], files=manifest["files"], details=manifest["details"]
    )
    arguments = {{"artifact": artifact, "context": Context(threads=1, folder=folder)}}
    subject = {load}(**{{name: arguments[name] for name in inspect.signature({load}).parameters}})
    native = subject.prepare({{{arrays}}})  # arrays [batch, ...]
    outputs = subject.outputs(subject.call(native))
"""


@frozen(kw_only=True)
class Package:
    """An artifact with all that its README says."""

    manifest: Manifest
    config: Entry
    workload: Entry
    loader: Entry
    #: How the inputs follow from what a user has; empty where the workload does not say.
    preprocessing: str
    #: What serves it without qx, or why nothing does.
    shipped: ShipAnswer
    #: Version of qx.
    version: str

    def text(self) -> str:
        """Return the text of ``README.md``."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# {self.config.name} of {self.workload.name}"
        yield ""
        yield (
            f"{_sentence(_summary(self.config))} Made by qx from the workload `{self.workload.name}`: "
            f"{_sentence(_summary(self.workload))}"
        )
        yield ""
        if self.shipped.refusal:
            yield from self._with_qx()
        else:
            yield from self._without_qx()
        yield from self._arrays()
        yield from self._files()

    def _without_qx(self) -> Iterator[str]:
        yield f"`{SERVE}` serves it with these packages alone, qx is not among them:"
        yield ""
        yield f"    pip install {' '.join(map(_quoted, self.shipped.requires))}"
        yield f"    python {SERVE} --check                    # are the outputs those that were recorded?"
        yield f"    python {SERVE} inputs.npz outputs.npz     # named arrays in, named arrays out"
        yield ""
        yield (
            f"Made and tried with these versions on Python {platform.python_version()}, "
            f"{platform.system()} {platform.machine()}. In a program:"
        )
        yield ""
        yield f"    from {SERVE.removesuffix('.py')} import Model"
        yield ""
        yield "    model = Model(threads=1)"
        yield f"    outputs = model({{{_arguments(self.shipped.inputs)}}})"
        yield ""
        yield (
            f"Threads: `--threads N`, or `Model(threads=N)`; 1 by default. The outputs in "
            f"`{EXAMPLE_OUTPUTS}` were recorded at one thread. Other processors, versions and numbers of "
            f"threads may round otherwise."
        )
        for note in self.shipped.notes:
            yield ""
            yield to_markdown(note)
        yield ""

    def _with_qx(self) -> Iterator[str]:
        yield f"It is served by qx alone: {to_markdown(self.shipped.refusal)}."
        yield ""
        yield (
            f"Install quant-explorer {self.version} from a checkout of it (`pip install CHECKOUT`), and the "
            f"loader `{self.loader.name}`, which comes from {_provider(self.loader)}. " + self._advice()
        )
        yield ""
        if (snippet := self._snippet()) is not None:
            yield snippet
            yield ""

    def _advice(self) -> str:
        if self._rebuilds:
            return (
                f"The loader makes the module anew by the config and the workload: `qx quantize -c "
                f"{self.config.name} --workload {self.workload.name}` makes the artifact again on the "
                f"machine that is to serve it."
            )
        if self._snippet() is None:
            return "The loader is a file that does not lie here: its author has it."
        return "Then, in a file beside this one:"

    @property
    def _rebuilds(self) -> bool:
        return bool(getattr(self.loader.record, "rebuilds", False))

    def _snippet(self) -> str | None:
        """Return a program that loads the artifact by its loader; None where that takes more."""
        reference = self.loader.reference
        if self._rebuilds or reference is None or reference.path is not None:
            return None
        owner = reference.attribute
        imports = f"from {reference.module} import {(owner or 'load').partition('.')[0]}"
        load = f"{owner}.load" if owner else "load"
        arrays = _arguments(self.shipped.inputs)
        return _WITH_QX.format(imports=imports, load=load, arrays=arrays).rstrip()

    def _arrays(self) -> Iterator[str]:
        if not self.shipped.inputs:
            return
        yield "## Inputs and outputs"
        yield ""
        yield "| array | type | shape |"
        yield "| --- | --- | --- |"
        for word, arrays in (("input", self.shipped.inputs), ("output", self.shipped.outputs)):
            for entry in arrays:
                sizes = ("length" if size is None else str(size) for size in entry.shape)
                shape = ", ".join(("batch", *sizes))
                yield f"| {word} {to_code_cell(entry.name)} | {entry.dtype} | [{shape}] |"
        yield ""
        yield "Arrays are in row-major order (C order of numpy), the items of a batch along the first axis."
        yield ""
        if self.preprocessing:
            yield f"Preprocessing: {to_markdown(self.preprocessing)}"
        else:
            yield (
                "The workload does not say how its inputs were computed (range, mean and standard deviation, "
                "order of channels): prepare them as it does."
            )
        yield ""

    def _files(self) -> Iterator[str]:
        yield "## Files"
        yield ""
        yield "| file | |"
        yield "| --- | --- |"
        for name, size in self.manifest.sizes.items():
            yield f"| {to_code_cell(name)} | the artifact, {size:,} bytes |"
        for name in self.shipped.files:
            if name not in self.manifest.files:
                yield f"| {to_code_cell(name)} | the same model as a program that `{SERVE}` loads |"
        if self.shipped.inputs:
            yield f"| `{EXAMPLE_INPUTS}`, `{EXAMPLE_OUTPUTS}` | two items, and what the model gave for them |"
        yield f"| `{MANIFEST}` | digests, versions, options and seed of the build |"
        for note in self.manifest.notes:
            yield ""
            yield to_markdown(note)
        origin = self.manifest.origin
        options = _options(origin)
        yield ""
        yield (
            f"Built by {_provider(self.config)}"
            + (f" with the options {to_code(json.dumps(options))}" if options else "")
            + f", seed {origin.get('seed')}"
            + (f", torch's engine {to_code(str(origin['engine']))}" if origin.get("engine") else "")
            + "."
        )


def _options(origin: object) -> dict[str, object]:
    config = origin.get("config") if hasattr(origin, "get") else None
    options = config.get("options") if isinstance(config, dict) else None
    return dict(options) if isinstance(options, dict) else {}


def _provider(entry: Entry) -> str:
    """Return where a plugin comes from, without the path of a file on the machine that made the artifact."""
    return to_markdown(entry.provider) if entry.distribution is not None else "a file of its author's"


def _summary(entry: Entry) -> str:
    return getattr(entry.record, "summary", "")


def _sentence(text: str) -> str:
    return to_markdown(text.rstrip(".")) + "."


def _quoted(requirement: str) -> str:
    return f"'{requirement}'"


def _arguments(inputs: Sequence[Arrangement]) -> str:
    return ", ".join(f"{json.dumps(entry.name)}: array" for entry in inputs)
