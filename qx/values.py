"""Names for values that many rooms hand on and whose types Python cannot say closer.

Light: it imports neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

#: An array of any type and shape; what is written beside a field or a parameter says which.
Array: TypeAlias = "np.ndarray"
#: A value that was read from JSON, or will be written as JSON. ``Any``, since whoever reads it relies on a
#: schema, a validator or a condition of its own, none of which a type checker sees.
Json: TypeAlias = Any
#: An object of JSON that is being put together, or was just read.
JsonObject: TypeAlias = dict[str, Json]
#: An object of JSON that is looked up by name and not changed.
JsonMapping: TypeAlias = Mapping[str, Json]
#: The value of a plugin's option. It has the type of the option's default, which the plugin that reads it
#: knows, and a type checker does not.
OptionValue: TypeAlias = Any
#: The values of a plugin's options, by name.
OptionValues: TypeAlias = Mapping[str, OptionValue]
#: What a runtime takes as its input or gives as its output: each runtime has types of its own.
Native: TypeAlias = Any
