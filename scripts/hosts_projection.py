#!/usr/bin/env python3
"""What the collectives of a training step would take on clusters that nobody has measured, as a table in Markdown.

    scripts/hosts_projection.py --parameters 1703258 --others 4:3 64:… --step-ms 815

On n hosts, over a network with a latency and a bandwidth:

    large all-reduce      2 (n-1)/n bytes / bandwidth  +  2 (n-1) latency     all-to-all, then all-gather in a ring
    small all-reduce      (n-1) bytes / bandwidth  +  log2(n) latency         all-gather by doubling, summed by each

xla_mpi/collectives.cc takes one for small where the bytes of all processes together are 64 KiB at most: with more hosts
more of a step's all-reduces are large. The one of the gradients always is. Waiting for a slower host, and what overlaps,
are not in it.
"""

import argparse
import math

# kSmall of xla_mpi/collectives.cc.
SMALL = 64 << 10
# One way, through the system's TCP; by RDMA.
NETWORKS = {"10 Gb/s, 30 µs": (10e9 / 8, 30e-6), "100 Gb/s, 3 µs": (100e9 / 8, 3e-6)}
HOSTS = [2, 4, 8, 16, 32, 64]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, required=True, help="that are trained")
    parser.add_argument("--others", nargs="+", required=True, metavar="BYTES:NUMBER", help="other all-reduces of a step "
                        "with --bn sync: how many there are to which a process gives so many bytes")
    parser.add_argument("--step-ms", type=float, required=True, help="of one host with its own batch")
    args = parser.parse_args()
    others = [tuple(map(int, some.split(":"))) for some in args.others]
    columns = ["network", "hosts", "gradients, ms", "others, ms", "of these in two exchanges", "share with sync", "with local", "sync, host 10 times as fast"]
    row(columns)
    row(["---"] * len(columns))
    for network, (bandwidth, latency) in NETWORKS.items():
        for hosts in HOSTS:
            gradients = 1e3 * large(hosts, 4 * args.parameters, bandwidth, latency)
            small = 1e3 * sum(number * all_reduce(hosts, size, bandwidth, latency) for size, number in others)
            two = sum(number for size, number in others if size * hosts > SMALL)
            both = gradients + small
            shares = [share(both, args.step_ms), share(gradients, args.step_ms), share(both, args.step_ms / 10)]
            row([network, hosts, f"{gradients:.1f}", f"{small:.1f}", two, *shares])


def all_reduce(hosts, size, bandwidth, latency):
    if size * hosts > SMALL:
        return large(hosts, size, bandwidth, latency)
    return (hosts - 1) * size / bandwidth + math.ceil(math.log2(hosts)) * latency


def large(hosts, size, bandwidth, latency):
    return 2 * (hosts - 1) / hosts * size / bandwidth + 2 * (hosts - 1) * latency


def share(collectives, computing):
    """Of the time of a step."""
    return f"{100 * collectives / (collectives + computing):.0f} %"


def row(values):
    print("|", " | ".join(map(str, values)), "|")


if __name__ == "__main__":
    main()
