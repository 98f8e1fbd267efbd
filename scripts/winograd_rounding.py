#!/usr/bin/env python3
"""How far a 3x3 convolution is from its exact value in f32: summed directly, and in tiles by Winograd's F(2x2, 3x3) and F(4x4, 3x3),
the latter with several points.

    python3 scripts/winograd_rounding.py

Prints a row for 16, 32 and 64 channels: the root of the mean squared deviation, in parts of that of the results. Pixels are
noise behind a ReLU, weights normal. Every operation is rounded to f32, a multiply-add once. The matrices of F(2x2) are those of
A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015; so are those of F(4x4) with the points 1 and 2, but
for factors of rows.
"""

import random
import struct

TILES = 40
# The matrices of each side: of the pixels, of the weights, of the results.
TWO = (
    [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    [[1, 1, 1, 0], [0, 1, -1, -1]],
)
# Of F(4x4), beside 0 and infinity, each with both signs.
POINTS = ((1, 2), (1 / 2, 1), (1 / 2, 3 / 2), (5 / 8, 3 / 2), (3 / 4, 3 / 2), (3 / 4, 7 / 4))


def four(a, b):
    """The matrices of F(4x4) with the points 0, a, -a, b, -b and infinity."""
    p, s = a * a * b * b, a * a + b * b
    n, m = 1 / (2 * a * a * (a * a - b * b)), 1 / (2 * b * b * (b * b - a * a))
    pixels = [[p, 0, -s, 0, 1, 0]]
    pixels += [[0, -x * y * y, -y * y, x, 1, 0] for x, y in ((a, b), (-a, b), (b, a), (-b, a))]
    pixels += [[0, p, 0, -s, 0, 1]]
    weights = [[1 / p, 0, 0], *([y, y * x, y * x * x] for x, y in ((a, n), (-a, n), (b, m), (-b, m))), [0, 0, 1]]
    results = [[float(k == 0), *(x**k for x in (a, -a, b, -b)), float(k == 3)] for k in range(4)]
    return pixels, weights, results



def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def exact(value):
    return value


def both_sides(matrix, square, rounded):
    """matrix · square · matrixᵀ."""
    for _ in range(2):
        columns = list(zip(*square))
        square = [[dot(row, column, rounded) for row in matrix] for column in columns]
    return square


def dot(row, column, rounded):
    total = 0.0
    for factor, value in zip(row, column):
        if factor:
            total = rounded(total + factor * value)
    return total


def in_tiles(matrices, pixels, weights, rounded):
    """The results of a tile, from its pixels and weights of each channel."""
    of_pixels, of_weights, of_results = matrices
    side = range(len(of_pixels))
    sums = [[0.0 for _ in side] for _ in side]
    for image, kernel in zip(pixels, weights):
        image = [row[: len(side)] for row in image[: len(side)]]
        image, kernel = both_sides(of_pixels, image, rounded), both_sides(of_weights, kernel, rounded)
        sums = [[rounded(sums[y][x] + image[y][x] * kernel[y][x]) for x in side] for y in side]
    return both_sides(of_results, sums, rounded)


def direct(pixels, weights, side, rounded):
    """`side` x `side` results, each one sum over taps and channels."""
    taps = [(y, x, channel) for y in range(3) for x in range(3) for channel in range(len(pixels))]

    def result(row, column):
        kernel = [weights[channel][y][x] for y, x, channel in taps]
        return dot(kernel, [pixels[channel][row + y][column + x] for y, x, channel in taps], rounded)

    return [[result(row, column) for column in range(side)] for row in range(side)]


def mean_square(values):
    return sum(value * value for value in values) / len(values)


def deviations(channels):
    """Of the direct sum, F(2x2) and F(4x4) with each of the points."""
    tiles = [TWO, *(four(a, b) for a, b in POINTS)]
    squares, size = [0.0] * (1 + len(tiles)), 0.0
    for _ in range(TILES):
        pixels = [[[f32(max(0.0, random.gauss(0, 1))) for _ in range(6)] for _ in range(6)] for _ in range(channels)]
        deviation = (2 / 9 / channels) ** 0.5
        weights = [[[f32(random.gauss(0, deviation)) for _ in range(3)] for _ in range(3)] for _ in range(channels)]
        truth = direct(pixels, weights, 4, exact)
        size += mean_square([value for row in truth for value in row])
        computed = [direct(pixels, weights, 4, f32), *(in_tiles(tile, pixels, weights, f32) for tile in tiles)]
        for index, results in enumerate(computed):
            errors = [value - true for row, true_row in zip(results, truth) for value, true in zip(row, true_row)]
            squares[index] += mean_square(errors)
    return [(square / size) ** 0.5 for square in squares]


def main():
    random.seed(1)
    names = ["direct, one sum", "F(2x2)", *(f"F(4x4) of {a} and {b}" for a, b in POINTS)]
    print("| channels | " + " | ".join(names) + " |\n|" + " --- |" * (1 + len(names)))
    for channels in (16, 32, 64):
        print(f"| {channels} | " + " | ".join(f"{value:.1e}" for value in deviations(channels)) + " |")


main()
