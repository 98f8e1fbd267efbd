//! First values for the first convolution: filters that whiten the patches of images.
//!
//! The patches that a convolution sees are alike: neighbouring pixels have almost the same colour. Filters along the
//! eigenvectors of their covariance, each divided by the root of its eigenvalue, give outputs that are uncorrelated and
//! of variance 1 ("PCA whitening"; as a
//! first layer in Page 2019, "How to Train Your ResNet").

use std::array::from_fn;

use crate::data::{CHANNELS, Normalization, Split};

/// Rows and columns of a patch.
pub const SIDE: usize = 3;
/// Values of a patch.
const LEN: usize = SIDE * SIDE * CHANNELS;
/// Images that the covariance is taken of: some 900,000 patches.
const IMAGES: usize = 1000;
/// Added to an eigenvalue, so that directions that hardly occur are not blown up.
const EPSILON: f64 = 5e-4;

/// Whether [`kernel`] makes the kernel of a convolution of `side` rows and columns with so many `filters`.
pub fn makes(side: usize, filters: usize) -> bool {
    side == SIDE && filters.is_multiple_of(2) && filters / 2 <= LEN
}

type Matrix = [[f64; LEN]; LEN];

/// The kernel `[3, 3, 3, filters]`: filters of the largest eigenvalues, then their negatives, of the patches of the
/// normalised `images`.
///
/// # Panics
/// When `filters` is odd or more than twice the 27 values of a patch, or the images are smaller than a patch.
pub fn kernel(images: &Split, normalization: &Normalization, filters: usize) -> Vec<f32> {
    let half = filters / 2;
    assert!(makes(SIDE, filters), "{filters} filters");
    let (values, vectors) = eigen(covariance(images, normalization));
    let mut order: Vec<usize> = (0..LEN).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let mut kernel = vec![0.0; LEN * filters];
    for (filter, &chosen) in order[..half].iter().enumerate() {
        let scale = 1.0 / (values[chosen].max(0.0) + EPSILON).sqrt();
        for position in 0..LEN {
            let value = (vectors[position][chosen] * scale) as f32;
            kernel[position * filters + filter] = value;
            kernel[position * filters + half + filter] = -value;
        }
    }
    kernel
}

/// The covariance of all patches of the first images.
fn covariance(images: &Split, normalization: &Normalization) -> Matrix {
    let side = images.side();
    assert!(side >= SIDE, "images of {side} pixels' side");
    let scale = normalization.scale();
    let mut sums = [0.0; LEN];
    let mut products = [[0.0; LEN]; LEN];
    let mut count = 0.0;
    for image in images.pixels().take(IMAGES) {
        let value = |row: usize, column: usize, channel: usize| {
            let pixel = f64::from(image[(row * side + column) * CHANNELS + channel]);
            (pixel - f64::from(normalization.mean[channel])) * f64::from(scale[channel])
        };
        for row in 0..=side - SIDE {
            for column in 0..=side - SIDE {
                let patch: [f64; LEN] = from_fn(|k| {
                    let (a, b) = (k / CHANNELS / SIDE, k / CHANNELS % SIDE);
                    value(row + a, column + b, k % CHANNELS)
                });
                for i in 0..LEN {
                    sums[i] += patch[i];
                    for j in 0..=i {
                        products[i][j] += patch[i] * patch[j];
                    }
                }
                count += 1.0;
            }
        }
    }
    from_fn(|i| {
        from_fn(|j| {
            let product = products[i.max(j)][i.min(j)];
            product / count - sums[i] * sums[j] / (count * count)
        })
    })
}

/// Eigenvalues of a symmetric matrix, and its eigenvectors as columns, by cyclic Jacobi rotations (Golub & Van Loan,
/// "Matrix Computations", 8.5). The largest value of each vector is positive.
fn eigen(mut a: Matrix) -> ([f64; LEN], Matrix) {
    /// Each sweep squares how far from diagonal the matrix is; ten are many.
    const SWEEPS: usize = 30;
    let mut v: Matrix = from_fn(|i| from_fn(|j| f64::from(u8::from(i == j))));
    for _ in 0..SWEEPS {
        for p in 0..LEN {
            for q in p + 1..LEN {
                rotate(&mut a, &mut v, p, q);
            }
        }
    }
    for column in 0..LEN {
        let largest = (0..LEN).max_by(|i, j| v[*i][column].abs().total_cmp(&v[*j][column].abs()));
        if largest.is_some_and(|row| v[row][column] < 0.0) {
            v.iter_mut().for_each(|row| row[column] = -row[column]);
        }
    }
    (from_fn(|i| a[i][i]), v)
}

/// Turns the plane of the axes `p` and `q` so that `a[p][q]` becomes 0.
fn rotate(a: &mut Matrix, v: &mut Matrix, p: usize, q: usize) {
    if a[p][q] == 0.0 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    let turn = |x: f64, y: f64| (cosine * x - sine * y, sine * x + cosine * y);
    for row in a.iter_mut().chain(v.iter_mut()) {
        (row[p], row[q]) = turn(row[p], row[q]);
    }
    let rows = a[p].into_iter().zip(a[q]);
    for (k, (x, y)) in rows.enumerate() {
        (a[p][k], a[q][k]) = turn(x, y);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::{DatasetKind, PictureOptions, load};

    #[test]
    fn whitened_patches_of_the_sample_are_uncorrelated_and_of_variance_1() {
        let images = load(
            DatasetKind::Sample,
            Path::new(""),
            PictureOptions::default(),
        )
        .unwrap()
        .train;
        let normalization = Normalization::of(&images);
        let covariance = covariance(&images, &normalization);
        let kernel = kernel(&images, &normalization, 32);
        let filter =
            |number: usize| -> [f64; LEN] { from_fn(|k| f64::from(kernel[k * 32 + number])) };
        // The variance of an output is f' C f, the covariance of two f' C g.
        let form = |f: [f64; LEN], g: [f64; LEN]| -> f64 {
            (0..LEN)
                .map(|i| {
                    (0..LEN)
                        .map(|j| f[i] * covariance[i][j] * g[j])
                        .sum::<f64>()
                })
                .sum()
        };
        for number in 0..16 {
            assert_eq!(filter(number + 16), filter(number).map(|value| -value));
            let variance = form(filter(number), filter(number));
            // Less than 1 by the epsilon's share of the eigenvalue.
            assert!(
                variance < 1.0 + 1e-6 && variance > 0.5,
                "{number}: {variance}"
            );
            for other in 0..number {
                let together = form(filter(number), filter(other));
                assert!(together.abs() < 1e-5, "{number} and {other}: {together}");
            }
        }
        assert!((form(filter(0), filter(0)) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn eigenvectors_solve_their_equation_and_are_orthonormal() {
        // Symmetric, with some equal eigenvalues: a circulant of cosines.
        let a: Matrix = from_fn(|i| {
            from_fn(|j| (1.0 + i.abs_diff(j) as f64).cos() + f64::from(u8::from(i == j)))
        });
        let (values, v) = eigen(a);
        for column in 0..LEN {
            for i in 0..LEN {
                let product: f64 = (0..LEN).map(|j| a[i][j] * v[j][column]).sum();
                assert!((product - values[column] * v[i][column]).abs() < 1e-9);
            }
            for other in 0..LEN {
                let dot: f64 = (0..LEN).map(|i| v[i][column] * v[i][other]).sum();
                assert!((dot - f64::from(u8::from(column == other))).abs() < 1e-9);
            }
        }
    }
}
