#!/usr/bin/env python3
"""Stands in for resnet-xla on the machine of scripts/accelerator.sh: computes nothing, and prints and writes what is read.

STAND_IN_FAILS names a command that fails.
"""

import json
import os
import pathlib
import struct
import sys

HISTORY = """epoch,loss,acc,val_loss,val_acc,lr,seconds,images_per_sec,input_wait_frac
0,2.0,0.25,2.5,0.5,0.1,60,1000,0
"""


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def write_run():
    run = pathlib.Path(option("--out-dir"))
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints/step-00000001.safetensors").write_bytes(b"weights")
    (run / "history.csv").write_text(HISTORY)


def write_logits():
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + struct.pack("<2f", 1, -2)
    pathlib.Path(option("--dump-logits")).write_bytes(content)


command = sys.argv[1]
if command == os.environ.get("STAND_IN_FAILS"):
    sys.exit(f"error: {command} fails")
if command == "doctor":
    print("a stand-in")
elif command == "train":
    write_run()
elif command == "eval":
    write_logits()
elif command == "bench":
    # DEPTH-PRECISION-BATCH
    depth, precision, batch = pathlib.Path(option("--program")).name.split("-")
    facts = {"name": "resnet-xla", "version": "stand-in", "depth": int(depth), "precision": precision}
    times = {"step_ms": 2.0, "times_ms": [2.0, 2.0], "first_loss": 2.5}
    print(json.dumps(facts | times | {"batch_size": int(batch)}))
