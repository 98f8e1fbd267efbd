#!/usr/bin/env bash
# Measures and trains on a machine with a GPU that has Python's jax and torch but no registry, that takes little at a
# time, and that may be gone after any call:
#
#   scripts/accelerator.sh pack FOLDER [--short]    here: pieces to carry, at most 36 MiB each
#   scripts/accelerator.sh run [--out DIR] [--seconds N] [--parts LIST] PIECE...
#                                                   there: takes pieces, and does what they allow
#   scripts/accelerator.sh tables PIECE...          here: the tables, from what came back in --out
#
# `pack` takes the program that RESNET_XLA_BIN names (by default target/small/resnet-xla, which scripts/small_build.sh
# makes), what that of target/release exports and computes on the CPU, and CIFAR-10 (`resnet-xla fetch`). The first piece
# has all but the data. `--short` makes a form of seconds, for the CPU plugin. PIECE_MIB sets another size.
#
# `run` keeps all in --work (/tmp/resnet-xla-accelerator). It checks the numbers against the CPU's, measures the training
# step beside JAX's and PyTorch's, and trains the tutorial's network by its recipe for as long as --seconds (540) last;
# then, even if one of these failed, it writes what is to stay to --out, as pieces again. Carry those, too, to go on where
# the last call stopped. What is done is not done again. Once the data is there, training gets the last third of the time;
# --parts chooses from numerics,speed,training. --plugin names the PJRT plugin, by default jax's for CUDA.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
full=${RESNET_XLA_FULL_BIN:-$target/release/resnet-xla}
program=${RESNET_XLA_BIN:-$target/small/resnet-xla}
piece_mib=${PIECE_MIB:-36}
# The program names variables that it does not know.
unset RESNET_XLA_BIN RESNET_XLA_FULL_BIN PIECE_MIB
# Seconds in which a run saves what it has, and `run` packs it.
readonly to_save=30

main() {
    case ${1:-} in
    pack | tables) (($# > 1)) || usage ;;
    run) ;;
    *) usage ;;
    esac
    "$@"
}

usage() {
    sed -n '2,20s/^# \?//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

fail() {
    echo "accelerator.sh: $*" >&2
    exit 1
}

# ---- here ----

pack() {
    local folder=$1 form=${2:-}
    [[ -x $program ]] || fail "there is no $program; scripts/small_build.sh makes it"
    mkdir -p "$folder"
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    mkdir -p "$place/tools/programs"
    case $form in
    '') plan_long ;;
    --short) plan_short ;;
    *) fail "unknown option '$form' of pack" ;;
    esac
    cp "$program" "$place/tools/resnet-xla"
    export_programs
    compute_reference
    rm -f "$folder"/piece-*.tar.gz
    tar -C "$place" -czf "$folder/piece-0.tar.gz" tools
    pack_data "$folder"
    check_sizes "$folder"
}

# Each plan sets what `pack` needs of it as variables, and writes all of it to plan.json.
plan_long() {
    on=gpu depths=(20 164) batches=(128 1024) precisions=(f32 bf16) numerics_depth=20 numerics_steps=4
    train=164-f32-128 data=$root/data/cifar-10-batches-bin
    [[ -d $data ]] || fail "there is no $data; resnet-xla fetch puts it there"
    write_plan 3 20 5 90 null jax pytorch pytorch-channels-last pytorch-compile
}

plan_short() {
    on=cpu-plugin depths=(11) batches=(8) precisions=(f32) numerics_depth=11 numerics_steps=1
    train=train data=$root/assets/sample
    write_plan 1 2 1 5 3 jax pytorch
    cat >"$place/train.toml" <<'TOML'
preset = "keras"
dataset = "sample"
depth = 11
batch-size = 8
epochs = 2
steps-per-epoch = 3
eval-steps = 1
precision = "f32"
TOML
    export_program train "$place/train.toml"
}

# write_plan ROUNDS STEPS WARMUP SECONDS_A_MEASUREMENT STEPS_A_CALL PEER...
write_plan() {
    local rounds=$1 steps=$2 warmup=$3 seconds=$4 steps_a_call=$5
    shift 5
    cat >"$place/tools/plan.json" <<JSON
{
  "on": "$on", "depths": [$(list "${depths[@]}")], "batches": [$(list "${batches[@]}")],
  "precisions": [$(quoted "${precisions[@]}")], "peers": [$(quoted "$@")], "rounds": $rounds, "steps": $steps,
  "warmup": $warmup, "seconds_a_measurement": $seconds, "numerics_steps": $numerics_steps,
  "train": "$train", "steps_a_call": $steps_a_call
}
JSON
}

list() { local IFS=,; echo "$*"; }

quoted() { list "${@/#/\"}" | sed 's/,/",/g; s/$/"/'; }

