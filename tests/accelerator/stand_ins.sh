#!/usr/bin/env bash
# Makes scripts/accelerator.sh with stand-ins for the peers, and pieces with one for the program: stand_ins.sh ROOT FOLDER
set -euo pipefail
root=$1
cd "$2"

mkdir -p scripts benches/peers
cp "$root/scripts/accelerator.sh" scripts/
cp "$root"/benches/peers/{accelerator,common,gpu_tables,tables}.py benches/peers/
for peer in peer_jax peer_pytorch; do
    cp "$root/tests/accelerator/peer.py" "benches/peers/$peer.py"
done
# common.py imports it, and stand-ins compute nothing with it.
touch benches/peers/numpy.py

mkdir -p tools/programs tools/reference images data
cat >tools/plan.json <<'JSON'
{
  "on": "gpu", "depths": [11], "batches": [8], "precisions": ["f32", "bf16"],
  "peers": ["jax", "pytorch", "pytorch-channels-last", "pytorch-compile"], "rounds": 1, "steps": 2, "warmup": 1,
  "seconds_a_measurement": 1, "numerics_steps": 1, "train": "train", "steps_a_call": null
}
JSON
install -m 755 "$root/tests/accelerator/program.py" tools/resnet-xla
python3 tools/resnet-xla train --out-dir reference
mv reference/history.csv tools/reference/
python3 tools/resnet-xla eval --dump-logits tools/reference/logits.npy
tar -czf piece-0.tar.gz tools

echo image >images/image
tar -C images -czf data/part-00 .
sha256sum <data/part-00 >data/sum
echo 1 >data/parts
tar -czf piece-1.tar.gz data
