"""The network of ``digits_cnn`` timed without qx, for the other benchmarks to compare with.

With ``usual`` as first argument it times four copies, one after another in this process, and prints the
median milliseconds a call of each. With ``pyperf`` it is a script of pyperf, which takes the other arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter


def network() -> Callable[[], object]:
    """Return a call of the network on one image with one thread."""
    from importlib.resources import files

    import torch
    from qx_plugins.networks.cifar_cnn import CifarCNN

    torch.set_num_threads(1)
    module = CifarCNN(quantizable=False)
    with files("qx_weights").joinpath("digits_cnn.pt").open("rb") as file:
        module.load_state_dict(torch.load(file, weights_only=True))
    module.eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    # The mode ends with this object, so the function keeps it.
    guard = torch.inference_mode()
    guard.__enter__()

    def call(_guard: object = guard) -> object:
        return module(image)

    return call


def median_time(call: Callable[[], object], warm_up: int, calls: int) -> float:
    """Return the median milliseconds of the calls, after ``warm_up`` calls that are not timed."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(calls):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return 1000 * median(times)


def main() -> None:
    """Time the network in the way that the first argument names."""
    match sys.argv.pop(1):
        case "usual":
            print(*(median_time(network(), warm_up=10, calls=200) for _ in range(4)))
        case "pyperf":
            import pyperf

            # pyperf starts its workers with this script's arguments, and knows only its own.
            runner = pyperf.Runner(program_args=(__file__, "pyperf"))
            runner.bench_func("network", network())


if __name__ == "__main__":
    main()
