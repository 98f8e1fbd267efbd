#!/usr/bin/env bash
# Runs the main tests of several processes under MPICH, where it is installed beside the Open MPI that ./setup mpi has found.
# The library for MPI is MPICH's meanwhile, and Open MPI's again when this ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! { command -v mpicxx.mpich && command -v mpirun.mpich; } >/dev/null; then
    echo "skipped: MPICH is not installed beside Open MPI (Debian: apt install mpich libmpich-dev)"
    exit
fi
# Each library stays for the next time, beside the other.
runtime=$(readlink -f "${XLA_EXTENSION_DIR:-.xla}")
move() {
    [[ -e $1 ]] || return 0
    rm -rf "$2"
    mv -T "$1" "$2"
}
take_turns() {
    move "$runtime/mpi" "$runtime/mpi-$1"
    move "$runtime/mpi-$2" "$runtime/mpi"
}
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
take_turns open-mpi mpich
trap 'take_turns mpich open-mpi; rm -r "$folder"' EXIT
MPICXX=mpicxx.mpich ./setup mpi

# The tests start `mpirun`.
printf '#!/bin/sh\nexec mpirun.mpich "$@"\n' >"$folder/mpirun"
chmod +x "$folder/mpirun"
PATH=$folder:$PATH cargo test --release --test hosts -- --show-output learning::two_and_four_processes \
    ending::a_signal_to_any_process ending::what_all_processes_find_wrong agreement::processes_with_different_settings \
    launching::the_doctor_says
