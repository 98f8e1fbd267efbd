//! Batch normalisation and ReLU, 16 channels at a time, and the sums that both directions need.

use super::format::{Format, get, put, registers};
use super::gemm::PANEL;
use super::sets::{self, Set, Task};
use super::tasks;
use crate::isa::Isa;

pub use super::format::Lanes;

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

    /// relu(z) of register `n` of the channels `part`.
    #[inline(always)]
    pub fn activate<S: Set>(&self, set: S, part: usize, n: usize, x: S::Register) -> S::Register {
        self.of_register(set, part, n).activate(set, x)
    }

    /// What register `n` of the channels `part` needs.
    #[inline(always)]
    pub fn of_register<S: Set>(&self, set: S, part: usize, n: usize) -> OfRegister<S> {
        OfRegister {
            mean: get(set, &self.mean[part], n),
            scale: get(set, &self.scale[part], n),
            beta: get(set, &self.beta[part], n),
        }
    }
}

/// A [`Norm`] of the channels of one register, in registers.
#[derive(Clone, Copy)]
pub struct OfRegister<S: Set> {
    mean: S::Register,
    scale: S::Register,
    beta: S::Register,
}

impl<S: Set> OfRegister<S> {
    /// relu(z).
    #[inline(always)]
    pub fn activate(self, set: S, x: S::Register) -> S::Register {
        let apart = set.subtract(x, self.mean);
        set.relu(set.multiply_add(apart, self.scale, self.beta))
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

    /// What register `n` of the channels `part` needs.
    #[inline(always)]
    pub fn of_register<S: Set>(&self, set: S, part: usize, n: usize) -> GradientOfRegister<S> {
        GradientOfRegister {
            mean: get(set, &self.mean[part], n),
            scale: get(set, &self.scale[part], n),
            slope: get(set, &self.slope[part], n),
            offset: get(set, &self.offset[part], n),
        }
    }
}

/// A [`NormGradient`] of the channels of one register, in registers.
#[derive(Clone, Copy)]
pub struct GradientOfRegister<S: Set> {
    mean: S::Register,
    scale: S::Register,
    slope: S::Register,
    offset: S::Register,
}

impl<S: Set> GradientOfRegister<S> {
    /// dx.
    #[inline(always)]
    pub fn apply(self, set: S, dz: S::Register, x: S::Register) -> S::Register {
        let apart = set.subtract(x, self.mean);
        let centred = set.multiply_add(apart, self.slope, self.offset);
        set.multiply_add(dz, self.scale, centred)
    }

    /// [`Self::apply`] with what is `added` by another branch: to dz where they are `joined`, otherwise to dx.
    #[inline(always)]
    pub fn apply_at_junction(
        self,
        set: S,
        [dz, x, added]: [S::Register; 3],
        joined: bool,
    ) -> S::Register {
        if joined {
            self.apply(set, set.add(dz, added), x)
        } else {
            set.add(self.apply(set, dz, x), added)
        }
    }
}

/// Sums of two quantities for each channel: those of a few hundred pixels in f32, all in f64.
pub struct Sums {
    short: Vec<[Lanes; 2]>,
    long: Vec<[[f64; PANEL]; 2]>,
}

impl Sums {
    /// For `parts` times 16 channels.
    pub fn new(parts: usize) -> Self {
        Self {
            short: vec![[[0.0; PANEL]; 2]; parts],
            long: vec![[[0.0; PANEL]; 2]; parts],
        }
    }

    /// Register `n` of the sums of the channels `part`.
    #[inline(always)]
    pub fn at<S: Set>(&self, set: S, part: usize, n: usize) -> Running<S> {
        let [first, second] = &self.short[part];
        Running {
            first: get(set, first, n),
            second: get(set, second, n),
        }
    }

