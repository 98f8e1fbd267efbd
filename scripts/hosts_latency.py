#!/usr/bin/env python3
"""Measures what a small all-reduce between two hosts costs before there is any network, as a table in Markdown.

    scripts/hosts_latency.py

Two processes under Open MPI, each pinned to a processor, on two hosts that this machine plays (scripts/two_hosts.py
--direct, which needs root), exchange what they have as xla_mpi/ does: by an all-gather. What is measured is MPI, TCP and
the system on both sides. A network adds the latency of its cards, cables and switches.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

SCRIPTS = pathlib.Path(__file__).resolve().parent
PROCESSORS = sorted(os.sched_getaffinity(0))
# Median and quartiles of the times of as many all-gathers, for each number of bytes of a process.
PROGRAM = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int compare(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

int main(int argc, char** argv) {
  int rank, rounds = atoi(argv[1]);
  static char own[4096], all[2 * 4096];
  double* took = malloc(rounds * sizeof(double));
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (int i = 2; i < argc; ++i) {
    int bytes = atoi(argv[i]);
    for (int round = -rounds / 10; round < rounds; ++round) {
      double begin = MPI_Wtime();
      MPI_Allgather(own, bytes, MPI_BYTE, all, bytes, MPI_BYTE, MPI_COMM_WORLD);
      if (round >= 0) took[round] = 1e6 * (MPI_Wtime() - begin);
    }
    qsort(took, rounds, sizeof(double), compare);
    if (rank == 0)
      printf("| %d | %.1f | %.1f to %.1f | %d |\n", bytes, took[rounds / 2], took[rounds / 4], took[rounds * 3 / 4], rounds);
  }
  return MPI_Finalize();
}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10000, help="that are measured, after a tenth as many")
    parser.add_argument("--bytes", type=int, nargs="+", default=[64, 256, 1024, 2048], help="of one process, at most 4096")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, "latency")
        subprocess.run(["mpicc", "-O2", "-x", "c", "-", "-o", program], input=PROGRAM, text=True, check=True)
        pin = f'all=({" ".join(map(str, PROCESSORS))}); exec taskset -c ${{all[OMPI_COMM_WORLD_RANK % {len(PROCESSORS)}]}} "$@"'
        command = [SCRIPTS / "two_hosts.py", "--direct", "mpirun", "-n", 2, "--bind-to", "none"]
        command += ["--host", "10.77.0.1,10.77.0.2", "bash", "-c", pin, "bash", program, args.rounds, *args.bytes]
        print("| bytes of a process | median, µs | quartiles | n |")
        print("| --- | --- | --- | --- |", flush=True)
        sys.exit(subprocess.run([str(word) for word in command], check=False).returncode)


if __name__ == "__main__":
    main()
