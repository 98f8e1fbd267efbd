"""Makes a folder of pictures out of real photographs: the job of docs/your-images.md that photographs_keras.py does too.

    pip download --no-deps scikit-image==0.26.0
    python benches/peers/make_photographs.py --wheel scikit_image-0.26.0-*.whl --out photographs

scikit-image's package has photographs (its README names their sources and licences). Each is a class here: it is cut into
squares of 48 x 48 pixels, which do not overlap. Three of four are to train on, the fourth is to test with, so that a
network has seen the same brick wall, lawn or cat before, but not these parts of them.
"""

import argparse
import io
import pathlib
import zipfile

from PIL import Image

PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "motorcycle": "motorcycle_left.png",
    "tissue": "ihc.png",
}
SIDE = 48
# Of the shorter side of each photograph.
SQUARES = 10


def squares(photograph):
    """The squares of a photograph, scaled so that ten fit its shorter side."""
    scale = SQUARES * SIDE / min(photograph.size)
    size = [round(length * scale) for length in photograph.size]
    photograph = photograph.resize(size, Image.Resampling.BICUBIC)
    for top in range(0, photograph.height - SIDE + 1, SIDE):
        for left in range(0, photograph.width - SIDE + 1, SIDE):
            yield photograph.crop((left, top, left + SIDE, top + SIDE))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    counts = {"train": 0, "test": 0}
    with zipfile.ZipFile(args.wheel) as wheel:
        for name, file in PHOTOGRAPHS.items():
            photograph = Image.open(io.BytesIO(wheel.read(f"skimage/data/{file}"))).convert("RGB")
            for number, square in enumerate(squares(photograph)):
                part = "test" if number % 4 == 3 else "train"
                folder = args.out / part / name
                folder.mkdir(parents=True, exist_ok=True)
                square.save(folder / f"{number:03}.jpg", quality=95)
                counts[part] += 1
    print(f"{len(PHOTOGRAPHS)} classes, {counts['train']} pictures to train on, {counts['test']} to test with")


main()
