"""Fold batch normalization into the layer before it, where torch folds it wrongly or not at all.

It imports torch: import it inside functions.
"""

from __future__ import annotations

import torch
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_into_transposed(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    groups: int,
    *,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    """Return weight and bias of a transposed convolution with the batch normalization after it folded in.

    The weight is ``[inputs, outputs / groups, *kernel]``: the outputs of each group lie along the second
    dimension, and torch folds along it as if there were one group. So the groups are laid side by side,
    ``[inputs / groups, outputs, *kernel]``, folded, and put back.
    """
    side_by_side = weight.unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2)
    folded, folded_bias = fuse_conv_bn_weights(
        side_by_side, bias, mean, variance, epsilon, scale, shift, transpose=True
    )
    back = folded.detach().unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)
    return torch.nn.Parameter(back.contiguous(), weight.requires_grad), folded_bias
