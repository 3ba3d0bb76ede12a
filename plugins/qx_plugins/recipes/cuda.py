"""What configs and loaders share on CUDA devices. It imports torch inside functions."""

from __future__ import annotations


def use_ieee_precision() -> None:
    """Have float32 computed in IEEE single precision in this process.

    By default torch lets cuDNN round the inputs of convolutions to TensorFloat-32, which has 10 bits of
    mantissa: the baseline would not be what its name says, and linear layers would be computed otherwise.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
