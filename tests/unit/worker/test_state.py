"""The state dict of a quantized module has all that calibration and weights made of the module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao.quantization import (
    QConfigMapping,
    convert,
    default_dynamic_qconfig,
    default_per_channel_qconfig,
    default_qconfig,
    prepare,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn import functional

from qx import QxError
from qx.worker.state import complete, save, tensors

# Observers warn of random inputs, and modules of their successors.
pytestmark = pytest.mark.filterwarnings("ignore")

#: Packages whose modules can replace a float module.
PACKAGES = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.quantized.dynamic",
    "torch.ao.nn.quantized.reference",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.intrinsic.quantized.dynamic",
)
CLASSES = {
    f"{package}.{name}".removeprefix("torch.ao.nn."): value
    for package in PACKAGES
    for name, value in sorted(vars(import_module(package)).items())
    if inspect.isclass(value) and issubclass(value, nn.Module)
}
Inputs = tuple[Any, ...]


def _scale() -> float:
    return 0.02 + 0.1 * torch.rand(1).item()


def _zero_point() -> int:
    return int(torch.randint(20, 100, (1,)))


def _images(dimensions: int, quantized: bool = True) -> torch.Tensor:
    images = torch.randn(2, 4, *(6,) * dimensions)
    return torch.quantize_per_tensor(images, 0.05, 64, torch.quint8) if quantized else images


def _dimensions(kind: type) -> int:
    return next(int(name[-2]) for name in (kind.__name__,) if name.endswith("d"))


def _outputs(module: nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    with torch.no_grad():
        outputs = module(*inputs)
    return [tensor.dequantize() if tensor.is_quantized else tensor for tensor in tensors(outputs)]


# A module of each class, with random state, and inputs for it -------------------------------------


def _convolution(kind: Any) -> tuple[nn.Module, Inputs]:
    module, dynamic = kind(4, 4, 3), "dynamic" in kind.__module__
    weight = torch.quantize_per_tensor(torch.randn(4, 4, *(3,) * _dimensions(kind)), _scale(), 0, torch.qint8)
    module.set_weight_bias(weight, torch.randn(4))
    if not dynamic:
        module.scale, module.zero_point = _scale(), _zero_point()
    images = _images(_dimensions(kind), quantized=not dynamic)
    if "Add" in kind.__name__:
        return module, (images, torch.quantize_per_tensor(torch.randn(2, 4, 4, 4), 0.05, 64, torch.quint8))
    return module, (images,)


def _linear(kind: Any) -> tuple[nn.Module, Inputs]:
    module = kind(4, 4, 0.1) if "Leaky" in kind.__name__ else kind(4, 4)
    module.set_weight_bias(
        torch.quantize_per_tensor(torch.randn(4, 4), _scale(), 0, torch.qint8), torch.randn(4)
    )
    if "dynamic" in kind.__module__:
        return module, (torch.randn(2, 4),)
    module.scale, module.zero_point = _scale(), _zero_point()
    return module, (torch.quantize_per_tensor(torch.randn(2, 4), 0.05, 64, torch.quint8),)


def _batch_norm(kind: Any) -> tuple[nn.Module, Inputs]:
    module = kind(4).eval()
    for tensor in (module.weight, module.running_var, module.bias, module.running_mean):
        nn.init.uniform_(tensor, 0.5, 2.0)
    module.scale.fill_(_scale())
    module.zero_point.fill_(_zero_point())
    return module, (_images(_dimensions(kind)),)


def _normalization(kind: Any) -> tuple[nn.Module, Inputs]:
    shape = {"GroupNorm": (2, 4), "LayerNorm": ((4, 6, 6),)}.get(kind.__name__, (4,))
    size = shape[-1]
    affine = nn.Parameter(torch.rand(size)), nn.Parameter(torch.rand(size))
    dimensions = _dimensions(kind) if kind.__name__.endswith("d") else 2
    return kind(*shape, *affine, _scale(), _zero_point()), (_images(dimensions),)


def _activation(kind: Any) -> tuple[nn.Module, Inputs]:
    return kind(scale=_scale(), zero_point=_zero_point()), (_images(2),)


def _sigmoid(kind: Any) -> tuple[nn.Module, Inputs]:
    return kind(_scale(), _zero_point()), (_images(2),)


def _softmax(kind: Any) -> tuple[nn.Module, Inputs]:
    return kind(1, _scale(), _zero_point()), (_images(2),)


def _prelu(kind: Any) -> tuple[nn.Module, Inputs]:
    module = kind(_scale(), _zero_point(), 4)
    module.set_weight(torch.quantize_per_tensor(torch.rand(4), _scale(), 0, torch.quint8))
    return module, (_images(2),)


def _stateless(kind: Any) -> tuple[nn.Module, Inputs]:
    return (kind(2) if kind.__name__ == "MaxPool2d" else kind()), (_images(2),)


def _function(kind: Any) -> tuple[nn.Module, Inputs]:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sum = kind()

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return self.sum.add(first, second)

    module, quantized = Sum(), kind.__name__ == "QFunctional"
    if quantized:
        module.sum.scale, module.sum.zero_point = _scale(), _zero_point()
    return module, (_images(2, quantized), _images(2, quantized))


def _quantize(kind: Any) -> tuple[nn.Module, Inputs]:
    return kind(torch.tensor([_scale()]), torch.tensor([_zero_point()]), torch.quint8), (torch.randn(2, 4),)


def _embedding(kind: Any) -> tuple[nn.Module, Inputs]:
    module = kind(10, 4)
    module.set_weight(
        torch.quantize_per_channel(
            torch.randn(10, 4), torch.rand(10) + 0.01, torch.zeros(10), 0, torch.quint8
        )
    )
    return module, (torch.tensor([1, 5, 3]), *([torch.tensor([0, 2])] if "Bag" in kind.__name__ else []))


def _recurrent_inputs(kind: Any) -> Inputs:
    if not kind.__name__.endswith("Cell"):
        return (torch.randn(3, 2, 4),)
    return torch.randn(2, 4), *([(torch.randn(2, 5),) * 2] if "LSTM" in kind.__name__ else [])


def _recurrent(kind: Any) -> tuple[nn.Module, Inputs]:
    plain = getattr(nn, kind.__name__)(4, 5)
    plain.qconfig = default_dynamic_qconfig
    return kind.from_float(plain), _recurrent_inputs(kind)


def _static_lstm(kind: Any) -> tuple[nn.Module, Inputs]:
    model = nn.Sequential(nn.LSTM(4, 5))
    model.qconfig = default_qconfig
    custom = {"float_to_observed_custom_module_class": {nn.LSTM: torch.ao.nn.quantizable.LSTM}}
    observed = prepare(model, prepare_custom_config_dict=custom)
    inputs = torch.randn(3, 2, 4)
    observed(inputs)
    custom = {"observed_to_quantized_custom_module_class": {torch.ao.nn.quantizable.LSTM: kind}}
    module = convert(observed, convert_custom_config_dict=custom)[0]
    assert isinstance(module, kind)
    return module, (torch.quantize_per_tensor(inputs, 0.05, 64, torch.quint8),)


def _attention(kind: Any) -> tuple[nn.Module, Inputs]:
    plain = nn.Sequential(nn.MultiheadAttention(4, 2, add_bias_kv=True))
    nn.init.normal_(plain[0].bias_k)
    nn.init.normal_(plain[0].bias_v)
    plain.qconfig = default_qconfig
    custom = {
        "float_to_observed_custom_module_class": {
            nn.MultiheadAttention: torch.ao.nn.quantizable.MultiheadAttention
        }
    }
    observed = prepare(plain, prepare_custom_config_dict=custom)[0]
    inputs = (torch.randn(3, 2, 4),) * 3
    observed(*inputs)
    module = kind.from_observed(observed)
    return module, tuple(torch.quantize_per_tensor(tensor, 0.05, 64, torch.quint8) for tensor in inputs)


def _weight_parameters() -> dict[str, Any]:
    return {
        "qscheme": torch.per_tensor_affine,
        "dtype": torch.qint8,
        "scale": _scale(),
        "zero_point": _zero_point(),
        "is_decomposed": False,
    }


def _reference(kind: Any) -> tuple[nn.Module, Inputs]:
    parameters = _weight_parameters()
    name = kind.__name__
    if name.startswith("Embedding"):
        indices = torch.tensor([1, 5, 3])
        offsets = [torch.tensor([0, 2])] if "Bag" in name else []
        return kind(10, 4, weight_qparams=parameters), (indices, *offsets)
    if name == "Linear":
        return kind(4, 4, weight_qparams=parameters), (torch.randn(2, 4),)
    return kind(4, 4, 3, weight_qparams=parameters), (_images(_dimensions(kind), quantized=False),)


def _reference_recurrent(kind: Any) -> tuple[nn.Module, Inputs]:
    plain = getattr(nn, kind.__name__)(4, 5)
    names = [name for name, _ in plain.named_parameters() if name.startswith("weight")]
    parameters = {name: _weight_parameters() for name in names}
    parameters["is_decomposed"] = False  # type: ignore[assignment]
    return kind.from_float(plain, parameters), _recurrent_inputs(kind)


class Around(nn.Module):
    """A module within another, as in any network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Any) -> Any:
        return self.inner(*inputs)


