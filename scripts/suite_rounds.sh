#!/usr/bin/env bash
# Runs the whole suite again and again, each time in the condition asked for, and prints a line a round:
#
#   ./setup cpu-plugin && scripts/suite_rounds.sh LOGS CONDITION[=ROUNDS]...
#   scripts/suite_rounds.sh logs quiet=4 busy=4 one-core=3 lower-isa=3 user=3 tmpfs=3
#
#   quiet      nothing else
#   busy       every core kept busy by something else
#   one-core   on one core alone
#   lower-isa  XLA held to AVX, and the CPU's own kernels off
#   user       an ordinary user, with a home, cache and checkout in a folder with an odd name (needs root)
#   tmpfs      checkout, build, cache and temporary folder on a tmpfs (needs root and about 12 GB of memory)
#
# What a round printed is in LOGS/CONDITION-ROUND.log. ONLY=REGEX runs the test programs whose names match. Ends with 1
# when a test failed.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${RESNET_XLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/resnet-xla}
# An id that no account has.
readonly user=61234

main() {
    (($# >= 2)) || { sed -n '2,16s/^# \?//p' "${BASH_SOURCE[0]}" >&2 && exit 2; }
    mkdir -p "$1"
    logs=$(cd "$1" && pwd)
    shift
    trap clean_up EXIT
    local asked condition rounds round failed=0
    printf '%-10s %5s %7s %6s %6s %7s  %s\n' condition round seconds passed failed ignored "failed tests"
    for asked in "$@"; do
        condition=${asked%%=*} rounds=1
        [[ $asked != *=* ]] || rounds=${asked#*=}
        begin "$condition"
        for ((round = 1; round <= rounds; round++)); do
            run_suite "$condition" "$round" || failed=1
        done
        clean_up
    done
    return "$failed"
}

# What belongs to one condition, gone with it: a folder that may be mounted, processes that keep cores busy.
place='' mounted='' busy=() opened=()

clean_up() {
    # Some may be gone: an interrupt reaches them too.
    ((${#busy[@]} == 0)) || kill "${busy[@]}" 2>/dev/null || true
    [[ -z $mounted ]] || umount "$mounted"
    [[ -z $place ]] || rm -rf "$place"
    ((${#opened[@]} == 0)) || chmod o-x "${opened[@]}"
    place='' mounted='' busy=() opened=()
}

# Sets `prefix`, which runs a command in the condition, `settings`, variables for it, and `programs`, a file that lists the
# test programs.
begin() {
    local core
    prefix=() settings=()
    checkout=$source target=${CARGO_TARGET_DIR:-$source/target}
    case $1 in
    quiet) ;;
    busy)
        for ((core = 0; core < $(nproc); core++)); do
            sha256sum /dev/zero &
            busy+=($!)
        done
        ;;
    one-core) prefix=(taskset -c "$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')") ;;
    lower-isa) settings=(RESNET_XLA_ISA=generic RESNET_XLA_TEST_XLA_FLAGS=--xla_cpu_max_isa=AVX) ;;
    user)
        new_place "a user's é #1, \"quoted\""
        prefix=(setpriv --reuid="$user" --regid="$user" --clear-groups)
        let_through "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}"
        ;;
    tmpfs)
        place=$(mktemp -d)
        mount -t tmpfs -o size=80%,mode=755 tmpfs "$place"
        mounted=$place
        new_place plain
        ;;
    *) echo "no condition '$1'" >&2 && exit 2 ;;
    esac
    build
    [[ $1 != user ]] || chown -R "$user:$user" "$place"
}

# Lets others reach what lies in the folders, until `clean_up`: let_through FOLDER...
let_through() {
    local folder
    for folder in "$@"; do
        while [[ $folder != / ]]; do
            if [[ $(stat -c %A "$folder") != *[xt] ]]; then
                chmod o+x "$folder"
                opened+=("$folder")
            fi
            folder=$(dirname "$folder")
        done
    done
}

# A temporary folder of the condition's own, and in the folder NAME a checkout, build, cache and home: new_place NAME
new_place() {
    [[ -n $place ]] || place=$(mktemp -d)
    chmod 755 "$place"
    local folder=$place/$1
    mkdir -p "$folder/home" "$place/tmp"
    checkout=$folder/checkout target=$folder/target
    git clone --quiet "$source" "$checkout"
    cp -a "$cache" "$folder/cache"
    mkdir "$target"
    # What does not depend on where the checkout lies need not be built again.
    cp -a "${CARGO_TARGET_DIR:-$source/target}/release" "$target/release"
    (unset XLA_EXTENSION_DIR && RESNET_XLA_CACHE=$folder/cache "$checkout/setup" >&2)
    settings+=(HOME="$folder/home" TMPDIR="$place/tmp" RESNET_XLA_CACHE="$folder/cache")
    settings+=(XLA_EXTENSION_DIR="$checkout/.xla")
    # Cargo looks for these in the home folder.
    settings+=(CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}")
}

build() {
    programs=$logs/programs
    local runtime=(env)
    [[ $checkout == "$source" ]] || runtime=(env XLA_EXTENSION_DIR="$checkout/.xla")
    (cd "$checkout" && CARGO_TARGET_DIR=$target "${runtime[@]}" \
        cargo test --release --no-run --message-format=json) >"$logs/build.json"
    python3 - "$logs/build.json" >"$programs" <<'PY'
import json, os, sys
for line in open(sys.argv[1]):
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        print(message["executable"], os.path.dirname(message["manifest_path"]), sep="\t")
PY
}

# Runs each test program as cargo does, from its package's folder: run_suite CONDITION ROUND
run_suite() {
    local log=$logs/$1-$2.log start=$SECONDS program folder sums failed
    : >"$log"
    while IFS=$'\t' read -r program folder; do
        [[ ${program##*/} =~ ${ONLY:-} ]] || continue
        echo "== $program" >>"$log"
        (cd "$folder" && env XLA_EXTENSION_DIR="${XLA_EXTENSION_DIR:-$checkout/.xla}" "${settings[@]}" "${prefix[@]}" \
            "$program" </dev/null >>"$log" 2>&1) || echo "test ${program##*/} ... ended with $?" >>"$log"
    done <"$programs"
    sums=$(awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "%6d %6d %7d", passed, failed, ignored }' "$log")
    # A program that was killed has no result of its own: its name is here too.
    failed=$(sed -n 's/^test \(.*\) \.\.\. \(FAILED\|ended with .*\)$/\1/p' "$log" | sort -u | tr '\n' ' ')
    printf '%-10s %5d %7d %s  %s\n' "$1" "$2" "$((SECONDS - start))" "$sums" "$failed"
    [[ -z $failed ]]
}

main "$@"