    /// Sets register `n` of the sums of the channels `part`.
    #[inline(always)]
    pub fn put<S: Set>(&mut self, set: S, part: usize, n: usize, sums: Running<S>) {
        let [first, second] = &mut self.short[part];
        put(set, first, n, sums.first);
        put(set, second, n, sums.second);
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

/// A register of [`Sums`]: out of memory while pixels of the same channels follow one another.
#[derive(Clone, Copy)]
pub struct Running<S: Set> {
    first: S::Register,
    second: S::Register,
}

impl<S: Set> Running<S> {
    /// Adds x − pivot and (x − pivot)².
    #[inline(always)]
    pub fn add_moments(&mut self, set: S, x: S::Register, pivot: S::Register) {
        let apart = set.subtract(x, pivot);
        self.first = set.add(self.first, apart);
        self.second = set.multiply_add(apart, apart, self.second);
    }

    /// Stores register `n` of dz of a pixel: `da` where the activation `a` is above 0. Adds dz, as it was rounded, and
    /// dz · (x − mean).
    #[inline(always)]
    pub fn store_gradient<F: Format>(
        &mut self,
        set: S,
        n: usize,
        mean: S::Register,
        [a, x]: [&F::Lanes; 2],
        da: &Lanes,
        dz: &mut F::Lanes,
    ) {
        let da = set.where_positive(F::get(set, a, n), get(set, da, n));
        F::put(set, dz, n, da);
        let dz = F::get(set, dz, n);
        let apart = set.subtract(F::get(set, x, n), mean);
        self.first = set.add(self.first, dz);
        self.second = set.multiply_add(dz, apart, self.second);
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
            let squares = total.squares[c];
            // Rounding may take it below 0. `max` would lose what is not a number.
            let squares = if squares < 0.0 { 0.0 } else { squares };
            variance[c] = (squares / total.count) as f32;
        }
    }
}

/// Adds the backward pass of `dz` through the normalisation to `dx`: `[pixels, C]` each.
///
/// With `joined`, what `dx` has belongs to the gradient of the normalisation's result instead, and goes with `dz`.
///
/// # Panics
/// When there are no kernels for `isa` on this processor.
pub fn backward<F: Format>(
    isa: Isa,
    norm: &NormGradient,
    dz: &[F::Lanes],
    x: &[F::Lanes],
    joined: bool,
    dx: &mut [F::Lanes],
) {
    /// Lanes of one task, of whole pixels: no sum crosses them, so there may be as many tasks as the batch has work for.
    const TASK: usize = 4096;
    let parts = norm.mean.len();
    let len = TASK.next_multiple_of(parts);
    let shares = dx.chunks_mut(len).enumerate().collect();
    tasks::to_and_fro(shares, |(task, dx)| {
        let here = task * len..task * len + dx.len();
        let [dz, x] = [dz, x].map(|values| &values[here.clone()]);
        let task = Backward::<F> {
            norm,
            dz,
            x,
            joined,
            dx,
        };
        sets::run::<F, _>(isa, task)
    });
}

/// [`backward`] of some pixels.
struct Backward<'a, F: Format> {
    norm: &'a NormGradient,
    dz: &'a [F::Lanes],
    x: &'a [F::Lanes],
    joined: bool,
    dx: &'a mut [F::Lanes],
}

impl<F: Format> Task for Backward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let norm = self.norm;
        let parts = norm.mean.len();
        let pixels = self.dx.chunks_exact_mut(parts);
        let all = self.dz.chunks_exact(parts).zip(self.x.chunks_exact(parts));
        for (dx, (dz, x)) in pixels.zip(all) {
            for part in 0..parts {
                for n in 0..registers::<S>() {
                    let (dz, x) = (F::get(set, &dz[part], n), F::get(set, &x[part], n));
                    let values = [dz, x, F::get(set, &dx[part], n)];
                    let norm = norm.of_register(set, part, n);
                    let result = norm.apply_at_junction(set, values, self.joined);
                    F::put(set, &mut dx[part], n, result);
                }
            }
        }
    }
}
