//! What is no finite number: the kernels leave no infinity and nothing that is not a number behind.

use super::behind::{Behind, COUNT};
use super::common::sets;
use super::{Bf16, Case, F32, Isa, NormGradient, OutputGradient, Stored, norm, whole_numbers};

/// Both kinds.
const WRONG: [f32; 2] = [f32::NAN, f32::INFINITY];

/// The row, column and channel of the first image's wrong value.
const PIXEL: [usize; 2] = [3, 2];
const CHANNEL: usize = 5;

/// Layers of each kind with weights of 1: directly, in small tiles, and in f32 in large ones.
fn cases() -> [Case; 4] {
    let shapes = [
        ([2, 6, 6], [16, 32], 1),
        ([2, 6, 6], [16, 32], 3),
        ([2, 6, 6], [128, 144], 3),
        ([2, 8, 8], [16, 32], 3),
    ];
    shapes.map(|(images, channels, side)| {
        let mut case = Case::new(images, channels, [side, 1]);
        case.kernel.fill(1.0);
        case
    })
}

impl Case {
    fn wrong_pixel(&self) -> usize {
        PIXEL[0] * self.layer.width + PIXEL[1]
    }

    /// Results that the wrong pixel reaches: those that its kernel covers; but in large tiles all of the first, which takes it
    /// in the last row and column but one, and the first row of the one below, whose first row of pixels it lies in.
    fn reached<F: Stored>(&self, isa: Isa) -> usize {
        match self.is_exact_on::<F>(isa) {
            true => self.layer.side * self.layer.side,
            false => 16 + 4,
        }
    }

    /// Squares of 2x2 results that it reaches: those that rows 2 to 4 and columns 1 to 3 lie in, or rows 0 to 4 and columns 0
    /// to 3.
    fn reached_squares<F: Stored>(&self, isa: Isa) -> usize {
        match self.is_exact_on::<F>(isa) {
            true => 2 * 2,
            false => 3 * 2,
        }
    }
}

/// Pixels of `channels` channels with a value that is not finite.
fn wrong_pixels(y: &[f64], channels: usize) -> usize {
    let is_wrong = |pixel: &&[f64]| pixel.iter().any(|v| !v.is_finite());
    y.chunks(channels).filter(is_wrong).count()
}

fn forwards<F: Stored>() {
    for mut case in cases() {
        let (inputs, outputs) = (case.layer.inputs, case.layer.outputs);
        let pixel = case.wrong_pixel();
        let right = case.x[pixel * inputs + CHANNEL];
        for wrong in WRONG {
            case.layer.pools = false;
            case.x[pixel * inputs + CHANNEL] = wrong;
            for isa in sets() {
                let (y, moments, _) = case.forward_on::<F>(isa);
                let reached = case.reached::<F>(isa);
                assert_eq!(wrong_pixels(&y, outputs), reached, "{isa}");
                let at_pixel = &y[pixel * outputs..][..outputs];
                assert!(at_pixel.iter().all(|v| !v.is_finite()), "{isa}");
                assert!(moments.iter().all(|v| !v.is_finite()), "{isa}: {moments:?}");
            }
            if case.layer.side == 3 {
                case.layer.pools = true;
                for isa in sets() {
                    let (y, ..) = case.forward_on::<F>(isa);
                    let reached = case.reached_squares::<F>(isa);
                    assert_eq!(wrong_pixels(&y, outputs), reached, "{isa}");
                }
            }
        }
        case.layer.pools = false;
        case.x[pixel * inputs + CHANNEL] = right;
        case.norm.mean[CHANNEL] = f32::NAN;
        for isa in sets() {
            let (y, ..) = case.forward_on::<F>(isa);
            assert_eq!(wrong_pixels(&y, 1), y.len(), "{isa}");
        }
    }
}

#[test]
fn what_is_no_finite_number_reaches_the_result() {
    forwards::<F32>();
    forwards::<Bf16>();
}

