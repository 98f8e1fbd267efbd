"""Stands in for a peer that needs JAX or PyTorch: takes its options, computes nothing, and prints what it would print.

STAND_IN_SLEEPS names a peer's file that does not come to an end.
"""

import os
import pathlib
import time

import common

file = pathlib.Path(__file__).name
if file == os.environ.get("STAND_IN_SLEEPS"):
    time.sleep(3600)
if file == "peer_jax.py":
    args = common.arguments(__doc__, precision=["f32", "bf16"])
    name = "JAX"
else:
    choices = {"mode": ["eager", "compile"], "precision": ["f32", "bf16"], "device": ["cpu", "cuda"]}
    args = common.arguments(__doc__, **choices, layout=["channels_last", "contiguous"])
    name = f"PyTorch {args.mode} {args.layout} {args.device}"
common.measure(args, lambda: 2.5, name=name, version="stand-in", precision=args.precision)
