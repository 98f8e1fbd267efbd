"""What the machine can do at most: a large float32 matrix product and a large copy, by PyTorch's libraries."""

import json
import statistics
import time

import common
import torch

SIDE = 2048
COPY_BYTES = 1 << 29


def best_quarter(work, repeats=20):
    """The lower quartile of `work`'s times in seconds: a limit is what others' noise does not slow."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=4)[0]


def main():
    torch.set_num_threads(common.threads())
    a, b, product = (torch.rand(SIDE, SIDE) for _ in range(3))
    source = torch.zeros(COPY_BYTES // 4)
    target = torch.empty_like(source)
    gemm = best_quarter(lambda: torch.mm(a, b, out=product))
    copy = best_quarter(lambda: target.copy_(source))
    report = {
        "name": "roofline",
        "version": torch.__version__,
        "gemm_gflops": 2 * SIDE**3 / gemm / 1e9,
        # A copy reads and writes.
        "memory_gb_per_s": 2 * COPY_BYTES / copy / 1e9,
    }
    print(json.dumps(report))


main()