export_programs() {
    local depth batch precision
    for depth in "${depths[@]}"; do
        for batch in "${batches[@]}"; do
            for precision in "${precisions[@]}"; do
                printf 'preset = "keras"\ndepth = %s\nbatch-size = %s\nprecision = "%s"\n' \
                    "$depth" "$batch" "$precision" >"$place/settings.toml"
                export_program "$depth-$precision-$batch" "$place/settings.toml"
            done
        done
    done
    for precision in "${precisions[@]}"; do
        numerics_settings "$precision" >"$place/numerics-$precision.toml"
        export_program "numerics-$precision" "$place/numerics-$precision.toml"
    done
}

# A rate at which five steps do not make much of a rounding error, on images that come with the program.
numerics_settings() {
    cat <<TOML
preset = "keras"
dataset = "sample"
depth = $numerics_depth
batch-size = 64
epochs = 1
steps-per-epoch = 5
eval-steps = $numerics_steps
augment = "none"
no-shuffle = true
bn-momentum = 0.9
lr = 0.003
precision = "$1"
TOML
}

# export_program NAME SETTINGS
export_program() {
    "$full" export --program "$place/tools/programs/$1" --settings "$2" --on "$on" --replicas 1
}

# The same five steps, and the logits after them, on the CPU in f32.
compute_reference() {
    local run=$place/reference
    numerics_settings f32 >"$place/reference.toml"
    "$full" train -c "$place/reference.toml" --device cpu --out-dir "$run" --progress none
    mkdir "$place/tools/reference"
    "$full" eval --checkpoint "$run" --device cpu --batch-size 64 --steps "$numerics_steps" \
        --dump-logits "$place/tools/reference/logits.npy" >/dev/null
    cp "$run/history.csv" "$place/tools/reference/"
}

# The data as one archive, in pieces of its bytes: pack_data FOLDER
pack_data() {
    local folder=$1 archive=$place/data.tar.gz limit=$((piece_mib * 1024 * 1024)) parts part number=0
    tar -C "$data" -czf "$archive" .
    parts=$(($(stat -c %s "$archive") / (limit - 65536) + 1))
    ((parts > 1)) || parts=2
    mkdir "$place/data"
    (cd "$place/data" && sha256sum <"$archive" >sum && echo "$parts" >parts)
    split -n "$parts" -d "$archive" "$place/data/part-"
    for part in "$place"/data/part-*; do
        number=$((number + 1))
        tar -C "$place" -cf - "data/${part##*/}" data/sum data/parts | gzip -1 >"$folder/piece-$number.tar.gz"
    done
}

check_sizes() {
    local piece
    for piece in "$1"/piece-*.tar.gz; do
        (($(stat -c %s "$piece") <= piece_mib * 1024 * 1024)) ||
            fail "$piece has $(($(stat -c %s "$piece") >> 20)) MiB, expected at most $piece_mib: a program that needs no" \
                "XLA runtime is smaller; name it in RESNET_XLA_BIN"
        echo "$piece: $(stat -c %s "$piece") bytes"
    done
}

# ---- there ----

run() {
    local work=/tmp/resnet-xla-accelerator out='' seconds=540 parts=numerics,speed,training plugin='' end pieces=()
    while (($#)); do
        case $1 in
        --work) work=$2 && shift ;;
        --out) out=$2 && shift ;;
        --seconds) seconds=$2 && shift ;;
        --parts) parts=$2 && shift ;;
        --plugin) plugin=$2 && shift ;;
        -*) fail "unknown option '$1' of run" ;;
        *) pieces+=("$1") ;;
        esac
        shift
    done
    [[ $parts =~ ^(numerics|speed|training)(,(numerics|speed|training))*$ ]] ||
        fail "expected some of numerics,speed,training as --parts, got '$parts'"
    end=$((SECONDS + seconds - to_save))
    mkdir -p "$work/state"
    # However this ends.
    # shellcheck disable=SC2064
    [[ -z $out ]] || trap "$(printf 'save %q %q' "$work/state" "$out")" EXIT
    take "$work" "${pieces[@]}"
    if [[ ! -e $work/tools/plan.json ]]; then
        echo "piece-0.tar.gz is still to come: it has the program"
        return 0
    fi
    [[ -n $plugin ]] || plugin=$(find_plugin)
    find_cuda
    ((end > SECONDS)) || return 0
    measure "$work" "$end" "$parts" "$plugin"
    [[ ,$parts, != *,training,* ]] || train "$work" "$end" "$plugin"
}

# Measures what is still to be measured, and leaves a third of the time to training if it can begin:
# measure WORK END PARTS PLUGIN
measure() {
    local work=$1 left=$(($2 - SECONDS)) parts=$3 plugin=$4
    [[ ,$parts, != *,training,* || ! -e $work/data/complete ]] || left=$((left * 2 / 3))
    python3 "$root/benches/peers/accelerator.py" "$work" --seconds "$left" --parts "$parts" ${plugin:+--plugin "$plugin"}
}

