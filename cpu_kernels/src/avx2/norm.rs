//! Batch normalisation and ReLU, 16 channels at a time, and the sums that both directions need.

use rayon::prelude::*;

use super::gemm::assert_supported;

/// 16 neighbouring channels of a pixel. Images are slices of these: pixel p's begin at p · C / 16.
pub type Lanes = [f32; 16];

/// One layer's normalisation, ready to apply: z = (x − mean) · scale + beta. Each field has C / 16
/// elements.
pub struct Norm {
    pub mean: Vec<Lanes>,
    /// gamma / sqrt(variance + ε).
    pub scale: Vec<Lanes>,
    pub beta: Vec<Lanes>,
    /// 1 / sqrt(variance + ε).
    pub rstd: Vec<Lanes>,
}

impl Norm {
    /// From a batch's mean and variance and the layer's gamma and beta, `[C]` each.
    pub fn new(mean: &[f32], variance: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> Self {
        let rstd: Vec<f32> = variance
            .iter()
            .map(|v| 1.0 / (v + epsilon).sqrt())
            .collect();
        let scale: Vec<f32> = gamma.iter().zip(&rstd).map(|(g, r)| g * r).collect();
        Self {
            mean: lanes(mean).to_vec(),
            scale: lanes(&scale).to_vec(),
            beta: lanes(beta).to_vec(),
            rstd: lanes(&rstd).to_vec(),
        }
    }

    /// relu(z) of the channels `part`.
    #[inline(always)]
    pub fn activate(&self, part: usize, x: &Lanes) -> Lanes {
        let (mean, scale, beta) = (&self.mean[part], &self.scale[part], &self.beta[part]);
        let mut out = [0.0; 16];
        for c in 0..16 {
            let z = (x[c] - mean[c]).mul_add(scale[c], beta[c]);
            // Not `z > 0.0`: what is not a number must stay so until it reaches the loss.
            out[c] = if z < 0.0 { 0.0 } else { z };
        }
        out
    }
}

/// `values` in lanes.
pub fn lanes(values: &[f32]) -> &[Lanes] {
    values.as_chunks().0
}

/// The backward pass through a [`Norm`] once the sums over the batch are known. With M values a channel,
/// x̂ = (x − mean) · rstd:
/// dx = scale · (dz − dbeta/M − x̂ · dgamma/M), which is scale · dz + slope · (x − mean) + offset.
pub struct NormGradient {
    mean: Vec<Lanes>,
    scale: Vec<Lanes>,
    slope: Vec<Lanes>,
    offset: Vec<Lanes>,
}

impl NormGradient {
    /// `dbeta` = Σ dz and `dgamma` = Σ dz · x̂, `[C]` each, over `count` values a channel.
    pub fn new(norm: &Norm, dbeta: &[f32], dgamma: &[f32], count: f32) -> Self {
        let (mut slope, mut offset) = (norm.scale.clone(), norm.scale.clone());
        let (slopes, offsets) = (slope.as_flattened_mut(), offset.as_flattened_mut());
        for (c, rstd) in norm.rstd.as_flattened().iter().enumerate() {
            slopes[c] *= -rstd * dgamma[c] / count;
            offsets[c] *= -dbeta[c] / count;
        }
        Self {
            mean: norm.mean.clone(),
            scale: norm.scale.clone(),
            slope,
            offset,
        }
    }

    /// dx of the channels `part`.
    #[inline(always)]
    pub fn apply(&self, part: usize, dz: &Lanes, x: &Lanes) -> Lanes {
        let (mean, scale) = (&self.mean[part], &self.scale[part]);
        let (slope, offset) = (&self.slope[part], &self.offset[part]);
        let mut out = [0.0; 16];
        for c in 0..16 {
            let centred = (x[c] - mean[c]).mul_add(slope[c], offset[c]);
            out[c] = dz[c].mul_add(scale[c], centred);
        }
        out
    }
}

/// Sums of two quantities for each channel: those of a few hundred pixels in f32, all in f64.
pub struct Sums {
    short: Vec<[Lanes; 2]>,
    long: Vec<[[f64; 16]; 2]>,
}

impl Sums {
    /// For `parts` times 16 channels.
    pub fn new(parts: usize) -> Self {
        Self {
            short: vec![[[0.0; 16]; 2]; parts],
            long: vec![[[0.0; 16]; 2]; parts],
        }
    }

    /// Adds x − pivot and (x − pivot)² of the pixels `x` `[pixels, C]` of a tile or an image, `pivot` `[C]`.
    #[inline(always)]
    pub fn add_moments(&mut self, x: &[Lanes], pivot: &[Lanes]) {
        for x in x.chunks_exact(pivot.len()) {
            for (part, x) in x.iter().enumerate() {
                let [first, second] = &mut self.short[part];
                let pivot = &pivot[part];
                for c in 0..16 {
                    let d = x[c] - pivot[c];
                    first[c] += d;
                    second[c] = d.mul_add(d, second[c]);
                }
            }
        }
        self.flush();
    }

