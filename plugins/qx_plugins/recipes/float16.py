"""A wrapper that runs a model in float16. It imports torch: import it inside functions."""

from __future__ import annotations

import torch

from qx_plugins.recipes.bfloat16 import InSixteenBits


class Float16(InSixteenBits):
    """Computes in float16: 10 bits of mantissa, and a largest number of 65,504."""

    dtype = torch.float16
