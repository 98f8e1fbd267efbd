#!/usr/bin/env python3
"""What the collectives of a training step would take on clusters that nobody has measured, as a table in Markdown.

    scripts/hosts_projection.py --parameters 1703258 --small 492 --small-mb 0.2 --step-ms 1941

On n hosts, over a network with a latency and a bandwidth:

    gradients             2 (n-1)/n bytes / bandwidth  +  2 (n-1) latency          all-to-all, then all-gather in a ring
    small all-reduces     (n-1) bytes / bandwidth  +  number * log2(n) latency     all-gather by doubling, summed by each

`scripts/hosts_scaling.py` measures the number of small all-reduces of a step and their bytes. Waiting for a slower host,
and what overlaps, are not in it.
"""

import argparse
import math

# One way, through the system's TCP; by RDMA.
NETWORKS = {"10 Gb/s, 30 µs": (10e9 / 8, 30e-6), "100 Gb/s, 3 µs": (100e9 / 8, 3e-6)}
HOSTS = [2, 4, 8, 16, 32, 64]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, required=True, help="that are trained")
    parser.add_argument("--small", type=int, required=True, help="small all-reduces of a step with --bn sync")
    parser.add_argument("--small-mb", type=float, required=True, help="that one process gives in all of them")
    parser.add_argument("--step-ms", type=float, required=True, help="of one host with its own batch")
    args = parser.parse_args()
    columns = ["network", "hosts", "gradients, ms", "small, ms", "share with sync", "with local", "sync, host 10 times as fast"]
    row(columns)
    row(["---"] * len(columns))
    for network, (bandwidth, latency) in NETWORKS.items():
        for hosts in HOSTS:
            gradients = 1e3 * all_reduce(hosts, 4 * args.parameters, bandwidth, latency)
            small = 1e3 * small_ones(hosts, args.small, 1e6 * args.small_mb, bandwidth, latency)
            both = gradients + small
            shares = [share(both, args.step_ms), share(gradients, args.step_ms), share(both, args.step_ms / 10)]
            row([network, hosts, f"{gradients:.1f}", f"{small:.1f}", *shares])


def all_reduce(hosts, size, bandwidth, latency):
    return 2 * (hosts - 1) / hosts * size / bandwidth + 2 * (hosts - 1) * latency


def small_ones(hosts, number, size, bandwidth, latency):
    return (hosts - 1) * size / bandwidth + number * math.ceil(math.log2(hosts)) * latency


def share(collectives, computing):
    """Of the time of a step."""
    return f"{100 * collectives / (collectives + computing):.0f} %"


def row(values):
    print("|", " | ".join(map(str, values)), "|")


if __name__ == "__main__":
    main()
