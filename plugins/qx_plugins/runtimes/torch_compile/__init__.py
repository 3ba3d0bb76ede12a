"""torch.compile on CUDA devices, in the process that serves, and what its configs require."""

from qx import Option

#: Packages that torchao's recipes require, for quantizing and for serving.
TORCHAO = ("torch>=2.11", "torchao>=0.18")
#: Commands of which Triton, which writes the kernels, needs one.
COMPILERS = ("$CC", "gcc", "clang")
#: Modes of torch.compile; those with CUDA graphs replay what they have recorded of a batch size.
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
MODE = Option(
    name="mode",
    default="default",
    choices=("default", "max-autotune-no-cudagraphs", *CUDA_GRAPHS),
    help="Mode of torch.compile; it decides what is tried out, and whether CUDA graphs are used.",
)
