"""Type aliases for values whose types Python cannot express more precisely.

This module imports neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

#: Array of any type and shape; the comment of a field or the docstring of a function says which.
Array: TypeAlias = "np.ndarray"
#: Value that was read from JSON, or will be written as JSON. ``Any``, since its reader relies on a schema or
#: on a check of its own, which a type checker does not see.
Json: TypeAlias = Any
#: JSON object that is being built, or was just read.
JsonObject: TypeAlias = dict[str, Json]
#: JSON object that is read and not changed.
JsonMapping: TypeAlias = Mapping[str, Json]
#: Value of a plugin's option. It has the type of the option's default, which a type checker does not know.
OptionValue: TypeAlias = Any
#: Values of a plugin's options, by name.
OptionValues: TypeAlias = Mapping[str, OptionValue]
#: Input or output of a runtime: each runtime has types of its own.
Native: TypeAlias = Any
