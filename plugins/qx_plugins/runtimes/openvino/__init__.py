"""Conversion to OpenVINO, its option, and the requirements of converting and serving."""

from qx import Option

#: Packages that serving requires.
SERVING = ("openvino>=2024.6",)
#: Packages that converting requires.
CONVERTING = SERVING
#: Where a decoder keeps its keys and values between calls.
CACHE = Option(
    name="cache",
    default="passed",
    choices=("passed", "state"),
    help="A decoder's keys and values: passed in and out, or state within the graph.",
)
