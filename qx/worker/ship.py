"""Write ``serve.py`` beside an artifact, and try it in a process that cannot import qx."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from qx.contract.records import Artifact, ServingCode, Subject
from qx.contract.structure import lengths_of
from qx.environment import distribution_name, distribution_version
from qx.errors import PluginError, QxError, Unsupported
from qx.foreign import one_line, to_line
from qx.processes.job_answers import Arrangement, ShipAnswer
from qx.processes.jobs import ShipJob
from qx.shipping.npz import write_arrays
from qx.shipping.program import EXAMPLE_INPUTS, EXAMPLE_OUTPUTS, SERVE, serve_program
from qx.storage.digests import Damaged, digest_of, is_inside
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.lengths import cut
from qx.worker.modules import example_inputs
from qx.worker.outputs import checked_outputs
from qx.worker.plugins import BoundPlugin, bind
from qx.worker.probe import difference
from qx.worker.serving import bind_loader, load_subject

#: Number of items of the examples, and the batches of evaluation items that ``serve.py`` is tried with, too.
EXAMPLES, SIZES = 2, (1, 3, 32)
#: The package that the program cannot import, nor any whose name begins with it and an underscore.
ABSENT = "qx"
#: Program that serves files of inputs by the ``serve.py`` of the current folder. Its arguments are these
#: files, each followed by the file for the outputs.
_PROGRAM = f"""\
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].partition("_")[0] == {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, "")
import serve

model = serve.Model(threads=1)
for inputs, outputs in zip(sys.argv[1::2], sys.argv[2::2]):
    serve.write(outputs, model(serve.read(inputs)))
"""


def run(job: ShipJob, channel: Channel) -> None:
    """Load the artifact, record examples, and write and try the program that its loader's code makes."""
    host, subject = load_subject(job, channel)
    channel.stage("example_inputs")
    workload = bind(job, job.artifact.workload, job.artifact.workload_options, host)
    split = Split.read(Path(job.inputs))
    lengths = lengths_of(job.artifact.structure)
    examples = example_inputs(workload, EXAMPLES, None if lengths is None else lengths.highest)
    inputs = [
        {name: tensor.numpy() for name, tensor in zip(split.inputs, examples, strict=True)},
        *(split.rows(0, size) for size in SIZES),
    ]
    if lengths is not None:
        inputs += [cut(inputs[0], lengths, lengths.lowest)]
    channel.stage("outputs")
    loader, folder = job.artifact.loader.name, Path(job.artifact.folder)
    outputs = [_answer(subject, arrays, loader) for arrays in inputs]
    write_arrays(folder / EXAMPLE_INPUTS, inputs[0])
    write_arrays(folder / EXAMPLE_OUTPUTS, outputs[0])
    # The last ones are the shortest where lengths vary; only the number of items differs where they do not.
    answer = ShipAnswer(
        inputs=_arrangements(inputs[0], inputs[-1]), outputs=_arrangements(outputs[0], outputs[-1])
    )
    channel.stage("serving_code")
    try:
        code = _serving_code(bind_loader(job, host), job.artifact.record())
        digests = _digests(code, job.artifact.record(), loader)
        title = f"{job.artifact.config.name} of {job.artifact.workload.name}"
        text = serve_program(code, digests, answer.inputs, title)
        (folder / SERVE).write_text(text, encoding="utf-8")
        channel.stage("serve.py")
        _try(folder, inputs, outputs)
    except Exception as error:
        refusal = str(error) if isinstance(error, (Unsupported, QxError)) else f"{loader}: {one_line(error)}"
        channel.answer(ShipAnswer(inputs=answer.inputs, outputs=answer.outputs, refusal=refusal))
        return
    channel.answer(
        ShipAnswer(
            inputs=answer.inputs,
            outputs=answer.outputs,
            files=tuple(digests),
            requires=_versions(code.requires or bind_loader(job, host).record.requires),
            notes=code.notes,
        )
    )


def _answer(subject: Subject, arrays: Mapping[str, Array], loader: str) -> dict[str, Array]:
    items = len(next(iter(arrays.values())))
    return checked_outputs(subject.outputs(subject.call(subject.prepare(arrays))), loader, items)


def _arrangements(arrays: Mapping[str, Array], shortest: Mapping[str, Array]) -> tuple[Arrangement, ...]:
    """Return types and shapes; the sizes that differ between both are of any length."""
    return tuple(
        Arrangement(name=name, dtype=array.dtype.name, shape=_shape(array, shortest[name]))
        for name, array in arrays.items()
    )


def _shape(array: Array, shortest: Array) -> tuple[int | None, ...]:
    pairs = zip(array.shape[1:], shortest.shape[1:], strict=True)
    return tuple(size if size == other else None for size, other in pairs)


def _serving_code(loader: BoundPlugin, artifact: Artifact) -> ServingCode:
    if not loader.implements("serving_code"):
        raise Unsupported("its loader does not say how it is served without qx (hook serving_code)")
    code: object = loader.call("serving_code", artifact=artifact)
    if code is None:
        raise Unsupported("its loader has no serving code for this artifact")
    if not isinstance(code, ServingCode):
        raise PluginError(f"{loader.name}: serving_code gave a {type(code).__name__}, not qx.ServingCode")
    return code


def _digests(code: ServingCode, artifact: Artifact, loader: str) -> dict[str, str]:
    """Return the SHA-256 of each file that the code loads. Raises ``PluginError`` for one that is missing."""
    digests = {}
    for name in code.files or artifact.files:
        if not is_inside(name):
            raise PluginError(f"{loader}: serving_code names {name!r}, which is no plain path in the folder")
        try:
            digests[name] = digest_of(artifact.folder, name).sha256
        except (Damaged, OSError) as error:
            raise PluginError(f"{loader}: serving_code names {name!r}: {error}") from error
    return digests


def _try(folder: Path, inputs: list[dict[str, Array]], outputs: list[dict[str, Array]]) -> None:
    """Serve batches by the program in the folder. Raises ``QxError`` for other outputs than these."""
    with tempfile.TemporaryDirectory() as scratch:
        numbers = range(len(inputs))
        pairs = [
            (Path(scratch, f"{number}-in.npz"), Path(scratch, f"{number}-out.npz")) for number in numbers
        ]
        for (path, _), arrays in zip(pairs, inputs, strict=True):
            write_arrays(path, arrays)
        command = [sys.executable, "-B", "-c", _PROGRAM, *(str(path) for pair in pairs for path in pair)]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise QxError(f"{SERVE} cannot serve the artifact: {to_line(lines[-1], 300)}")
        for (_, path), expected in zip(pairs, outputs, strict=True):
            with np.load(path, allow_pickle=False) as arrays:
                own = {name: arrays[name] for name in arrays.files}
            if text := _difference(own, expected):
                raise QxError(f"{SERVE} does not give the outputs of the loaded artifact: they {text}")


def _difference(own: Mapping[str, Array], expected: Mapping[str, Array]) -> str:
    """Say how outputs differ from the expected ones in values or types; empty where they are the same."""
    if text := difference(own, expected, 0.0):
        return text
    types = [name for name, array in expected.items() if own[name].dtype != array.dtype]
    return f"are {own[types[0]].dtype} in place of {expected[types[0]].dtype}" if types else ""


def _versions(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return numpy and the distributions of these requirements in the versions that are installed here."""
    lines = {}
    for requirement in ("numpy", *requirements):
        name, version = distribution_name(requirement), distribution_version(requirement)
        # A local version (2.9.0+cpu) is on no index.
        lines[name] = requirement if version is None else f"{name}=={version.partition('+')[0]}"
    return tuple(lines.values())
