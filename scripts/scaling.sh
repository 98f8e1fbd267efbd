#!/usr/bin/env bash
# How the training step scales with cores and with the batch, as a table of markdown:
#
#   cargo build --release && scripts/scaling.sh [DEPTH...] [-- OPTION...]
#   scripts/scaling.sh 20 164 >scaling.md
#   CORES='1 2' BATCHES='128 1024' ROUNDS=4 STEPS=5 scripts/scaling.sh 20 -- --precision bf16
#
# A row is the median of all steps of all rounds. In a round each depth (20 and 164), batch (32, 64 … 1024) and number of
# cores (1, 2, 4 … and all) is measured once, by `resnet-xla bench` with the OPTIONs, held to the first of the processors
# that this script may use. What cannot be measured, for want of memory, has no row; the standard error says why. Nothing
# else should run meanwhile. RESNET_XLA_BIN names another program than that of target/release.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${RESNET_XLA_BIN:-$root/target/release/resnet-xla}
# The program names variables that it does not know.
unset RESNET_XLA_BIN
rounds=${ROUNDS:-4} steps=${STEPS:-5}
read -ra batches <<<"${BATCHES:-32 64 128 256 512 1024}"

main() {
    local depths=() processors count
    while (($# > 0)) && [[ $1 != -- ]]; do
        [[ $1 =~ ^[0-9]+$ ]] || { sed -n '2,12s/^# \?//p' "${BASH_SOURCE[0]}" >&2 && exit 2; }
        depths+=("$1")
        shift
    done
    [[ ${1:-} != -- ]] || shift
    ((${#depths[@]} > 0)) || depths=(20 164)
    mapfile -t processors < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
    read -ra counts <<<"${CORES:-$(doubled "${#processors[@]}")}"
    results=$(mktemp)
    trap 'rm -f "$results"' EXIT
    local round depth batch
    for ((round = 1; round <= rounds; round++)); do
        for depth in "${depths[@]}"; do
            for batch in "${batches[@]}"; do
                for count in "${counts[@]}"; do
                    measure "$depth" "$batch" "${processors[@]:0:count}" -- "$@"
                done
            done
        done
    done
    table
}

# 1, 2, 4 … below $1, and $1.
doubled() {
    local count
    for ((count = 1; count < $1; count *= 2)); do
        printf '%d ' "$count"
    done
    echo "$1"
}

# Adds what `bench` prints to the results: measure DEPTH BATCH PROCESSOR... -- OPTION...
measure() {
    local depth=$1 batch=$2 list=$3
    shift 3
    while [[ $1 != -- ]]; do
        list+=,$1
        shift
    done
    shift
    taskset -c "$list" "$program" bench --json --device cpu --depth "$depth" --batch-size "$batch" --warmup 2 \
        --steps "$steps" "$@" >>"$results" ||
        echo "scaling.sh: depth $depth, batch $batch on processors $list was not measured: see above" >&2
}

table() {
    python3 - "$results" <<'PY'
import json, re, statistics, sys

text, reports = open(sys.argv[1]).read().strip(), []
while text:
    report, end = json.JSONDecoder().raw_decode(text)
    reports.append(report)
    text = text[end:].lstrip()
if not reports:
    sys.exit("scaling.sh: nothing was measured")

times = {}
for report in reports:
    key = report["depth"], report["batch_size"], report["threads"]
    times.setdefault(key, []).extend(report["times_ms"])
cpu = dict(re.findall(r"^(\S[^\t:]*?)\s*: (.*)$", open("/proc/cpuinfo").read(), re.MULTILINE))
one_of_each = {kind: ", ".join(sorted({report[kind] for report in reports})) for kind in ("isa", "precision", "version")}
print(
    f"{cpu.get('model name', 'unknown processor')} (family {cpu.get('cpu family', '?')}, model {cpu.get('model', '?')}),"
    " kernels for {isa}, {precision}, resnet-xla {version}:\n".format(**one_of_each)
)
print("| depth | batch | cores | ms/step | quartiles | n | images/s | times the fewest cores' |")
print("| --- | --- | --- | --- | --- | --- | --- | --- |")
rates = {}
for (depth, batch, cores), steps in sorted(times.items()):
    ms = statistics.median(steps)
    low, _, high = statistics.quantiles(steps, n=4, method="inclusive") if len(steps) > 1 else steps * 3
    rate = batch / ms * 1e3
    fewest = rates.setdefault((depth, batch), rate)
    print(
        f"| {depth} | {batch} | {cores} | {ms:,.1f} | {low:,.1f} to {high:,.1f} | {len(steps)} | {rate:,.1f} | "
        f"{rate / fewest:.2f} |"
    )
PY
}

main "$@"