    /// dz of the channels `part` of a pixel: `da` where the activation `a` is above 0. Adds dz and
    /// dz · (x − mean).
    #[inline(always)]
    pub fn add_gradient(
        &mut self,
        part: usize,
        da: &Lanes,
        a: &Lanes,
        x: &Lanes,
        mean: &Lanes,
    ) -> Lanes {
        let [first, second] = &mut self.short[part];
        let mut dz = [0.0; 16];
        for c in 0..16 {
            dz[c] = if a[c] > 0.0 { da[c] } else { 0.0 };
            first[c] += dz[c];
            second[c] = dz[c].mul_add(x[c] - mean[c], second[c]);
        }
        dz
    }

    /// Moves the short sums into the long ones. Call it every few hundred pixels.
    pub fn flush(&mut self) {
        for (short, long) in self.short.iter_mut().zip(&mut self.long) {
            let (short, long) = (short.as_flattened_mut(), long.as_flattened_mut());
            for (short, long) in short.iter_mut().zip(long) {
                *long += f64::from(*short);
                *short = 0.0;
            }
        }
    }

    /// The sums of each channel.
    pub fn finish(mut self) -> [Vec<f64>; 2] {
        self.flush();
        [0, 1].map(|which| self.long.iter().flat_map(|sums| sums[which]).collect())
    }
}

/// Mean and summed squared deviation of each channel over some pixels.
pub struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// From the [`Sums`] about `pivot` of `count` pixels.
    pub fn new(sums: Sums, pivot: &[Lanes], count: usize) -> Self {
        let count = count as f64;
        let [first, second] = sums.finish();
        let squares = first.iter().zip(&second).map(|(a, b)| b - a * a / count);
        let pivots = pivot.as_flattened().iter().map(|p| f64::from(*p));
        Self {
            count,
            squares: squares.collect(),
            mean: first
                .iter()
                .zip(pivots)
                .map(|(a, p)| p + a / count)
                .collect(),
        }
    }

    /// Takes in the pixels of `other` (Chan, Golub & LeVeque 1979).
    fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        for c in 0..self.mean.len() {
            let apart = other.mean[c] - self.mean[c];
            self.mean[c] += apart * other.count / count;
            self.squares[c] += other.squares[c] + apart * apart * self.count * other.count / count;
        }
        self.count = count;
    }

    /// Mean and variance of all pixels of `parts` into `out`, `[2, C]`; parts are taken in order.
    pub fn total(parts: Vec<Self>, out: &mut [f32]) {
        let mut parts = parts.into_iter();
        let Some(mut total) = parts.next() else {
            return;
        };
        for part in parts {
            total.merge(&part);
        }
        let (mean, variance) = out.split_at_mut(total.mean.len());
        for c in 0..mean.len() {
            mean[c] = total.mean[c] as f32;
            variance[c] = (total.squares[c] / total.count).max(0.0) as f32;
        }
    }
}

/// `dx` = the backward pass of `dz` through the normalisation, + `skip`: `[pixels, C]` each.
///
/// With `joined`, `skip` belongs to the gradient of the normalisation's result instead, and is added
/// to `dz`.
pub fn backward(
    norm: &NormGradient,
    dz: &[Lanes],
    x: &[Lanes],
    skip: &[Lanes],
    joined: bool,
    dx: &mut [Lanes],
) {
    /// Pixels of one task.
    const TASK: usize = 4096;
    assert_supported();
    let len = TASK * norm.mean.len();
    let tasks = dx.par_chunks_mut(len).enumerate();
    tasks.for_each(|(task, dx)| {
        let here = task * len..task * len + dx.len();
        let [dz, x, skip] = [dz, x, skip].map(|values| &values[here.clone()]);
        // SAFETY: the processor has the instructions, as asserted above.
        unsafe { backward_task(norm, dz, x, skip, joined, dx) }
    });
}

#[target_feature(enable = "avx2,fma")]
fn backward_task(
    norm: &NormGradient,
    dz: &[Lanes],
    x: &[Lanes],
    skip: &[Lanes],
    joined: bool,
    dx: &mut [Lanes],
) {
    let parts = norm.mean.len();
    for (first, dx) in dx.chunks_exact_mut(parts).enumerate() {
        for (part, dx) in dx.iter_mut().enumerate() {
            let index = first * parts + part;
            let (dz, x, skip) = (&dz[index], &x[index], &skip[index]);
            *dx = if joined {
                norm.apply(part, &sum(dz, skip), x)
            } else {
                sum(&norm.apply(part, dz, x), skip)
            };
        }
    }
}

#[inline(always)]
fn sum(a: &Lanes, b: &Lanes) -> Lanes {
    let mut out = [0.0; 16];
    for c in 0..16 {
        out[c] = a[c] + b[c];
    }
    out
}