# Unpacks pieces, and the data once all of it is there: take WORK PIECE...
take() {
    local work=$1 piece there
    shift
    for piece in "$@"; do
        tar -C "$work" -xzf "$piece"
    done
    [[ -e $work/data/parts && ! -e $work/data/complete ]] || return 0
    there=$(find "$work/data" -name 'part-*' | wc -l)
    if ((there < $(<"$work/data/parts"))); then
        echo "$there of $(<"$work/data/parts") pieces of the data are there"
        return 0
    fi
    cat "$work"/data/part-* >"$work/data.tar.gz"
    sha256sum <"$work/data.tar.gz" | cmp -s - "$work/data/sum" || fail "the data's pieces do not belong together"
    mkdir -p "$work/images"
    tar -C "$work/images" -xzf "$work/data.tar.gz"
    rm "$work/data.tar.gz" "$work"/data/part-*
    touch "$work/data/complete"
    echo "the data is complete"
}

# The file of jax's CUDA plugin; nothing where there is none, and the program looks for one by itself.
find_plugin() {
    python3 - <<'PY'
import importlib.util, pathlib
for name in ("xla_cuda13", "xla_cuda12"):
    try:
        spec = importlib.util.find_spec(f"jax_plugins.{name}")
    except ModuleNotFoundError:
        continue
    for folder in spec.submodule_search_locations if spec else []:
        path = pathlib.Path(folder) / "xla_cuda_plugin.so"
        if path.exists():
            print(path)
            raise SystemExit
PY
}

# Lets the plugin find CUDA's libraries where they are Python packages, as jax does.
find_cuda() {
    local libraries
    libraries=$(python3 - <<'PY'
import pathlib, sys
folders = {str(path.parent) for place in sys.path for path in pathlib.Path(place).glob("nvidia/**/lib/lib*.so*")}
print(":".join(sorted(folders)))
PY
    )
    [[ -z $libraries ]] || export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# Trains until SECONDS is END; a run that was stopped before goes on: train WORK END PLUGIN
train() {
    local work=$1 end=$2 plugin=$3 run=$1/state/run options code=0 steps
    steps=$(plan "$work" steps_a_call)
    if [[ ! -e $work/data/complete ]]; then
        echo "training waits for the data"
        return 0
    fi
    # Less is over before the program is compiled.
    ((end - SECONDS >= $(plan "$work" seconds_a_measurement))) || return 0
    options=(--program "$work/tools/programs/$(plan "$work" train)" --out-dir "$run" --data-dir "$work/images")
    options+=(--compile-cache "$work/compiled" --progress plain ${plugin:+--plugin "$plugin"})
    # A start that was stopped while it compiled has left nothing to go on from.
    [[ -z $(newest_checkpoint "$run") ]] && options+=(--overwrite) || options+=(--resume)
    if [[ $steps != None ]]; then
        echo call >>"$work/state/calls"
        options+=(--max-steps $((steps * $(wc -l <"$work/state/calls"))))
    fi
    timeout --signal=TERM --kill-after=60 $((end - SECONDS)) "$work/tools/resnet-xla" train "${options[@]}" || code=$?
    # Out of time, with the state saved.
    ((code == 0 || code == 124 || code == 143)) || fail "training ended with $code"
}

# A value of the plan: plan WORK NAME
plan() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1/tools/plan.json" "$2"; }

# The file of the newest checkpoint of a run, if it has one: newest_checkpoint RUN
newest_checkpoint() {
    [[ -d $1/checkpoints ]] || return 0
    find "$1/checkpoints" -name 'step-*.safetensors' | sort | tail -n 1
}

# What the next call needs, and what the tables are made of: save STATE OUT
save() {
    local state=$1 out=$2 newest
    mkdir -p "$out"
    tar -C "${state%/*}" --exclude=checkpoints --exclude=plots --exclude=events --exclude=report.html \
        -czf "$out/state.tar.gz" "${state##*/}"
    newest=$(newest_checkpoint "$state/run")
    [[ -z $newest ]] || tar -C "${state%/*}" -czf "$out/checkpoint.tar.gz" "state/run/checkpoints/${newest##*/}"
    ls -l "$out"
}

# ---- here again ----

# tables [--docs DIR] PIECE...
tables() {
    local docs=$root/docs piece
    [[ ${1:-} != --docs ]] || { docs=$2 && shift 2; }
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    for piece in "$@"; do
        tar -C "$place" -xzf "$piece"
    done
    python3 "$root/benches/peers/gpu_tables.py" "$place/state" --docs "$docs"
}

main "$@"