/// Checks the gradients of `case` from `dy`, of which a value is not finite, and what comes to be of `added`.
fn check_gradients<F: Stored>(case: &Case, isa: Isa, dy: &OutputGradient<F>, added: &[f32]) {
    let Case { layer, .. } = case;
    let mut sum = F::lanes(added);
    let [dz, dgamma, dbeta, kernel] = case.backward_from::<F>(isa, dy, &mut sum);
    let reached = case.reached::<F>(isa);
    assert_eq!(wrong_pixels(&dz, layer.inputs), reached, "{isa}");
    // All weights of the channel of the result.
    let weights = layer.side * layer.side * layer.inputs;
    assert_eq!(wrong_pixels(&kernel, layer.outputs), weights, "{isa}");
    assert_eq!(wrong_pixels(&kernel, 1), weights, "{isa}");
    for c in 0..layer.inputs {
        let finite = dz
            .iter()
            .skip(c)
            .step_by(layer.inputs)
            .all(|v| v.is_finite());
        let sums = [dgamma[c], dbeta[c]].map(f64::is_finite);
        assert_eq!(sums, [finite; 2], "{isa}: the sums of channel {c}");
    }
    let wrong = usize::from(!added.is_empty());
    assert_eq!(wrong_pixels(&F::in_f64(&sum), 1), wrong, "{isa}");
}

/// What becomes of a wrong value of the gradient, of the input of the norm behind the layer, and of the other branch.
fn backwards<F: Stored>() {
    for case in cases() {
        let (layer, behind) = (&case.layer, Behind::new(case.layer.outputs));
        let added = whole_numbers(25, case.dy.len(), 2);
        for (wrong, place) in WRONG.into_iter().flat_map(|w| [0, 1, 2].map(|p| (w, p))) {
            let mut arrays = [case.dy.clone(), case.skip.clone(), added.clone()];
            arrays[place][case.wrong_pixel() * layer.outputs + CHANNEL] = wrong;
            let [dz, x, _] = arrays.each_ref().map(|values| F::lanes(values));
            for isa in sets() {
                if place == 0 {
                    check_gradients::<F>(&case, isa, &OutputGradient::Plain(&dz), &[]);
                }
                if place < 2 {
                    let (norm, dz, x) = (behind.gradient(), &dz[..], &x[..]);
                    let behind = OutputGradient::BehindNorm { norm, dz, x };
                    check_gradients::<F>(&case, isa, &behind, &[]);
                }
                for joined in [false, true] {
                    let mut alone = F::lanes(&arrays[2]);
                    norm::backward::<F>(isa, &behind.gradient(), &dz, &x, joined, &mut alone);
                    let alone = F::in_f64(&alone);
                    assert!(
                        !alone[case.wrong_pixel() * layer.outputs + CHANNEL].is_finite(),
                        "{isa}"
                    );
                    assert_eq!(wrong_pixels(&alone, 1), 1, "{isa}");
                    if layer.side == 1 {
                        let junction = OutputGradient::Junction {
                            norm: behind.gradient(),
                            dz: &dz,
                            x: &x,
                            joined,
                        };
                        check_gradients::<F>(&case, isa, &junction, &arrays[2]);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_no_finite_number_reaches_the_gradients() {
    backwards::<F32>();
    backwards::<Bf16>();
}

/// The gradient of a norm's input, from its sums.
fn alone<F: Stored>(case: &Case, isa: Isa, norm: &NormGradient) -> Vec<f64> {
    let mut dx = F::lanes(&vec![0.0; case.dy.len()]);
    let (dz, x) = (F::lanes(&case.dy), F::lanes(&case.skip));
    norm::backward::<F>(isa, norm, &dz, &x, false, &mut dx);
    F::in_f64(&dx)
}

fn sums<F: Stored>() {
    let case = Case::new([2, 6, 6], [16, 32], [1, 1]);
    let channels = case.layer.outputs;
    let pixels = case.dy.len() / channels;
    for (wrong, which) in WRONG
        .into_iter()
        .flat_map(|w| [0, 1].map(|which| (w, which)))
    {
        let behind = Behind::new(channels);
        let mut sums = [behind.dbeta.clone(), behind.dgamma.clone()];
        sums[which][CHANNEL] = wrong;
        let gradient = NormGradient::new(&behind.norm.norm(), &sums[0], &sums[1], COUNT);
        for isa in sets() {
            let dx = alone::<F>(&case, isa, &gradient);
            let of_channel: Vec<f64> = dx.iter().skip(CHANNEL).step_by(channels).copied().collect();
            assert_eq!(wrong_pixels(&of_channel, 1), pixels, "{isa}");
            assert_eq!(wrong_pixels(&dx, 1), pixels, "{isa}");
        }
    }
    // Without them, none is wrong.
    let right = Behind::new(channels).gradient();
    for isa in sets() {
        assert_eq!(wrong_pixels(&alone::<F>(&case, isa, &right), 1), 0);
    }
}

#[test]
fn a_sum_that_is_no_finite_number_reaches_all_of_its_channel() {
    sums::<F32>();
    sums::<Bf16>();
}
