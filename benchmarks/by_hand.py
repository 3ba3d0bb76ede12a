"""The network of ``digits_cnn`` timed by hand, without qx: what the other benchmarks compare with.

Its first argument says how: ``usual``, four copies, one after another, in this process; it prints the median
milliseconds a call of each. With ``pyperf`` the rest is pyperf's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter


def network() -> Callable[[], object]:
    """One call of it, on one image, with one thread."""
    from importlib.resources import files

    import torch
    from qx_plugins.networks.cifar_cnn import CifarCNN

    torch.set_num_threads(1)
    module = CifarCNN(quantizable=False)
    with files("qx_weights").joinpath("digits_cnn.pt").open("rb") as file:
        module.load_state_dict(torch.load(file, weights_only=True))
    module.eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    # Kept with the function: the mode ends when this object goes.
    guard = torch.inference_mode()
    guard.__enter__()

    def call(_guard: object = guard) -> object:
        return module(image)

    return call


def timed(call: Callable[[], object], warm: int, calls: int) -> float:
    """Median milliseconds."""
    for _ in range(warm):
        call()
    times = []
    for _ in range(calls):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return 1000 * median(times)


def main() -> None:
    """Do what the first argument says."""
    match sys.argv.pop(1):
        case "usual":
            print(*(timed(network(), warm=10, calls=200) for _ in range(4)))
        case "pyperf":
            import pyperf

            # Its workers are started with this script's arguments, of which it knows only its own.
            runner = pyperf.Runner(program_args=(__file__, "pyperf"))
            runner.bench_func("network", network())


if __name__ == "__main__":
    main()