Maker = Callable[[Any], tuple[nn.Module, Inputs]]
#: Functions that make a module, by package and beginning of its name; the first that fits is used.
MAKERS: Mapping[str, Mapping[str, Maker]] = {
    "quantized.reference": {
        "Conv": _reference,
        "Linear": _reference,
        "Emb": _reference,
        "": _reference_recurrent,
    },
    "quantized.dynamic": {"Conv": _convolution, "Linear": _linear, "": _recurrent},
    "intrinsic.quantized.dynamic": {"Linear": _linear},
    "intrinsic.quantized": {"BN": _batch_norm, "Conv": _convolution, "Linear": _linear},
    "quantized": {
        "BatchNorm": _batch_norm,
        "Conv": _convolution,
        "Embedding": _embedding,
        "LSTM": _static_lstm,
        "LinearTanh": _linear,
        "Linear": _linear,
        "GroupNorm": _normalization,
        "PReLU": _prelu,
        "InstanceNorm": _normalization,
        "LayerNorm": _normalization,
        "Sigmoid": _sigmoid,
        "Hardswish": _activation,
        "ELU": _activation,
        "LeakyReLU": _activation,
        "Softmax": _softmax,
        "MultiheadAttention": _attention,
        "ReLU6": _stateless,
        "MaxPool2d": _stateless,
        "Dropout": _stateless,
        "DeQuantize": _stateless,
        "Quantize": _quantize,
        "FloatFunctional": _function,
        "FXFloatFunctional": _function,
        "QFunctional": _function,
    },
}


