"""Serve modules in torch's eager mode: rebuilt by prepare and convert, then filled from a state dict."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

from qx import OUTPUT, Artifact, Context, Loader, Profile, QxError, ServingCode, Weights, hookimpl
from qx_plugins.language_outputs import LOGITS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qx import Arrays
    from qx_plugins.networks.language_models import CachingDecoder


@hookimpl
def describe() -> Loader:
    return Loader(
        name="torch_eager",
        summary="torch in eager mode; rebuilds the module and loads its state dict strictly.",
        imports=("torch",),
        rebuilds=True,
        devices=("cpu", "cuda"),
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> ModuleSubject:
    import torch

    torch.set_num_threads(context.threads)
    torch.set_num_interop_threads(1)
    return subject_of(_load_module(artifact, context), artifact.outputs, context.device)


def _load_module(artifact: Artifact, context: Context) -> nn.Module:
    """Rebuild the module of an artifact, and fill it from its state dict."""
    import torch

    if context.engine is not None:
        torch.backends.quantized.engine = context.engine
    if context.rebuild is None:
        raise ValueError("this loader serves modules, and got no function that rebuilds the module")
    module = context.rebuild()
    path = artifact.folder / artifact.files[0]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's own message advises to switch the safety off.
        raise QxError(
            f"{path.name} is damaged, or holds more than a state dict: build the artifact again"
        ) from None
    module.load_state_dict(state, strict=True)
    return module.eval()


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.torch_eager.weights import read

    return read(artifact)


@hookimpl
def serving_code(artifact: Artifact, context: Context) -> ServingCode:
    import numpy

    from qx_plugins.runtimes.torch_eager.serving import write_program

    with numpy.load(artifact.folder / "example_inputs.npz", allow_pickle=False) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    module = _load_module(artifact, context)
    return write_program(module, inputs, artifact.outputs, artifact.folder, context.engine, context.lengths)


@hookimpl
def profile(artifact: Artifact, inputs: Arrays, calls: int, context: Context) -> Profile:
    import torch

    from qx_plugins.runtimes.torch_eager.profiling import profile_module

    torch.set_num_threads(context.threads)
    subject = ModuleSubject(_load_module(artifact, context), artifact.outputs)
    native = subject.prepare(inputs)
    return profile_module(subject.module, partial(subject.call, native), calls)


def subject_of(module: nn.Module, names: tuple[str, ...] = (OUTPUT,), device: str = "cpu") -> ModuleSubject:
    """Return a subject that serves a module: with calls that use a cache, where it has such a decoder."""
    # Whether a module has these methods can be seen without importing what decoders need.
    if not any(hasattr(part, "new_cache") for part in module.modules()):
        return ModuleSubject(module, names, device)
    from qx_plugins.networks.language_models import find_decoder

    decoder = find_decoder(module)
    if decoder is None:
        return ModuleSubject(module, names, device)
    return DecoderSubject(module, names, decoder, device)


class ModuleSubject:
    """A module in eval mode, served without gradients on the CPU or on another device of torch."""

    def __init__(
        self, module: torch.nn.Module, names: tuple[str, ...] = (OUTPUT,), device: str = "cpu"
    ) -> None:
        import torch

        if device != "cpu":
            from qx_plugins.recipes.cuda import use_ieee_precision

            use_ieee_precision()
            module = module.to(device)
        self.module, self._names, self._device = module, names, device
        # Entered once for the whole process, as a server would: entering takes microseconds.
        self._guard = torch.inference_mode()
        self._guard.__enter__()

    def prepare(self, arrays: Arrays) -> tuple[torch.Tensor, ...]:
        import torch

        tensors = (torch.from_numpy(array) for array in arrays.values())
        if self._device == "cpu":
            return tuple(tensors)
        return tuple(tensor.to(self._device) for tensor in tensors)

    def call(self, native: tuple[torch.Tensor, ...]) -> Any:
        return self.module(*native)

    def outputs(self, native: torch.Tensor | tuple[torch.Tensor, ...]) -> Arrays:
        tensors = native if isinstance(native, (tuple, list)) else (native,)
        return {name: tensor.cpu().numpy() for name, tensor in zip(self._names, tensors, strict=True)}


class DecoderSubject(ModuleSubject):
    """A decoder with a cache, whose prompts and single tokens are calls of their own kinds."""

    def __init__(
        self, module: torch.nn.Module, names: tuple[str, ...], decoder: CachingDecoder, device: str = "cpu"
    ) -> None:
        from qx_plugins.runtimes.torch_eager.decoding import CachedCalls

        super().__init__(module, names, device)
        self.cached = CachedCalls(decoder)
        self.kinds, self.reset = self.cached.kinds, self.cached.reset

    @property
    def cache_bytes(self) -> int:
        """Size of what the cache holds now, in bytes."""
        return self.cached.cache_bytes

    def outputs(self, native: Any) -> Arrays:
        """Return the outputs of a text, or the scores of the token after a prompt as the only one."""
        import torch

        if isinstance(native, torch.Tensor) and native.dim() == 2:
            return {LOGITS: native.float().cpu().numpy()}
        return super().outputs(native)
