"""Cuts photographs into JPEGs of the usual size of ImageNet's, for peer_jpegs.py and `bench --input --pictures`.

    venv/bin/python benches/peers/make_jpegs.py --photos china.jpg flower.jpg --out jpegs

scikit-learn's package has two photographs (sklearn/datasets/images): random parts of them, some mirrored, have the
statistics of photographs, and so cost what photographs cost to decode.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageOps

WIDTH, HEIGHT = 500, 375
QUALITY = 90


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    photos = [Image.open(path).convert("RGB") for path in args.photos]
    args.out.mkdir(parents=True, exist_ok=True)
    for number in range(args.count):
        photo = photos[number % len(photos)]
        # At least so large that the part fits, at most a little larger.
        scale = random.uniform(1.0, 1.3) * max(WIDTH / photo.width, HEIGHT / photo.height)
        size = max(WIDTH, round(photo.width * scale)), max(HEIGHT, round(photo.height * scale))
        photo = photo.resize(size, Image.Resampling.BICUBIC)
        left, top = random.integers(0, photo.width - WIDTH + 1), random.integers(0, photo.height - HEIGHT + 1)
        part = photo.crop((left, top, left + WIDTH, top + HEIGHT))
        part = ImageOps.mirror(part) if random.random() < 0.5 else part
        part.save(args.out / f"{number:04}.jpg", quality=QUALITY)


main()