def _make(name: str, seed: int) -> tuple[nn.Module, Inputs]:
    package, _, short = name.rpartition(".")
    makers = [make for begin, make in MAKERS[package].items() if short.startswith(begin)]
    assert makers, f"torch has a module {name} that this test does not know"
    torch.manual_seed(seed)
    module, inputs = makers[0](CLASSES[name])
    return complete(Around(module)), inputs


#: Modules that only the engine onednn has kernels for.
ONEDNN = ("ConvAdd", "LinearLeakyReLU", "LinearTanh")


@pytest.mark.parametrize("name", CLASSES)
def test_every_quantized_module_is_loaded_as_it_was_saved(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each class in torch, a module built anew gives the saved module's outputs once it is loaded."""
    if CLASSES[name].__name__.startswith(ONEDNN):
        monkeypatch.setattr(torch.backends.quantized, "engine", "onednn")
    module, inputs = _make(name, 0)
    expected = _outputs(module, inputs)
    save(module, tmp_path / "model.pt")
    rebuilt, _ = _make(name, 1)
    rebuilt.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    outputs = _outputs(rebuilt, inputs)
    assert len(outputs) == len(expected) > 0
    assert all(torch.equal(*pair) for pair in zip(outputs, expected, strict=True))


# Graphs of functions ------------------------------------------------------------------------------


class Functions(nn.Module):
    """A convolution and a product whose weights are parameters of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.randn(5, 3, 3, 3))
        self.offsets = nn.Parameter(torch.randn(5))
        self.matrix = nn.Parameter(torch.randn(6, 5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = functional.conv2d(images, self.filters, self.offsets, (2, 2), (0, 0), (1, 1), 1)
        return functional.linear(functional.relu(features).mean((2, 3)), self.matrix)


def _converted(seed: int, images: torch.Tensor, *, within: bool) -> nn.Module:
    torch.manual_seed(seed)
    mapping = QConfigMapping().set_global(default_per_channel_qconfig)
    prepared = prepare_fx(Functions().eval(), mapping, (images,))
    prepared(images)
    module = convert_fx(prepared)
    return complete(Around(module) if within else module)


@pytest.mark.parametrize("within", [False, True])
def test_packed_weights_of_functions_load_as_tensors(within: bool, tmp_path: Path) -> None:
    """A graph of quantized functions is saved as tensors, and gives the same outputs once it is loaded."""
    images = torch.randn(2, 3, 9, 9)
    module = _converted(0, images, within=within)
    save(module, tmp_path / "model.pt")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert sorted(list(tensor.shape) for tensor in tensors(state) if tensor.dim() > 1) == [
        [5, 3, 3, 3],
        [6, 5],
    ]
    rebuilt = _converted(1, images, within=within)
    rebuilt.load_state_dict(state, strict=True)
    assert torch.equal(*_outputs(rebuilt, (images,)), *_outputs(module, (images,)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("inner.scale"), "Missing key.*inner.scale"),
        (lambda state: state.update({"inner.scale": "0.1"}), "inner.scale: is a str, expected a float"),
        (
            lambda state: state.update({"inner.weight": state["inner.weight"][:2]}),
            r"inner.weight: is \[2\], expected \[4\]",
        ),
    ],
)
def test_state_that_does_not_fit_is_refused(change: Callable[[dict[str, Any]], object], words: str) -> None:
    """An entry that is missing, of another type or of another shape is named, as torch names its own."""
    module, _ = _make("quantized.PReLU", 0)
    state = dict(module.state_dict())
    change(state)
    with pytest.raises(RuntimeError, match=words):
        module.load_state_dict(state, strict=True)


def test_packed_weights_of_another_class_are_refused() -> None:
    """A file cannot choose which C++ class is made of its data."""
    module, _ = _make("quantized.dynamic.LSTMCell", 0)
    state = dict(module.state_dict())
    name, parts = state["inner._packed_weight_ih"]
    state["inner._packed_weight_ih"] = (name.replace("Linear", "Conv2d"), parts)
    with pytest.raises(RuntimeError, match=r"expected packed weights of the class \S*LinearPackedParamsBase"):
        module.load_state_dict(state, strict=True)


class Anything:
    """An object that only its own code can load."""


def test_a_state_dict_that_takes_code_to_load_is_refused_in_the_build(tmp_path: Path) -> None:
    """The entry is named, with its type, and the message does not advise to switch safety off."""

    class Stateful(nn.Linear):
        def get_extra_state(self) -> Anything:
            return Anything()

        def set_extra_state(self, state: Anything) -> None:
            pass

    with pytest.raises(QxError, match=r"holds a Anything at '0\._extra_state'") as refused:
        save(nn.Sequential(Stateful(2, 2)), tmp_path / "model.pt")
    assert "weights_only" not in str(refused.value)


def test_a_plain_module_is_saved_as_torch_saves_it(tmp_path: Path) -> None:
    """A module that lacks nothing has no new hooks and no new entries."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU())
    before = list(module.state_dict())
    assert list(save(complete(module), tmp_path / "model.pt")) == before
    assert not module._state_dict_hooks
